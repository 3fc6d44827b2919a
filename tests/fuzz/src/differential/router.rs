//! A router between two virtual cables, with either kind of NAT, and what comes out of its far ends.

use std::{net::UdpSocket, path::Path, process, thread, time::Duration};

use anyhow::{Context, Result};
use aya::programs::TcAttachType;
use envnet_lab::{
    interrupt,
    namespace::Namespace,
    process::output,
    socket::{self, receive_frame},
};
use envnet_model::{Direction, World};

use super::{
    exchange::{Exchange, belongs_to},
    offload::{self, Offload},
};
use crate::kernel::Kernel;

/// How the router translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nat {
    Iptables,
    Envnet,
}

/// A packet that came out, and on which side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    /// `In` is the guests' side: what came in from outside and reached them.
    pub(super) side: Direction,
    /// What is still to be done to it.
    pub(super) offload: Offload,
    /// From the IPv4 header on, without padding.
    pub(super) packet: Vec<u8>,
}

/// What an exchange led to, in the order it was seen.
pub(super) type Outcome = Vec<Seen>;

/// The interface index of `gw`, by which the programs know whose it is.
const INDEX: u32 = 77;
/// Both of the router's neighbours have it.
pub(super) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// From `linux/if_packet.h`: a frame that this namespace has sent.
const PACKET_OUTGOING: u8 = 4;
/// Segments that a device is to split are one packet of any length.
const LONGEST: usize = 70_000;
const PACE: Duration = Duration::from_micros(50);
/// Longer than anything the router does later by itself, apart from giving up.
const PATIENCE: Duration = Duration::from_millis(300);

/// The namespaces, the sockets at the far ends, and the programs while they are attached.
pub(super) struct Router {
    outside: UdpSocket,
    inside: UdpSocket,
    _namespaces: [Namespace; 3],
    _kernel: Option<Kernel>,
}

impl Router {
    /// Builds it for the guests of `world`.
    pub(super) fn build(nat: Nat, world: &World) -> Result<Self> {
        let make = |role: &str| Namespace::create(&format!("envnet-diff-{nat:?}-{}-{role}", process::id()));
        let (outside, router, inside) = (make("out")?, make("router")?, make("in")?);
        let all = |namespace: &Namespace, commands: &[String]| {
            commands.iter().try_for_each(|command| namespace.ip(command).map(drop))
        };
        for (key, value) in [
            ("ip_forward", "1"),
            ("conf/all/rp_filter", "0"),
            ("conf/default/rp_filter", "0"),
            ("conf/all/send_redirects", "0"),
            ("conf/default/send_redirects", "0"),
            ("conf/all/accept_source_route", "0"),
            ("conf/default/accept_source_route", "0"),
        ] {
            router.set_sysctl(&format!("net/ipv4/{key}"), value)?;
        }
        let router_wan = mac(world.router_wan);
        let peer_mac = mac(PEER_MAC);
        for (namespace, leg, index) in [(&outside, "gw", INDEX), (&inside, "lan", INDEX + 1)] {
            // No IPv6 of their own accord on cables that are watched.
            if Path::new("/proc/sys/net/ipv6").exists() {
                namespace.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
                router.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
            }
            let peer = namespace.name();
            all(
                &router,
                &[
                    format!(
                        "link add {leg} index {index} address {router_wan} type veth \
                         peer name far address {peer_mac} netns {peer}"
                    ),
                    format!("link set {leg} up"),
                ],
            )?;
            all(namespace, &["link set far up".to_owned()])?;
        }
        let length = world.internal.length;
        let mut commands = vec![format!("address add {}/{length} dev lan", world.internal.nth(1))];
        // The first is the router itself.
        for mapping in world.own().skip(1) {
            // What is asked of the router here is translation, not ARP.
            commands.push(format!(
                "neighbour add {} lladdr {peer_mac} dev lan nud permanent",
                mapping.internal
            ));
        }
        if nat == Nat::Iptables {
            commands.push(format!("address add {}/32 dev gw", world.external.nth(1)));
            // As the classic setup has it, so that proxy ARP answers for the guests' external addresses.
            commands.push(format!("route add {}/{length} dev lan", world.external.network));
        }
        commands.push(format!(
            "neighbour add 172.16.0.9 lladdr {peer_mac} dev gw nud permanent"
        ));
        commands.push("route add default via 172.16.0.9 dev gw onlink".to_owned());
        all(&router, &commands)?;

        let kernel = match nat {
            Nat::Iptables => {
                rules(&router, world)?;
                None
            }
            Nat::Envnet => {
                let mut kernel = Kernel::load()?;
                kernel.enter_at(INDEX, Some(world))?;
                router.run(|| {
                    kernel.attach(Direction::In, "gw", TcAttachType::Ingress)?;
                    kernel.attach(Direction::Out, "gw", TcAttachType::Egress)
                })?;
                Some(kernel)
            }
        };
        let open = |namespace: &Namespace| -> Result<UdpSocket> {
            let socket = namespace.run(|| socket::frames("far"))?;
            offload::enable(&socket)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        Ok(Self {
            outside: open(&outside)?,
            inside: open(&inside)?,
            _namespaces: [outside, router, inside],
            _kernel: kernel,
        })
    }

    /// Sends everything, at a pace that loses nothing, and sorts what came out by the exchange it belongs to.
    pub(super) fn exchange_all(&mut self, exchanges: &[Exchange]) -> Result<Vec<Outcome>> {
        let mut outcomes = vec![Outcome::new(); exchanges.len()];
        thread::sleep(PATIENCE);
        for exchange in exchanges {
            for sent in &exchange.frames {
                interrupt::check()?;
                let socket = match sent.direction {
                    Direction::In => &self.outside,
                    Direction::Out => &self.inside,
                };
                let frame = sent.offload.before(&sent.frame);
                socket.send(&frame).context("a frame cannot be sent")?;
                thread::sleep(PACE);
                self.collect(&mut outcomes)?;
            }
        }
        thread::sleep(PATIENCE);
        self.collect(&mut outcomes)?;
        Ok(outcomes)
    }

    fn collect(&self, outcomes: &mut [Outcome]) -> Result<()> {
        let mut buffer = vec![0; LONGEST];
        for (side, socket) in [(Direction::Out, &self.outside), (Direction::In, &self.inside)] {
            loop {
                let (length, from) = match receive_frame(socket, &mut buffer) {
                    Ok(received) => received,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("a frame cannot be received"),
                };
                let Some((offload, frame)) = Offload::take(&buffer[..length]) else {
                    continue;
                };
                if from.sll_pkttype == PACKET_OUTGOING || frame[12..14] != [8, 0] {
                    continue;
                }
                let packet = &frame[14..];
                let total = usize::from(u16::from_be_bytes([packet[2], packet[3]])).min(packet.len());
                let packet = packet[..total].to_vec();
                if let Some(outcome) = belongs_to(&packet).and_then(|at| outcomes.get_mut(at)) {
                    outcome.push(Seen { side, offload, packet });
                }
            }
        }
        Ok(())
    }
}

/// The classic setup's two rules per guest.
fn rules(router: &Namespace, world: &World) -> Result<()> {
    for mapping in world.own().skip(1) {
        let (internal, external) = (mapping.internal, mapping.external);
        for rule in [
            format!("PREROUTING -d {external} -j DNAT --to-destination {internal}"),
            format!("POSTROUTING -s {internal} -j SNAT --to-source {external}"),
        ] {
            let mut iptables = router.command("iptables");
            output(
                iptables
                    .args(["--wait", "--table", "nat", "--append"])
                    .args(rule.split(' ')),
            )?;
        }
    }
    Ok(())
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}
