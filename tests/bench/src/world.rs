//! A method at work in a testbed of its own, with guests plugged in and verified.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use envnet_lab::socket::mac;
use envnet_lab::{
    addresses::{ROLES, Role, UPSTREAM},
    interrupt,
    namespace::Namespace,
    ping::ping,
    traffic,
};

use crate::{
    frames::{Addresses, Varied, peer},
    methods::{Method, Standing},
    port::{Guest, INTERFACE},
    reader::Reader,
    testbed::{Testbed, UPLINK},
};

/// How long anything may take to answer for the first time: a bridge's ports, proxy ARP's random delay.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that a TCP connection carries there and back.
const TRANSFER: usize = 300_000;

/// Guests in both environments on veths, and one on a tap in the first. Fields are dropped in this order.
pub(crate) struct World<'m> {
    pub(crate) method: &'m dyn Method,
    pub(crate) reader: Reader,
    /// The first role in both environments.
    pub(crate) guests: [Guest; 2],
    pub(crate) standing: Box<dyn Standing>,
    pub(crate) testbed: Testbed,
}

/// The guests on veths.
pub(crate) const DC: Role = ROLES[0];
/// The guest on a tap.
pub(crate) const MEMBER: Role = ROLES[1];

/// Where a stream of frames goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From outside to the guest on a veth.
    In,
    /// From that guest to the outside.
    Out,
    /// From that guest to its clone in the other environment.
    Across,
    /// From outside to the guest on a tap.
    Tap,
}

impl<'m> World<'m> {
    /// Sets the method up and checks that it does what it says.
    pub(crate) fn new(method: &'m dyn Method, label: &str) -> Result<Self> {
        let testbed = Testbed::new(label)?;
        let mut standing = method.set_up(&testbed)?;
        let plug = |environment| {
            Guest::plug(
                &testbed.host,
                environment,
                DC,
                method.internal(environment, DC),
                method.router(environment),
            )
        };
        let guests = [plug(1)?, plug(2)?];
        let reader = Reader::start(
            &testbed.host,
            &MEMBER.tap(1),
            mac(MEMBER.mac)?,
            method.internal(1, MEMBER),
            method.router(1),
        )?;
        standing.plugged(&testbed)?;
        let world = Self {
            method,
            reader,
            guests,
            standing,
            testbed,
        };
        world.check().context("it does not work, so it is not measured")?;
        Ok(world)
    }

    /// Pings and TCP transfers in all directions, with what arrives compared byte by byte.
    fn check(&self) -> Result<()> {
        let Self { guests, testbed, .. } = self;
        let [first, second] = guests.each_ref().map(|guest| &guest.namespace);
        let outside = &testbed.outside;
        answers(outside, DC.external(1))?;
        answers(outside, DC.external(2))?;
        answers(outside, MEMBER.external(1))?;
        answers(first, UPSTREAM)?;
        answers(first, peer(0))?;
        answers(first, DC.external(2))?;
        for (client, server, target, seen) in [
            (outside, first, DC.external(1), UPSTREAM),
            (first, outside, UPSTREAM, DC.external(1)),
            (first, second, DC.external(2), DC.external(1)),
        ] {
            let source = traffic::tcp(client, server, target, TRANSFER)?;
            ensure!(
                source == seen,
                "{target} sees a connection from {source} instead of {seen}"
            );
        }
        Ok(())
    }

    /// The addresses of a stream in that direction, as they are where it begins.
    pub(crate) fn addresses(&self, direction: Direction) -> Result<Addresses> {
        let outside = &self.testbed.outside;
        let guest = &self.guests[0].namespace;
        let own = self.method.internal(1, DC);
        let (from, interface, source, destination, varied) = match direction {
            Direction::In => (outside, UPLINK, peer(0), DC.external(1), Varied::Source),
            Direction::Tap => (outside, UPLINK, peer(0), MEMBER.external(1), Varied::Source),
            Direction::Out => (guest, INTERFACE, own, peer(0), Varied::Destination),
            Direction::Across => (guest, INTERFACE, own, DC.external(2), Varied::Neither),
        };
        let next = match direction {
            Direction::In | Direction::Tap => destination,
            Direction::Out | Direction::Across => self.method.router(1),
        };
        // A neighbour that was not needed for a minute is forgotten.
        answers(from, next)?;
        Ok(Addresses {
            source_mac: mac(&from.mac(interface)?)?,
            destination_mac: mac(&neighbour(from, next, interface)?)?,
            source,
            destination,
            varied,
        })
    }

    /// The first environment's router.
    pub(crate) fn router(&self) -> Option<Namespace> {
        Namespace::open(&format!("{}-ns1", self.testbed.host.name())).ok()
    }

    /// Where a stream in that direction begins.
    pub(crate) fn origin(&self, direction: Direction) -> (&Namespace, &'static str) {
        match direction {
            Direction::In | Direction::Tap => (&self.testbed.outside, UPLINK),
            Direction::Out | Direction::Across => (&self.guests[0].namespace, INTERFACE),
        }
    }

    /// Source and destination as they must be where the stream ends; the varied one is not told.
    pub(crate) fn arrival(&self, direction: Direction) -> (Option<Ipv4Addr>, Option<Ipv4Addr>) {
        match direction {
            Direction::In => (None, Some(self.method.internal(1, DC))),
            Direction::Tap => (None, Some(self.method.internal(1, MEMBER))),
            Direction::Out => (Some(DC.external(1)), None),
            Direction::Across => (Some(DC.external(1)), Some(self.method.internal(2, DC))),
        }
    }
}

/// Asks until there is an answer; who does not answer for a while only starts up.
pub(crate) fn answers(from: &Namespace, target: Ipv4Addr) -> Result<()> {
    interrupt::wait_for(&format!("an echo from {target} to {}", from.name()), PATIENCE, || {
        Ok(ping(from, target, 56, Duration::from_millis(500))?.map(drop))
    })
}

/// The Ethernet address of a neighbour that has been talked to.
fn neighbour(namespace: &Namespace, address: Ipv4Addr, interface: &str) -> Result<String> {
    let entry = namespace.ip(&format!("neighbour show {address} dev {interface}"))?;
    let mut words = entry.split_ascii_whitespace().skip_while(|word| *word != "lladdr");
    match words.nth(1) {
        Some(mac) => Ok(mac.to_owned()),
        None => bail!("{} does not know its neighbour {address}: {entry}", namespace.name()),
    }
}
