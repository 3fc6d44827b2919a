//! New TCP connections per second, one after the other: the server closes each at once, the client waits for that and then
//! ends it by a reset, so that no end has to remember it and no port runs out.

use std::{
    io::{ErrorKind, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use envnet_lab::{interrupt, socket};

use super::Effort;
use crate::{
    processor::{self, Processor},
    rounds::{Cell, Ledger, Name, Sample},
    world::{DC, World},
};

const PORT: u16 = 8;
const PATIENCE: Duration = Duration::from_secs(1);

/// One cell for each world, if another round has to measure it.
pub(crate) fn cells<'w>(worlds: &'w [World<'w>], effort: &Effort, ledger: &Ledger) -> Vec<Cell<'w>> {
    let connections = effort.connections;
    let name = Name {
        measurement: "new connections",
        variant: "TCP, in".to_owned(),
        unit: "1/s",
        less_is_better: false,
    };
    if !ledger.wants(&name) {
        return Vec::new();
    }
    let cell = |world: &'w World<'w>| Cell {
        method: world.method.name().to_owned(),
        names: vec![name.clone()],
        measure: Box::new(move || sample(world, connections)),
    };
    worlds
        .iter()
        .filter(|world| !world.method.is_limit())
        .map(cell)
        .collect()
}

fn sample(world: &World<'_>, connections: u32) -> Result<Sample> {
    let listener = world.guests[0].namespace.run(|| {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("the server")?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    })?;
    let stop = AtomicBool::new(false);
    let (made, time) = thread::scope(|scope| {
        let server = scope.spawn(|| {
            processor::pin(Processor::Reader);
            while !stop.load(Ordering::Relaxed) {
                // Closed at once.
                drop(listener.accept());
            }
        });
        let result = world.testbed.outside.run(|| {
            processor::pin(Processor::Generator);
            connect((DC.external(1), PORT).into(), connections)
        });
        stop.store(true, Ordering::Relaxed);
        server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result
    })?;
    ensure!(made > connections / 2, "only {made} of {connections} connections");
    Ok(Sample {
        values: vec![f64::from(made) / time.as_secs_f64()],
        offered: connections.into(),
        received: made.into(),
        note: None,
    })
}

/// How many were made, and the time that took.
fn connect(server: SocketAddr, connections: u32) -> Result<(u32, Duration)> {
    let reset = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let mut made = 0;
    let start = Instant::now();
    for _ in 0..connections {
        interrupt::check()?;
        if let Ok(mut stream) = TcpStream::connect_timeout(&server, PATIENCE) {
            socket::set_option(&stream, libc::SOL_SOCKET, libc::SO_LINGER, &reset)?;
            stream.set_nonblocking(true)?;
            made += u32::from(is_closed(&mut stream));
        }
    }
    Ok((made, start.elapsed()))
}

/// Waits for the server to close, without sleeping.
fn is_closed(stream: &mut TcpStream) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match stream.read(&mut [0]) {
            Ok(length) => return length == 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
    false
}
