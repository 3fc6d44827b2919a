//! Addresses: mostly those that packets have, often those at a boundary.

use std::net::Ipv4Addr;

use envnet_model::{Direction, Prefix};

use super::Maker;

/// Addresses that are nobody's.
const ODD: [[u8; 4]; 14] = [
    [0, 0, 0, 0],
    [0, 1, 2, 3],
    [127, 0, 0, 1],
    [126, 255, 255, 255],
    [128, 0, 0, 0],
    [223, 255, 255, 255],
    [224, 0, 0, 1],
    [224, 0, 0, 251],
    [239, 255, 255, 250],
    [240, 0, 0, 1],
    [254, 255, 255, 255],
    [255, 255, 255, 254],
    [255, 255, 255, 255],
    [169, 254, 0, 1],
];

impl Maker<'_> {
    /// Source and destination for this direction.
    pub(super) fn addresses(&mut self) -> (Ipv4Addr, Ipv4Addr) {
        match self.direction {
            Direction::In => {
                let source = match self.rng.u8(..10) {
                    0..2 => self.any_address(),
                    2 => self.external(),
                    _ => self.outside(),
                };
                let destination = if self.one_in(10) {
                    self.any_address()
                } else {
                    self.external()
                };
                (source, destination)
            }
            Direction::Out => {
                let source = if self.one_in(10) {
                    self.any_address()
                } else {
                    self.internal()
                };
                let destination = match self.rng.u8(..10) {
                    0..2 => self.external(),
                    2..4 => self.any_address(),
                    _ => self.outside(),
                };
                (source, destination)
            }
        }
    }

    /// A guest's or the router's internal address.
    pub(super) fn internal(&mut self) -> Ipv4Addr {
        let own: Vec<_> = self.world.own().map(|mapping| mapping.internal).collect();
        self.pick(&own)
    }

    /// A guest's or the router's external address.
    pub(super) fn external(&mut self) -> Ipv4Addr {
        let own: Vec<_> = self.world.own().map(|mapping| mapping.external).collect();
        self.pick(&own)
    }

    pub(super) fn outside(&mut self) -> Ipv4Addr {
        Ipv4Addr::new(198, 51, self.rng.u8(..), self.rng.u8(..))
    }

    pub(super) fn any_address(&mut self) -> Ipv4Addr {
        match self.rng.u8(..10) {
            0 => self.internal(),
            1 => self.external(),
            2 => self.inside_of(self.world.internal),
            3 => self.inside_of(self.world.external),
            4 => self.at_boundary_of(self.world.internal),
            5 => self.at_boundary_of(self.world.external),
            6 => {
                let others = self.world.mappings.clone();
                let mapping = self.pick(&others);
                self.pick(&[mapping.internal, mapping.external])
            }
            7 => self.pick(&ODD).into(),
            8 => self.outside(),
            _ => Ipv4Addr::from_bits(self.rng.u32(..)),
        }
    }

    fn inside_of(&mut self, prefix: Prefix) -> Ipv4Addr {
        let at = self.rng.u64(..prefix.size());
        prefix.nth(u32::try_from(at).unwrap_or(0))
    }

    /// The first and last addresses of a prefix, and those beside them.
    fn at_boundary_of(&mut self, prefix: Prefix) -> Ipv4Addr {
        let size = u32::try_from(prefix.size()).unwrap_or(0);
        let at = self.pick(&[0u32.wrapping_sub(1), 0, 1, size - 2, size - 1, size]);
        prefix.nth(at)
    }
}
