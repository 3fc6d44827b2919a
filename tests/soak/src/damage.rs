//! What somebody does by hand to what envnet has made.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result};
use fastrand::Rng;

use crate::{
    model::{Desired, Seat},
    world::{files, pins},
};
use envnet_lab::{Lab, namespace};

/// Something that somebody does by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    Bridge(u8),
    BridgeDown(u8),
    Tap(Seat),
    /// A port of somebody else's is taken out of its bridge.
    Unplugged(Seat),
    WanPort(u8),
    Veth(u8),
    Router(u8),
    RouterAddress(u8),
    /// One of the pins, by a number that may be larger than there are.
    Pin(usize),
    Pins,
}

impl Damage {
    /// Some damage to what is attached, or a change to one of the guests on ports of somebody else's.
    pub(crate) fn choose(rng: &mut Rng, attached: &Desired, foreign: &BTreeSet<Seat>) -> Option<Self> {
        let environments: Vec<_> = attached.environments.iter().copied().collect();
        let environment = *rng.choice(&environments)?;
        let seats: Vec<_> = attached.seats().collect();
        let foreign: Vec<_> = foreign.iter().copied().filter(|seat| attached.has(*seat)).collect();
        Some(match rng.u8(0..10) {
            0 => Self::Bridge(environment),
            1 => Self::BridgeDown(environment),
            2 => Self::Tap(*rng.choice(&seats)?),
            3 => Self::WanPort(environment),
            4 => Self::Veth(environment),
            5 => Self::Router(environment),
            6 => Self::RouterAddress(environment),
            7 => Self::Pin(rng.usize(0..1000)),
            8 => Self::Unplugged(*rng.choice(&foreign)?),
            _ => Self::Pins,
        })
    }

    /// Does it.
    pub(crate) fn happen(self, lab: &Lab) -> Result<()> {
        let host = lab.host();
        let router = |environment| lab.router(environment);
        match self {
            Self::Bridge(environment) => host.ip(&format!("link delete br{environment}"))?,
            Self::BridgeDown(environment) => host.ip(&format!("link set br{environment} down"))?,
            Self::Tap(seat) => host.ip(&format!("link delete {}", seat.tap()))?,
            Self::Unplugged(seat) => host.ip(&format!("link set {} nomaster", seat.foreign_tap()))?,
            Self::WanPort(environment) => router(environment)?.ip(&format!("link delete gw{environment}"))?,
            Self::Veth(environment) => host.ip(&format!("link delete peer1-br{environment}"))?,
            Self::Router(environment) => {
                namespace::remove(router(environment)?.name());
                String::new()
            }
            Self::RouterAddress(environment) => {
                router(environment)?.ip(&format!("address flush dev peer1-gw{environment}"))?
            }
            Self::Pin(number) => {
                let files = files(&pins(lab))?;
                if let Some(file) = files.get(number % files.len().max(1)) {
                    fs::remove_file(file).with_context(|| file.display().to_string())?;
                }
                String::new()
            }
            Self::Pins => {
                fs::remove_dir_all(pins(lab))?;
                String::new()
            }
        };
        Ok(())
    }
}
