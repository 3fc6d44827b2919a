//! One question to every address that might answer: those that must, do so in time, and nobody else does.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use envnet_lab::{interrupt, namespace::Namespace, ping, socket};

/// How long the last of them may take. A tap's bridge port forwards only after the kernel's link watch, up to a second
/// after the cable was plugged in.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);
/// How long those that must not answer are listened to.
const SILENCE: Duration = Duration::from_millis(60);
const AGAIN: Duration = Duration::from_millis(250);
const DATA: usize = 40;

/// Asks every address, again and again until all have answered that must; says how long that took.
pub(crate) fn check_reachability(outside: &Namespace, addresses: &BTreeMap<Ipv4Addr, bool>) -> Result<Duration> {
    let socket = outside.run(|| socket::open(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP))?;
    socket.set_nonblocking(true)?;
    let mut missing: Vec<_> = addresses
        .iter()
        .filter(|(_, must)| **must)
        .map(|(address, _)| *address)
        .collect();
    let mut requests: Vec<(Ipv4Addr, Vec<u8>)> = Vec::new();
    let mut packet = vec![0; 2048];
    let start = Instant::now();
    let (mut next, mut complete) = (start, None);
    loop {
        interrupt::check()?;
        if Instant::now() >= next && complete.is_none() {
            for &address in addresses.keys() {
                let request = ping::request(DATA);
                // Nobody's address is not found by ARP, which is reported with the next request.
                drop(socket.send_to(&request, (address, 0)));
                requests.push((address, request));
            }
            next += AGAIN;
        }
        for (address, request) in answers(&socket, &mut packet, &requests) {
            ensure!(
                addresses.get(&address) == Some(&true),
                "{address} answers, which is not configured or whose guest is off: {request:02x?}"
            );
            missing.retain(|other| *other != address);
        }
        if missing.is_empty() {
            let complete = *complete.get_or_insert_with(Instant::now);
            if complete.elapsed() >= SILENCE {
                return Ok(complete.duration_since(start));
            }
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "no answer from {missing:?} within {} s",
            PATIENCE.as_secs()
        );
        thread::sleep(Duration::from_millis(2));
    }
}

/// The addresses that have answered one of the requests, as far as answers are there.
fn answers(
    socket: &std::net::UdpSocket,
    packet: &mut [u8],
    requests: &[(Ipv4Addr, Vec<u8>)],
) -> Vec<(Ipv4Addr, Vec<u8>)> {
    let mut answers = Vec::new();
    loop {
        let length = match socket.recv_from(packet) {
            Ok((length, _)) => length,
            Err(error) if error.raw_os_error() == Some(libc::EHOSTUNREACH) => continue,
            Err(_) => return answers,
        };
        // A raw socket receives the IPv4 header, too.
        let header = usize::from(packet[0] & 0x0f) * 4;
        let Some(reply) = packet[..length].get(header..).filter(|reply| reply.len() >= 8) else {
            continue;
        };
        let source = [packet[12], packet[13], packet[14], packet[15]].into();
        if requests
            .iter()
            .any(|(address, request)| *address == source && ping::is_answer(reply, request))
        {
            answers.push((source, reply.to_vec()));
        }
    }
}
