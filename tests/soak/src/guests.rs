//! The guests of the walk: on and off, on envnet's taps and on other people's, and the traffic between them.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};

use crate::{
    model::{Card, Desired, Seat},
    traffic::Way,
    world::World,
};
use envnet_lab::{
    addresses::{ROUTER, UPSTREAM},
    guest::Guest,
    tap::Offload,
};

impl World {
    pub(crate) fn switch_on(&mut self, seat: Seat, card: Card, tap: String) -> Result<()> {
        self.switch_off(seat);
        let role = seat.role_as(card);
        let guest = self.lab.guest_on(tap, seat.environment, role, Offload::Full)?;
        self.guests.insert(seat, guest);
        self.model.guests.insert(seat, card);
        Ok(())
    }

    pub(crate) fn switch_off(&mut self, seat: Seat) {
        self.traffic.forget(seat);
        self.guests.remove(&seat);
        self.model.guests.remove(&seat);
        self.other_ports |= self.model.foreign.remove(&seat);
    }

    /// Plugs the tap that somebody else has made into its environment's bridge.
    pub(crate) fn plug_in(&mut self, seat: Seat) -> Result<()> {
        self.other_ports = true;
        let (tap, environment) = (seat.foreign_tap(), seat.environment);
        self.lab
            .host()
            .ip(&format!("link set {tap} master br{environment} up"))
            .map(drop)
    }

    fn is_plugged_in(&self, seat: Seat) -> Result<bool> {
        let link = self
            .lab
            .host()
            .ip(&format!("-oneline link show dev {}", seat.foreign_tap()))?;
        Ok(link.contains(&format!("master br{} ", seat.environment)))
    }

    /// Lets the guest and its siblings know each other.
    pub(crate) fn introduce(&self, seat: Seat) -> Result<()> {
        announce(self.guests.get(&seat).context("a guest that is not there")?)?;
        self.tell_siblings(seat);
        Ok(())
    }

    /// Makes the siblings of a guest ask for its Ethernet address, as an announcement (RFC 5227, section 2.3) would. They
    /// would otherwise believe what they know for some seconds.
    fn tell_siblings(&self, seat: Seat) {
        let is_sibling = |other: &Seat| other.environment == seat.environment && *other != seat;
        for (_, guest) in self.guests.iter().filter(|(other, _)| is_sibling(other)) {
            // One whose tap is gone has no interface.
            drop(guest.namespace().ip(&format!("neighbour flush to {}", seat.internal())));
        }
    }

    /// Plugs guests in again whose tap was gone or that somebody has taken out, and replaces those whose Ethernet address the
    /// configuration does not want any more. Says which.
    pub(crate) fn mend_guests(&mut self, desired: &Desired) -> Result<BTreeSet<Seat>> {
        let mut mended = BTreeSet::new();
        for (&seat, guest) in &mut self.guests {
            if !desired.has(seat) {
                continue;
            }
            let fits = self
                .model
                .guests
                .get(&seat)
                .is_some_and(|&card| desired.takes(seat, card));
            if !fits {
                guest.set_mac(seat.role().mac);
                self.model.guests.insert(seat, Card::Own);
            } else if guest.cable().is_some_and(|cable| !cable.is_broken()) {
                continue;
            }
            guest.plug(self.lab.host())?;
            mended.insert(seat);
        }
        for seat in self.model.foreign.clone() {
            if desired.has(seat) && !self.is_plugged_in(seat)? {
                self.plug_in(seat)?;
                mended.insert(seat);
            }
        }
        for &seat in &mended {
            self.introduce(seat)?;
        }
        Ok(mended)
    }

    /// Lets traffic flow on every way between the guests that are reachable, and says how long it took to begin.
    pub(crate) fn keep_traffic(&self) -> Result<Duration> {
        self.traffic.keep(self.ways(), |seat| {
            Ok(match seat {
                None => self.lab.outside(),
                Some(seat) => self.guests.get(&seat).context("a guest that is not there")?.namespace(),
            })
        })
    }

    fn ways(&self) -> Vec<Way> {
        let seats = self.model.reachable();
        let mut ways = Vec::new();
        let mut add = |from, target, to, busy| ways.push(Way { from, target, to, busy });
        for (index, &seat) in seats.iter().enumerate() {
            add(None, seat.external(), Some(seat), index == 0);
            add(Some(seat), UPSTREAM, None, index == 1);
        }
        for pair in seats.windows(2) {
            let [first, second] = [pair[0], pair[1]];
            // Across, or within and by the hairpin.
            add(Some(first), second.external(), Some(second), false);
            if first.environment == second.environment {
                add(Some(second), first.internal(), Some(first), true);
            }
        }
        ways
    }
}

/// Lets the guest speak, as machines do that come up: without the fast path, a router that knows its address with another
/// Ethernet address asks for it again only after half a minute.
fn announce(guest: &Guest) -> Result<()> {
    // An answer is not needed.
    guest.ping(ROUTER).map(drop)
}
