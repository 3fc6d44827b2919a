//! Damages a packet that was right: bytes flipped, fields overwritten, ends cut off and added.

use super::{Maker, put};

/// Where in a frame the header fields of IPv4 and of an ICMP error's quote are that say where other fields are.
const STRUCTURE: [usize; 12] = [12, 13, 14, 16, 17, 20, 21, 23, 34, 42, 44, 51];

impl Maker<'_> {
    pub(super) fn damage(&mut self, frame: &mut Vec<u8>) -> &'static str {
        let kind = match self.rng.u8(..6) {
            0 => {
                let length = self.rng.usize(14..=frame.len());
                frame.truncate(length);
                return "cut off";
            }
            1 => {
                let length = self.rng.usize(1..100);
                frame.extend(self.bytes(length));
                return "with something behind";
            }
            2 => "a bit flipped",
            3 => "a length or type changed",
            4 => "a word changed",
            _ => "a byte changed",
        };
        for _ in 0..self.rng.u8(1..3) {
            let near = frame.len().min(if self.rng.bool() { 96 } else { usize::MAX });
            let at = self.rng.usize(..near);
            match kind {
                "a bit flipped" => frame[at] ^= 1 << self.rng.u8(..8),
                "a word changed" => {
                    let word = self.critical_word();
                    put(frame, at & !1, word);
                }
                "a byte changed" => frame[at] = self.rng.u8(..),
                _ => {
                    let at = self.pick(&STRUCTURE);
                    if let Some(byte) = frame.get_mut(at) {
                        *byte = self.rng.u8(..);
                    }
                }
            }
        }
        kind
    }
}
