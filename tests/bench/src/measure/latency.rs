//! Request and response: a UDP datagram from outside to a guest that sends it back, one after the other. Both ends wait by
//! asking again and again, each on a processor of its own, so that no time is spent on waking up.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use envnet_lab::interrupt;

use super::Effort;
use crate::{
    processor::{self, Processor},
    rounds::{Cell, Ledger, Name, Sample},
    statistics::{median, quantile},
    world::{DC, World},
};

const MEASUREMENT: &str = "latency";
const PORT: u16 = 7;
const LENGTH: usize = 64;
/// After this a datagram is lost.
const PATIENCE: Duration = Duration::from_millis(50);

/// One cell for each world, as long as one of the two wants it.
pub(crate) fn cells<'w>(worlds: &'w [World<'w>], effort: &Effort, ledger: &Ledger) -> Vec<Cell<'w>> {
    let requests = effort.requests;
    let name = |variant: &str| Name {
        measurement: MEASUREMENT,
        variant: variant.to_owned(),
        unit: "µs",
        less_is_better: true,
    };
    let names = ["median (p50)", "one in a hundred (p99)"].map(name);
    if !names.iter().any(|name| ledger.wants(name)) {
        return Vec::new();
    }
    let cell = |world: &'w World<'w>| Cell {
        method: world.method.name().to_owned(),
        names: names.to_vec(),
        measure: Box::new(move || sample(world, requests)),
    };
    worlds
        .iter()
        .filter(|world| !world.method.is_limit())
        .map(cell)
        .collect()
}

fn sample(world: &World<'_>, requests: usize) -> Result<Sample> {
    let open = || -> Result<UdpSocket> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let server = world.guests[0].namespace.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("the echo server")?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })?;
    let client = world.testbed.outside.run(open)?;
    let stop = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        let echo = scope.spawn(|| {
            processor::pin(Processor::Reader);
            serve(&server, &stop);
        });
        let client = scope.spawn(|| {
            processor::pin(Processor::Generator);
            ask(&client, (DC.external(1), PORT).into(), requests)
        });
        let times = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        stop.store(true, Ordering::Relaxed);
        echo.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        times
    })?;
    ensure!(times.len() > requests / 2, "only {} of {requests} answers", times.len());
    Ok(Sample {
        values: vec![median(&times), quantile(&times, 0.99)],
        offered: requests as u64,
        received: times.len() as u64,
        note: None,
    })
}

fn serve(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; LENGTH];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            // What cannot be sent is lost and counted so.
            let _ = socket.send_to(&buffer[..length], peer);
        }
    }
}

/// The times of all requests that were answered, in microseconds.
fn ask(socket: &UdpSocket, server: SocketAddr, requests: usize) -> Result<Vec<f64>> {
    socket.connect(server)?;
    let mut times = Vec::with_capacity(requests);
    let mut buffer = [0; LENGTH];
    for number in 0..requests {
        interrupt::check()?;
        let request = [number.to_ne_bytes(); LENGTH / size_of::<usize>()];
        let request = request.as_flattened();
        let start = Instant::now();
        socket.send(request)?;
        while start.elapsed() < PATIENCE {
            // An answer to an earlier request is no answer.
            if socket.recv(&mut buffer).is_ok() && buffer == request {
                times.push(start.elapsed().as_secs_f64() * 1e6);
                break;
            }
        }
    }
    Ok(times)
}
