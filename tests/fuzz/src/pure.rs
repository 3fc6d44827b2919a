//! The translation without the kernel: the stages of `envnet-common` on a slice of bytes, in the order in which the
//! programs of `envnet-ebpf` run them.

use envnet_common::{
    Address, DropReason, Mac, Verdict, admit,
    apply::{Write, apply},
    arp::{self, Action, Arp},
    forward::{self, Eligible},
    lookup::{Lookup, Mappings},
    maps::{Environment, Mapping, MappingKey},
    parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet, Ipv4},
    translate::{self, translate},
};
use envnet_model::{Direction, World};

struct Table<'a>(&'a World);

impl Mappings for Table<'_> {
    fn find(&self, key: MappingKey) -> Option<Mapping> {
        let mut mappings = self.0.mappings.iter();
        let found = mappings.find(|mapping| {
            mapping.environment == key.environment && Address::from(mapping.internal) == key.internal
        })?;
        let external = found.external.into();
        Some(Mapping { external })
    }
}

/// The map entry for a world.
#[must_use]
pub fn environment(world: &World) -> Environment {
    Environment {
        number: world.environment,
        internal: world.internal.network.into(),
        external: world.external.network.into(),
        mask: world.internal.mask().into(),
        mac: Mac(world.router_wan),
        reserved: [0; 2],
    }
}

/// Runs one program's stages on a frame, in place.
pub fn run(world: &World, direction: Direction, frame: &mut [u8]) -> Result<Verdict, DropReason> {
    let (environment, mappings) = (environment(world), Table(world));
    let lookup = Lookup {
        environment: &environment,
        mappings: &mappings,
    };
    let ethernet = Ethernet::parse(frame)?;
    if direction == Direction::In {
        admit::frame_in(&ethernet, false, &environment)?;
    }
    match (ethernet.ethertype, direction) {
        (ETHERTYPE_IPV4, Direction::In) => ipv4_in(&lookup, &ethernet, frame),
        (ETHERTYPE_IPV4, Direction::Out) => ipv4_out(&lookup, &ethernet, frame),
        (ETHERTYPE_ARP, Direction::In) => act(
            frame,
            arp::inbound(&Arp::parse(frame)?, &lookup)?,
            Verdict::RedirectSelf,
        ),
        (ETHERTYPE_ARP, Direction::Out) => act(
            frame,
            arp::outbound(&Arp::parse(frame)?, &lookup)?,
            Verdict::RedirectSelfIngress,
        ),
        _ => Err(DropReason::NotIpv4),
    }
}

fn ipv4_in(lookup: &Lookup<'_, Table<'_>>, ethernet: &Ethernet, frame: &mut [u8]) -> Result<Verdict, DropReason> {
    let ip = Ipv4::parse(frame)?;
    admit::destination(ethernet, &ip)?;
    let internal = lookup
        .internal(ip.tail.destination)
        .ok_or(DropReason::DestinationUnmapped)?;
    admit::source_in(ethernet, &ip, lookup.environment)?;
    let rewrite = translate(frame, &ip, translate::Direction::Inbound, internal, |_| None)?;
    apply(frame, &rewrite)?;
    Ok(Verdict::Pass)
}

fn ipv4_out(lookup: &Lookup<'_, Table<'_>>, ethernet: &Ethernet, frame: &mut [u8]) -> Result<Verdict, DropReason> {
    let ip = Ipv4::parse(frame)?;
    let external = lookup
        .external(ip.tail.source)
        .ok_or_else(|| admit::source_out_refusal(&ip, lookup.environment))?;
    admit::destination(ethernet, &ip)?;
    let rewrite = translate(frame, &ip, translate::Direction::Outbound, external, |internal| {
        lookup.external(internal)
    })?;
    apply(frame, &rewrite)?;
    if lookup.internal(ip.tail.destination).is_none() {
        return Ok(Verdict::Pass);
    }
    frame.write(0, lookup.environment.mac).ok_or(DropReason::HelperFailed)?;
    Ok(Verdict::RedirectSelfIngress)
}

fn act(frame: &mut [u8], action: Action, turned_round: Verdict) -> Result<Verdict, DropReason> {
    match action {
        Action::Pass => Ok(Verdict::Pass),
        Action::Rewrite(arp) => arp::write(frame, &arp).map(|()| Verdict::Pass),
        Action::Answer(answer) => arp::write_answer(frame, &answer).map(|()| turned_round),
    }
}

/// Compares with the model; says what differs.
#[must_use]
pub fn check(world: &World, direction: Direction, frame: &[u8]) -> Option<String> {
    let expected = envnet_model::judge(Some(world), direction, frame);
    let mut out = frame.to_vec();
    let got = run(world, direction, &mut out).unwrap_or_else(Verdict::Drop);
    let fits = match (&expected, got) {
        (envnet_model::Verdict::Pass(frame), Verdict::Pass)
        | (envnet_model::Verdict::Redirect(frame), Verdict::RedirectSelf | Verdict::RedirectSelfIngress) => {
            frame.is(&out)
        }
        (envnet_model::Verdict::Drop(defects), Verdict::Drop(reason)) => {
            defects.iter().any(|defect| defect.reason.label() == reason.label())
        }
        _ => false,
    };
    if !fits {
        return Some(format!("model: {expected:x?}\n  pure: {got:?} {out:x?}"));
    }
    match expected {
        envnet_model::Verdict::Pass(out) | envnet_model::Verdict::Redirect(out) if frame[12..14] == [8, 0] => {
            check_forward(frame, &out)
        }
        _ => None,
    }
}

/// The fast path's own stage on a packet of which the slow path makes `translated`.
fn check_forward(frame: &[u8], translated: &envnet_model::Frame) -> Option<String> {
    const HOPS: u8 = 1;
    let macs = [[2, 0, 0, 0, 7, 1], [2, 0, 0, 0, 7, 2]];
    let address = |at: usize| Address(std::array::from_fn(|byte| translated.bytes[at + byte]));
    let expected =
        envnet_model::is_ordinary(frame, HOPS).then(|| envnet_model::forwarded(translated, HOPS, macs[0], macs[1]));
    let [source, destination] = [26, 30].map(|at| Some(address(at)));
    let forward = Eligible::parse(frame, HOPS).and_then(|packet| packet.forward(source, destination, HOPS));
    let got = forward.map(|forward| {
        let mut out = frame.to_vec();
        forward::write(&mut out[..], &forward, Mac(macs[0]), Mac(macs[1])).map(|()| out)
    });
    let fits = match (&expected, &got) {
        (None, None) => true,
        (Some(expected), Some(Ok(out))) => expected.is(out),
        _ => false,
    };
    (!fits).then(|| format!("model, forwarded: {expected:x?}\n  pure: {got:x?}"))
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::{generate, worlds::HOSTS};

    /// Also the frames that the kernel runs no program on: cut off within their headers.
    #[test]
    fn agrees_with_the_model() {
        let mut rng = Rng::with_seed(7);
        for _ in 0..50_000 {
            let world = HOSTS[rng.usize(..HOSTS.len())].world();
            let mut case = generate::case(&mut rng, world);
            if rng.u8(..10) == 0 {
                case.frame.truncate(rng.usize(..44));
            }
            if let Some(difference) = check(world, case.direction, &case.frame) {
                panic!("{}: {difference}\n  {}", case.kind, crate::corpus::line(world, &case));
            }
        }
    }
}
