//! Makes packets that are mostly right, and wrong in one place at a time: noise alone never gets past the first check.

mod address;
mod arp;
#[cfg(feature = "kernel")]
pub mod conversation;
mod damage;
mod icmp;
mod packet;
mod transport;

use envnet_model::{Direction, World};
use fastrand::Rng;

use crate::{Case, can_be_run};

/// Where a packet is seen, and what it is made with.
struct Maker<'a> {
    rng: &'a mut Rng,
    world: &'a World,
    direction: Direction,
}

/// One packet.
pub fn case(rng: &mut Rng, world: &World) -> Case {
    let direction = if rng.bool() { Direction::In } else { Direction::Out };
    let mut maker = Maker { rng, world, direction };
    let (mut kind, mut frame) = maker.frame();
    if maker.one_in(6) {
        kind = maker.damage(&mut frame);
    }
    while !can_be_run(&frame) {
        frame.push(0);
    }
    Case { kind, direction, frame }
}

impl Maker<'_> {
    fn frame(&mut self) -> (&'static str, Vec<u8>) {
        match self.rng.u8(..100) {
            0..12 => ("arp", self.arp()),
            12..14 => ("other ethertype", self.other_ethertype()),
            14..15 => ("noise", self.noise()),
            _ => {
                let (kind, packet) = self.ipv4();
                (kind, self.ethernet([0x08, 0x00], &packet))
            }
        }
    }

    /// An Ethernet header for this direction; sometimes for the wrong machine, or for a group.
    fn ethernet(&mut self, ethertype: [u8; 2], body: &[u8]) -> Vec<u8> {
        let (router_wan, stranger) = (self.world.router_wan, self.mac());
        let usual = match self.direction {
            Direction::In => router_wan,
            Direction::Out => stranger,
        };
        let destination = match self.rng.u8(..40) {
            0 => [0xff; 6],
            1 => [1, 0, 0x5e, 0, 0, 0xfb],
            2 => self.mac(),
            _ => usual,
        };
        // A hairpin comes in as the router has sent it.
        let from_outside = self.direction == Direction::In && !self.one_in(5);
        let source = if from_outside { stranger } else { router_wan };
        let mut frame = [&destination[..], &source, &ethertype, body].concat();
        if self.one_in(8) {
            // Ethernet pads to 60 bytes, and whatever is there stays.
            let padding = self.rng.usize(..40);
            frame.extend(self.bytes(padding));
        }
        frame
    }

    /// Some machine's address.
    fn mac(&mut self) -> [u8; 6] {
        let last = self.rng.u8(..);
        let mut mac = [2, 0, 0, 0, 1, last];
        if self.one_in(30) {
            // One bit away from the router's.
            mac = self.world.router_wan;
            mac[self.rng.usize(..6)] ^= 1 << self.rng.u8(1..8);
        }
        mac
    }

    fn other_ethertype(&mut self) -> Vec<u8> {
        let (_, packet) = self.ipv4();
        match self.rng.u8(..6) {
            kind @ 0..3 => {
                let tag = [0, self.rng.u8(..), 8, 0];
                let ethertype = [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]][usize::from(kind)];
                self.ethernet(ethertype, &[&tag[..], &packet].concat())
            }
            3 => self.ethernet([0x86, 0xdd], &packet),
            4 => self.ethernet([0, 0x26], &packet),
            _ => {
                let ethertype = [self.rng.u8(..), self.rng.u8(..)];
                self.ethernet(ethertype, &packet)
            }
        }
    }

    fn noise(&mut self) -> Vec<u8> {
        let length = self.rng.usize(..200);
        let body = self.bytes(length);
        let ethertype = if self.rng.bool() { [8, 0] } else { [8, 6] };
        self.ethernet(ethertype, &body)
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.rng.u32(..many) == 0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.rng.fill(&mut bytes);
        bytes
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(..of.len())]
    }

    /// A word that makes checksums go through zero: both zeros, and the difference that a translation makes.
    fn critical_word(&mut self) -> u16 {
        let sum = |address: std::net::Ipv4Addr| envnet_model::sum(&address.octets());
        let own: Vec<_> = self.world.own().copied().collect();
        let mapping = self.pick(&own);
        let difference = (sum(mapping.external) + 0xffff - sum(mapping.internal)) % 0xffff;
        let difference = u16::try_from(difference).unwrap_or(0);
        let random = self.rng.u16(..);
        self.pick(&[
            0,
            0xffff,
            difference,
            !difference,
            difference.wrapping_add(1),
            difference.wrapping_sub(1),
            1,
            0xfffe,
            random,
        ])
    }
}

/// Writes a word in network order.
fn put(bytes: &mut [u8], at: usize, word: u16) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.copy_from_slice(&word.to_be_bytes());
    }
}
