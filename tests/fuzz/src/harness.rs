//! The one harness around `BPF_PROG_TEST_RUN`, for the rows and for the fuzzer: the kernel runs a program on one frame and
//! gives back what the frame became.
//!
//! The frame seems to be on the loopback interface ([`LOOPBACK`]) of the thread's network namespace. No redirect is carried
//! out. Frames are bytes in network order from the Ethernet header on; counts are packets and bytes in host order.
//!
//! ```no_run
//! use envnet_fuzz::harness::{Action, load, run};
//!
//! let object = load(envnet::EBPF_OBJECT, ["router_ingress"], &["DROPS"], 64, false)?;
//! let (mut frame, mut out) = ([0; 60], [0; 316]);
//! frame[12..14].copy_from_slice(&0x0806_u16.to_be_bytes());
//! let (action, length) = run(&object, "router_ingress", &frame, &mut out)?;
//! assert_eq!((action, length), (Action::Drop, 60));
//! # anyhow::Ok(())
//! ```

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf,
    maps::PerCpuValues,
    programs::{Program, TestRun, TestRunOptions},
};
use envnet_common::maps::Counters;

/// Index of the loopback interface in every network namespace.
pub const LOOPBACK: u32 = 1;

/// Return codes, from `linux/pkt_cls.h`.
const TC_ACT_OK: u32 = 0;
const TC_ACT_SHOT: u32 = 2;
const TC_ACT_REDIRECT: u32 = 7;
const TC_ACT_UNSPEC: u32 = u32::MAX;
/// The same, from `linux/bpf.h`.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

/// What a program did with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let it go on.
    Pass,
    /// Turned it round, or sent it elsewhere.
    Redirect,
    /// Left it to the next program, or to the kernel.
    Next,
    /// Dropped it.
    Drop,
    /// A code that the programs do not know.
    Unknown(u32),
}

/// Loads these programs of an ELF object, with room for few entries in these maps: the kernel walks through every bucket to list
/// them. Without limits, a port may send as much as it likes.
pub fn load(
    object: &[u8],
    programs: impl IntoIterator<Item = &'static str>,
    maps: &[&str],
    most_entries: u32,
    limited: bool,
) -> Result<Ebpf> {
    const LIMITED: [u32; 2] = [0, 1];
    let mut sized = envnet::kernel::sk_buff::loader()?;
    sized.override_global("LIMITED", &LIMITED[usize::from(limited)], true);
    for &map in maps {
        sized.map_max_entries(map, most_entries);
    }
    let mut object = sized
        .load(object)
        .context("the programs cannot be loaded: this needs root and a kernel with BPF")?;
    for name in programs {
        match object.program_mut(name).context("no such program")? {
            Program::SchedClassifier(program) => program.load()?,
            Program::Xdp(program) => program.load()?,
            _ => bail!("{name} is neither a TC nor an XDP program"),
        }
    }
    Ok(object)
}

/// Runs a program on a frame; the frame that it leaves has the returned length in `out`.
pub fn run(object: &Ebpf, program: &str, frame: &[u8], out: &mut [u8]) -> Result<(Action, usize)> {
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(out),
        ..TestRunOptions::default()
    };
    let (is_xdp, result) = match object.program(program).context("no such program")? {
        Program::SchedClassifier(program) => (false, program.test_run(options)),
        Program::Xdp(program) => (true, program.test_run(options)),
        _ => bail!("{program} is neither a TC nor an XDP program"),
    };
    let result = result.with_context(|| format!("the kernel does not run {program} on {frame:02x?}"))?;
    let action = match (is_xdp, result.return_value) {
        (false, TC_ACT_OK) => Action::Pass,
        (false, TC_ACT_SHOT) | (true, XDP_DROP) => Action::Drop,
        (false, TC_ACT_REDIRECT) | (true, XDP_REDIRECT) => Action::Redirect,
        (false, TC_ACT_UNSPEC) | (true, XDP_PASS) => Action::Next,
        (_, code) => Action::Unknown(code),
    };
    Ok((action, result.data_size_out as usize))
}

/// Packets and bytes in, then packets and bytes out, on all CPUs together.
#[must_use]
pub fn sum(values: &PerCpuValues<Counters>) -> [u64; 4] {
    let each = |value: &Counters| [value.packets_in, value.bytes_in, value.packets_out, value.bytes_out];
    values
        .iter()
        .map(each)
        .fold([0; 4], |sum, value| std::array::from_fn(|at| sum[at] + value[at]))
}
