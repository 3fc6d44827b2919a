//! ARP: questions, answers, announcements, probes, and what only looks like them.

use envnet_model::Direction;

use super::Maker;

impl Maker<'_> {
    pub(super) fn arp(&mut self) -> Vec<u8> {
        let mut body = vec![0, 1, 8, 0, 6, 4, 0, self.pick(&[1, 1, 1, 2, 2])];
        let sender_mac = match (self.direction, self.one_in(10)) {
            (Direction::In, false) | (Direction::Out, true) => self.mac(),
            _ => self.world.router_wan,
        };
        let sender = match (self.direction, self.rng.u8(..8)) {
            (_, 0) => self.any_address(),
            (_, 1) => [0; 4].into(),
            (_, 2) => self.external(),
            (Direction::In, _) => self.outside(),
            (Direction::Out, _) => self.internal(),
        };
        let target = match self.rng.u8(..8) {
            0 => self.any_address(),
            // Sender and target the same: an announcement.
            1 => sender,
            2 => self.outside(),
            3 => self.internal(),
            _ => self.external(),
        };
        let target_mac = match self.rng.u8(..3) {
            0 => [0; 6],
            1 => self.world.router_wan,
            _ => self.mac(),
        };
        body.extend(sender_mac);
        body.extend(sender.octets());
        body.extend(target_mac);
        body.extend(target.octets());
        if self.one_in(8) {
            let at = self.rng.usize(..9);
            body[at] = self.rng.u8(..);
        }
        if self.one_in(20) {
            let short = self.rng.usize(..body.len());
            body.truncate(short);
        }
        let mut frame = self.ethernet([0x08, 0x06], &body);
        if self.rng.bool() {
            frame[..6].fill(0xff);
        }
        frame
    }
}
