//! Generator and sink, loaded and attached: a flood of frames and how many of them arrive.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::PerCpuArray,
    programs::{TestRun, TestRunOptions, Xdp, XdpMode, xdp::XdpLinkId},
};
use envnet_lab::{interrupt, namespace::Namespace};
use nix::net::if_::if_nametoindex;

use crate::{
    OBJECT,
    frames::{Addresses, header},
    processor::{self, Processor},
};

/// Frames that the kernel makes at once. A veth queues 256, and NAPI takes 64 at a time.
const BATCH: u32 = 64;

/// A generator behind an interface: what it sends arrives at the other end of that interface's cable.
pub(crate) struct Generator {
    object: Ebpf,
    frame: Vec<u8>,
}

impl Generator {
    /// Loads a generator for frames of `length` bytes in `flows` flows, a power of two.
    pub(crate) fn new(
        namespace: &Namespace,
        interface: &str,
        addresses: &Addresses,
        length: usize,
        flows: u32,
    ) -> Result<Self> {
        let output = index(namespace, interface)?;
        let (words, sums) = header(addresses, length);
        let (flows, varied) = (flows - 1, addresses.varied as u32);
        let mut object = EbpfLoader::new()
            .override_global("OUTPUT", &output, true)
            .override_global("HEADER", &words, true)
            .override_global("FLOWS", &flows, true)
            .override_global("VARIED", &varied, true)
            .override_global("SUMS", &sums, true)
            .load(OBJECT)
            .context("the generator cannot be loaded")?;
        program(&mut object, "generate")?.load()?;
        Ok(Self {
            object,
            frame: vec![0; length],
        })
    }

    /// Sends that many frames from inside the namespace and returns how long that took, with all that they caused on this
    /// processor. It is the kernel's own measure: around it, the system call needs 20 ms to make and free the frames.
    pub(crate) fn send(&self, namespace: &Namespace, frames: u32) -> Result<Duration> {
        interrupt::check()?;
        let program: &Xdp = self.object.program("generate").context("no generator")?.try_into()?;
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            repeat: frames,
            attrs: aya::programs::TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        };
        namespace.run(|| {
            processor::pin(Processor::Generator);
            let each = program
                .test_run(options)
                .context("the kernel sends no live frames; it needs Linux 5.18")?
                .duration;
            Ok(each * frames)
        })
    }
}

/// What a sink has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Frames with the addresses that they should have.
    pub(crate) right: u64,
    /// Frames with others.
    pub(crate) wrong: u64,
}

/// A sink in front of an interface, which goes on to answer ARP; taken away when dropped.
pub(crate) struct Sink {
    object: Ebpf,
    _link: XdpLinkId,
}

impl Sink {
    /// Counts and drops the generator's frames from `source` to `destination`, either of which may be any.
    pub(crate) fn attach(
        namespace: &Namespace,
        interface: &str,
        source: Option<Ipv4Addr>,
        destination: Option<Ipv4Addr>,
    ) -> Result<Self> {
        let expected =
            [source, destination].map(|address| address.map_or(0, |address| u32::from_ne_bytes(address.octets())));
        let mut object = EbpfLoader::new()
            .override_global("EXPECTED", &expected, true)
            .load(OBJECT)
            .context("the sink cannot be loaded")?;
        let link = namespace.run(|| {
            let program = program(&mut object, "sink")?;
            program.load()?;
            program
                .attach(interface, XdpMode::Driver)
                .with_context(|| format!("the sink cannot be attached to {interface}"))
        })?;
        Ok(Self { object, _link: link })
    }

    /// What it has counted so far.
    pub(crate) fn arrived(&self) -> Result<Arrived> {
        let map = self.object.map("ARRIVED").context("no counters")?;
        let counters: PerCpuArray<_, [u64; 2]> = map.try_into()?;
        let values = counters.get(&0, 0)?;
        let sum = |at: usize| values.iter().map(|counts| counts[at]).sum();
        Ok(Arrived {
            right: sum(0),
            wrong: sum(1),
        })
    }

    /// What it has counted since `before`, as soon as no more comes.
    pub(crate) fn since(&self, before: Arrived) -> Result<Arrived> {
        let mut last = self.arrived()?;
        loop {
            interrupt::sleep(Duration::from_millis(1))?;
            let now = self.arrived()?;
            if now == last {
                break;
            }
            last = now;
        }
        ensure!(
            last.wrong == before.wrong,
            "{} frames arrived with wrong addresses",
            last.wrong - before.wrong
        );
        Ok(Arrived {
            right: last.right - before.right,
            wrong: 0,
        })
    }
}

pub(crate) fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = object.program_mut(name).with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

/// The index of an interface of the namespace.
pub(crate) fn index(namespace: &Namespace, interface: &str) -> Result<u32> {
    namespace.run(|| if_nametoindex(interface).with_context(|| format!("no interface {interface}")))
}
