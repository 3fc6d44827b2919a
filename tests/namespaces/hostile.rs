//! Isolation as a property: in random address plans, guests and outsiders that send whatever they like get nothing internal
//! out of the uplink, and nothing into another environment but through external addresses.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use envnet_lab::socket::mac;
use envnet_lab::{
    Configuration, Lab, Mode,
    addresses::{REMOTE, UPSTREAM},
    capture::Capture,
    configuration::Vm,
    guest::{Guest, Settings},
    interrupt, socket,
    tap::Offload,
};

use crate::fixture::detached_with;

/// Frames that each guest sends, and that the outside sends to each environment.
const FRAMES: usize = 400;
/// The kernel believes a wrong neighbour entry 5 s, then asks it in vain for 3 s (`delay_first_probe_time`, `ucast_solicit`).
const HEALED: Duration = Duration::from_secs(20);
const BROADCAST: [u8; 6] = [0xff; 6];
/// The router's inside address, the same in every environment.
const ROUTER_MAC: [u8; 6] = [0x02, 0x65, 0x6e, 0x76, 0x00, 0x01];

/// xorshift: the same numbers for the same seed, every time.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = self.below(from.len() as u64);
        from[usize::try_from(index).unwrap_or(0)]
    }
}

/// A random address plan with two environments of two machines.
struct Topology {
    mode: Mode,
    internal: Ipv4Addr,
    prefix: u8,
    environments: [u32; 2],
    hosts: [u32; 2],
}

impl Topology {
    fn random(random: &mut Random) -> Self {
        let prefix = random.pick(&[22, 24, 25, 28]);
        let size = 1 << (32 - u32::from(prefix));
        // The pool is a /12; subnet 0 has the upstream router.
        let pool = 1 << (prefix - 12);
        let first = 1 + u32::try_from(random.below(u64::from(pool - 1))).unwrap_or(0);
        let second = 1 + first % (pool - 1);
        let host = 2 + u32::try_from(random.below(u64::from(size - 4))).unwrap_or(0);
        Self {
            mode: random.pick(&[Mode::Macvlan, Mode::Bridge]),
            internal: random.pick(&[
                Ipv4Addr::new(10, 0, 0, 0),
                Ipv4Addr::new(192, 168, 64, 0),
                Ipv4Addr::new(10, 77, 4, 0),
            ]),
            prefix,
            environments: [first, second],
            hosts: [host, if host == size - 2 { 2 } else { host + 1 }],
        }
    }

    fn internal(&self, host: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.internal.to_bits() + host)
    }

    fn external(&self, environment: u32, host: u32) -> Ipv4Addr {
        let base = Ipv4Addr::new(172, 16, 0, 0).to_bits();
        Ipv4Addr::from_bits(base + (environment << (32 - u32::from(self.prefix))) + host)
    }

    fn configuration(&self) -> Configuration {
        let [first, second] = self.environments;
        let internal = format!("{}/{}", self.internal, self.prefix);
        Configuration::default()
            .environments(format!("{first},{second}"))
            .mode(self.mode)
            .addresses(internal, self.internal(1), "172.16.0.0/12")
            .machines(self.hosts.map(|host| Vm {
                name: format!("m{host}"),
                address: self.internal(host),
                mac: None,
            }))
    }

    fn guest(&self, lab: &Lab, environment: u32, host: u32) -> Result<Guest> {
        let name = format!("{}-{environment}.{host}", lab.host().name());
        let settings = Settings {
            tap: format!("vm{environment}.{host}"),
            address: self.internal(host),
            prefix: self.prefix,
            router: self.internal(1),
            mac: format!("52:54:00:00:00:{:02x}", host % 200 + 2),
            offload: Offload::Full,
        };
        Guest::create(&name, lab.host(), settings)
    }

    /// Addresses that matter to somebody: mapped, unmapped, inside, outside, and nobody's.
    fn addresses(&self) -> Vec<Ipv4Addr> {
        let mut addresses = vec![
            self.internal,
            self.internal(1),
            UPSTREAM,
            REMOTE,
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::BROADCAST,
            Ipv4Addr::new(224, 0, 0, 251),
        ];
        for host in self.hosts {
            addresses.push(self.internal(host));
            // Very likely nobody's.
            addresses.push(self.internal(host ^ 4));
            for environment in self.environments {
                addresses.extend([self.external(environment, host), self.external(environment, host ^ 4)]);
            }
        }
        addresses
    }
}

/// A frame that somebody might send to see what happens.
fn frame(random: &mut Random, addresses: &[Ipv4Addr], source: [u8; 6], destinations: &[[u8; 6]]) -> Vec<u8> {
    let own = random.below(4) != 0;
    let source = if own {
        source
    } else {
        [2, 0, 0, 0, 0, random.next().to_le_bytes()[0]]
    };
    let mut frame = [random.pick(destinations), source].concat();
    if random.below(16) == 0 {
        frame.extend([0x81, 0, 0, 7]);
    }
    match random.below(8) {
        0..=4 => {
            let (from, to) = (random.pick(addresses), random.pick(addresses));
            frame.extend([8, 0]);
            frame.extend(packet(random, addresses, from, to, 0));
        }
        5 | 6 => {
            frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, random.pick(&[1, 2])]);
            frame.extend(source);
            frame.extend(random.pick(addresses).octets());
            frame.extend([0; 6]);
            frame.extend(random.pick(addresses).octets());
        }
        _ => {
            frame.extend(random.pick(&[[0x86, 0xdd], [0x88, 0xcc], [0x12, 0x34]]));
            frame.extend((0..40).map(|_| random.next().to_le_bytes()[0]));
        }
    }
    frame
}

/// An IPv4 packet; at times an ICMP error with another one inside.
fn packet(random: &mut Random, addresses: &[Ipv4Addr], from: Ipv4Addr, to: Ipv4Addr, depth: u8) -> Vec<u8> {
    let protocol = random.pick(&[1, 6, 17, 47, 132, 99]);
    let payload = if protocol == 1 && depth == 0 {
        let (inner_from, inner_to) = (random.pick(addresses), random.pick(addresses));
        let inner = packet(random, addresses, inner_from, inner_to, 1);
        let mut error = [&[random.pick(&[3, 4, 5, 11, 12]), 1, 0, 0, 0, 0, 0, 0][..], &inner].concat();
        let sum = checksum(&error);
        error[2..4].copy_from_slice(&sum);
        error
    } else {
        (0..24).map(|_| random.next().to_le_bytes()[0]).collect()
    };
    let [high, low] = u16::try_from(20 + payload.len()).unwrap_or(0).to_be_bytes();
    let fragment = random.pick(&[[0, 0], [0x40, 0], [0x20, 0], [0, 9]]);
    let mut header = vec![
        0x45,
        0,
        high,
        low,
        0,
        1,
        fragment[0],
        fragment[1],
        random.pick(&[1, 2, 64]),
        protocol,
        0,
        0,
    ];
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    header.extend(payload);
    header
}

/// RFC 1071.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or(0)).to_be_bytes()
}

#[test]
fn nothing_internal_gets_out_and_nothing_crosses_untranslated() -> Result<()> {
    for seed in [
        0x9e37_79b9_7f4a_7c15,
        0xd1b5_4a32_d192_ed03,
        0x94d0_49bb_1331_11eb,
        0x2545_f491_4f6c_dd1d,
    ] {
        let mut random = Random(seed);
        let topology = Topology::random(&mut random);
        let configuration = topology.configuration();
        detached_with(configuration.clone(), |lab| attack(lab, &topology, &mut random))
            .with_context(|| format!("seed {seed:#x}, configuration:\n{configuration}"))?;
    }
    Ok(())
}

fn attack(lab: &Lab, topology: &Topology, random: &mut Random) -> Result<()> {
    lab.outside().ip("address flush dev eth0")?;
    lab.outside().ip(&format!("address add {UPSTREAM}/12 dev eth0"))?;
    lab.attach()?;
    let [quiet, loud] = topology.environments;
    let victim = topology.guest(lab, quiet, topology.hosts[0])?;
    let guests = topology.hosts.map(|host| topology.guest(lab, loud, host));
    ensure!(victim.ping(UPSTREAM)?.is_some(), "the victim is not up");
    // What the victim receives; its own frames are marked as outgoing.
    let received = Capture::start(victim.namespace(), "eth0")?;

    let addresses = topology.addresses();
    for guest in guests {
        let guest = guest?;
        ensure!(guest.ping(UPSTREAM)?.is_some(), "an attacker is not up");
        let socket = guest.namespace().run(|| socket::frames("eth0"))?;
        let bridge = mac(&lab.host().mac(&format!("br{loud}"))?)?;
        let own = mac(&guest.namespace().mac("eth0")?)?;
        send(
            &socket,
            random,
            &addresses,
            own,
            &[ROUTER_MAC, ROUTER_MAC, BROADCAST, bridge, own],
        )?;
    }
    let socket = lab.outside().run(|| socket::frames("eth0"))?;
    let own = mac(&lab.outside().mac("eth0")?)?;
    for environment in topology.environments {
        let name = format!("{}-ns{environment}", lab.host().name());
        let router_wan = mac(&envnet_lab::namespace::Namespace::open(&name)?.mac(&format!("gw{environment}"))?)?;
        send(&socket, random, &addresses, own, &[router_wan, router_wan, BROADCAST])?;
    }
    interrupt::sleep(Duration::from_millis(500))?;

    lab.capture()
        .check_no_leak(topology.internal, topology.prefix, &lab.host().mac("eth0")?)?;
    let mask = u32::MAX << (32 - u32::from(topology.prefix));
    for frame in received.frames()?.iter().filter(|frame| !frame.outgoing) {
        let bytes = &frame.bytes;
        // Only IPv4 crosses environments, and ARP is the router's own.
        ensure!(
            matches!(bytes.get(12..14), Some([8, 0 | 6])) && bytes[6..12] == ROUTER_MAC,
            "the victim received {bytes:02x?}"
        );
        if bytes[12..14] == [8, 0] {
            let source = u32::from_be_bytes([bytes[26], bytes[27], bytes[28], bytes[29]]);
            let inside = (source ^ topology.internal.to_bits()) & mask == 0;
            let routers = source == topology.internal(1).to_bits();
            ensure!(
                !inside || routers,
                "the victim received a packet from inside: {bytes:02x?}"
            );
        }
    }
    // Somebody on the outside's link can claim the next hop's address, as ARP is; the router finds out and asks anew.
    interrupt::wait_for("the outside again", HEALED, || victim.ping(UPSTREAM)).map(drop)
}

fn send(
    socket: &UdpSocket,
    random: &mut Random,
    addresses: &[Ipv4Addr],
    own: [u8; 6],
    destinations: &[[u8; 6]],
) -> Result<()> {
    for _ in 0..FRAMES {
        let frame = frame(random, addresses, own, destinations);
        socket
            .send(&frame)
            .with_context(|| format!("cannot send {frame:02x?}"))?;
        // Slower than any queue on the way.
        interrupt::sleep(Duration::from_micros(300))?;
    }
    Ok(())
}
