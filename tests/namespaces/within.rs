//! What the host's firewall does with frames on bridges (`br_netfilter`) does not concern guests: what is for one machine is
//! taken from port to port before the bridge sees it.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    sync::atomic::Ordering,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Lab,
    addresses::{REMOTE, ROLES, ROUTER, UPSTREAM},
    guest::Guest,
    interrupt,
    namespace::Namespace,
    parallel::in_parallel,
    process, socket,
};

use crate::{
    fixture::{attached_fast, attached_slowly},
    traffic,
};

const LENGTH: usize = 1 << 20;
const SOURCE_PORT: u16 = 4000;
const PORT: u16 = 4001;
const DATAGRAMS: usize = 200;
const PATIENCE: Duration = Duration::from_secs(2);

fn iptables(lab: &Lab, arguments: &str) -> Result<String> {
    let mut iptables = lab.host().command("iptables");
    process::output(iptables.arg("--wait").args(arguments.split_ascii_whitespace()))
}

/// Makes the host's firewall see bridged frames, and do with them what firewalls do.
fn with_firewall(lab: &Lab, test: impl FnOnce(&Everybody) -> Result<()>) -> Result<()> {
    let everybody = Everybody::start(lab)?;
    lab.host().set_sysctl("net/bridge/bridge-nf-call-iptables", "1")?;
    iptables(lab, "--policy FORWARD DROP")?;
    iptables(
        lab,
        "--table nat --append POSTROUTING --source 10.0.0.0/24 --jump MASQUERADE",
    )?;
    test(&everybody)
}

/// Packets that came to the host's firewall on their way through a bridge, and flows that were given another source.
fn seen_by_firewall(lab: &Lab) -> Result<(u64, u64)> {
    let counted = |text: &str| -> Result<u64> {
        let line = text.lines().next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace().skip_while(|word| *word != "DROP");
        words
            .nth(1)
            .and_then(|count| count.parse().ok())
            .with_context(|| format!("no policy in {line}"))
    };
    let dropped = counted(&iptables(lab, "--list FORWARD --verbose --exact --numeric")?)?;
    let nat = iptables(lab, "--table nat --list POSTROUTING --verbose --exact --numeric")?;
    let rule = nat
        .lines()
        .find(|line| line.contains("MASQUERADE"))
        .context("the rule is gone")?;
    let masqueraded = rule.split_ascii_whitespace().next().unwrap_or_default().parse()?;
    Ok((dropped, masqueraded))
}

/// Two guests in each of two environments.
struct Everybody {
    first: [Guest; 2],
    second: [Guest; 2],
}

impl Everybody {
    fn start(lab: &Lab) -> Result<Self> {
        let pair = |environment| -> Result<[Guest; 2]> {
            let [dc, member] = ROLES;
            Ok([lab.guest(environment, dc)?, lab.guest(environment, member)?])
        };
        let everybody = Self {
            first: pair(1)?,
            second: pair(2)?,
        };
        for guest in everybody.first.iter().chain(&everybody.second) {
            ensure!(guest.ping(REMOTE)?.is_some(), "a guest is not up");
        }
        Ok(everybody)
    }
}

fn talk(from: &Guest, to: &Namespace, target: Ipv4Addr, seen: Ipv4Addr) -> Result<()> {
    ensure!(from.ping(target)?.is_some(), "no answer from {target}");
    let peer = traffic::tcp(from.namespace(), to, target, LENGTH)?;
    ensure!(peer == IpAddr::from(seen), "over TCP, {target} saw {peer}");
    for length in [10, 1400] {
        let peer = traffic::udp(from.namespace(), to, target, length)?.context("no answer over UDP")?;
        ensure!(peer == IpAddr::from(seen), "over UDP, {target} saw {peer}");
    }
    Ok(())
}

/// Everything that guests do, with the firewall in place.
fn everything_works(lab: &Lab, everybody: &Everybody) -> Result<()> {
    let [dc_role, _] = ROLES;
    let [dc, member] = &everybody.first;
    let [other_dc, _] = &everybody.second;
    talk(dc, member.namespace(), member.address(), dc.address()).context("from dc to member")?;
    talk(member, dc.namespace(), dc.address(), member.address()).context("from member to dc")?;
    ensure!(dc.ping(ROUTER)?.is_some(), "the router does not answer");
    talk(dc, lab.outside(), UPSTREAM, dc_role.external(1)).context("to the outside")?;
    talk(dc, lab.outside(), REMOTE, dc_role.external(1)).context("to the far outside")?;
    talk(dc, other_dc.namespace(), dc_role.external(2), dc_role.external(1)).context("to another environment")?;
    ensure!(lab.ping(dc_role.external(1))?.is_some(), "no answer to the outside");
    let peer = traffic::tcp(lab.outside(), dc.namespace(), dc_role.external(1), LENGTH)?;
    ensure!(peer == IpAddr::from(UPSTREAM), "the guest saw {peer}");
    Ok(())
}

/// A connected TCP socket whose own port is fixed.
fn connect(client: &Namespace, own: Ipv4Addr, target: Ipv4Addr) -> Result<TcpStream> {
    client.run(|| {
        let stream = socket::open(libc::AF_INET, libc::SOCK_STREAM, 0)?;
        socket::set_option(&stream, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1_i32)?;
        let timeout = libc::timeval { tv_sec: 2, tv_usec: 0 };
        socket::set_option(&stream, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &timeout)?;
        let address = libc::sockaddr_in {
            sin_family: libc::sa_family_t::try_from(libc::AF_INET)?,
            sin_port: SOURCE_PORT.to_be(),
            sin_addr: libc::in_addr {
                s_addr: u32::from(own).to_be(),
            },
            sin_zero: [0; 8],
        };
        socket::bind(&stream, &address)?;
        stream.connect((target, PORT)).context("TCP connection")?;
        Ok(TcpStream::from(OwnedFd::from(stream)))
    })
}

/// Datagrams and a TCP connection between ports that are the same in every environment: to and fro, all at once.
fn same_ports(client: &Guest, server: &Guest) -> Result<()> {
    let open = |address, port| -> Result<UdpSocket> {
        let socket = UdpSocket::bind((address, port))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    let asking = client.namespace().run(|| open(client.address(), SOURCE_PORT))?;
    let answering = server.namespace().run(|| open(server.address(), PORT))?;
    let target = SocketAddr::from((server.address(), PORT));
    let source = SocketAddr::from((client.address(), SOURCE_PORT));
    let mut buffer = [0; 64];
    for number in 0..DATAGRAMS {
        let data = number.to_be_bytes();
        asking.send_to(&data, target)?;
        let (length, from) = answering
            .recv_from(&mut buffer)
            .with_context(|| format!("datagram {number}"))?;
        ensure!(
            from == source && buffer[..length] == data,
            "datagram {number} is another one, from {from}"
        );
        answering.send_to(&data, from)?;
        let (length, from) = asking
            .recv_from(&mut buffer)
            .with_context(|| format!("answer {number}"))?;
        ensure!(
            from == target && buffer[..length] == data,
            "answer {number} is another one, from {from}"
        );
    }

    let listener = server
        .namespace()
        .run(|| Ok(TcpListener::bind((server.address(), PORT))?))?;
    let mut stream = connect(client.namespace(), client.address(), server.address())?;
    let (mut accepted, from) = listener.accept()?;
    ensure!(from == source, "over TCP, the server saw {from}");
    stream.set_read_timeout(Some(PATIENCE))?;
    accepted.set_read_timeout(Some(PATIENCE))?;
    let data = vec![0x5a; LENGTH];
    thread::scope(|scope| -> Result<()> {
        let sender = scope.spawn(|| stream.write_all(&data));
        let mut received = vec![0; LENGTH];
        accepted.read_exact(&mut received).context("over TCP")?;
        sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(received == data, "over TCP, something else came");
        Ok(())
    })
}

#[test]
fn the_hosts_firewall_sees_no_unicast_of_guests() -> Result<()> {
    attached_fast(|lab| {
        with_firewall(lab, |everybody| {
            everything_works(lab, everybody)?;
            let seen = seen_by_firewall(lab)?;
            ensure!(
                seen == (0, 0),
                "the firewall has dropped {} packets and masqueraded {} flows",
                seen.0,
                seen.1
            );
            Ok(())
        })
    })
}

#[test]
fn identical_connections_in_two_environments_do_not_meet() -> Result<()> {
    attached_fast(|lab| {
        with_firewall(lab, |everybody| {
            in_parallel([&everybody.first, &everybody.second], |[dc, member]| {
                same_ports(dc, member)
            })
            .map(drop)
        })
    })
}

#[test]
fn a_sibling_that_was_silent_is_reached_past_the_firewall() -> Result<()> {
    attached_fast(|lab| {
        with_firewall(lab, |everybody| {
            let [dc, member] = &everybody.first;
            // Its own IPv6 would say something now and then.
            member.namespace().set_sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
            // A broadcast of a protocol for experiments (IEEE 802, section 9.2.3).
            let mut broadcast = [0; 60];
            broadcast[..6].fill(0xff);
            broadcast[6..12].copy_from_slice(&socket::mac(ROLES[1].mac)?);
            broadcast[12..14].copy_from_slice(&[0x88, 0xb5]);
            let sender = member.namespace().run(|| socket::frames("eth0"))?;
            let traffic = member.cable().context("the sibling is unplugged")?.traffic();
            for (silence, speaks) in [(2500, false), (4500, false), (500, true)] {
                interrupt::sleep(Duration::from_millis(silence))?;
                if speaks {
                    let before = traffic.from_guest.load(Ordering::Relaxed);
                    sender.send(&broadcast)?;
                    interrupt::wait_for("the broadcast", PATIENCE, || {
                        Ok((traffic.from_guest.load(Ordering::Relaxed) > before).then_some(()))
                    })?;
                }
                ensure!(dc.ping(member.address())?.is_some(), "not reached after {silence} ms");
            }
            let seen = seen_by_firewall(lab)?;
            ensure!(seen.0 == 0, "the firewall has dropped {} packets", seen.0);
            Ok(())
        })
    })
}

/// The control: without the fast path, the bridge hands guests' packets to the firewall, which drops them.
#[test]
fn without_the_fast_path_the_hosts_firewall_cuts_guests_off() -> Result<()> {
    attached_slowly(|lab| {
        with_firewall(lab, |everybody| {
            let [dc, member] = &everybody.first;
            let short = |target| envnet_lab::ping::ping(dc.namespace(), target, 56, Duration::from_millis(500));
            ensure!(short(member.address())?.is_none(), "the sibling is reached");
            ensure!(short(REMOTE)?.is_none(), "the outside is reached");
            ensure!(seen_by_firewall(lab)?.0 >= 2, "the firewall has seen nothing");
            // What two environments do alike is one connection to the host.
            iptables(lab, "--policy FORWARD ACCEPT")?;
            let met = in_parallel([&everybody.first, &everybody.second], |[dc, member]| {
                same_ports(dc, member)
            });
            ensure!(met.is_err(), "the firewall has kept the environments apart");
            Ok(())
        })
    })
}
