//! Random packets through the programs, the pure translation and iptables, each compared with the model.
//!
//! [`generate`] makes packets, `kernel` runs the programs on them with `BPF_PROG_TEST_RUN`, `campaign` compares what comes
//! out with what is [`due`](envnet_model::due()) to them by the model, [`shrink`] makes a disagreement small, and [`corpus`] keeps it as a line of text.
//! [`pure`] is the same translation without the kernel.

#[cfg(feature = "kernel")]
pub mod campaign;
pub mod corpus;
#[cfg(feature = "kernel")]
pub mod differential;
pub mod generate;
#[cfg(feature = "kernel")]
pub mod harness;
#[cfg(feature = "kernel")]
pub mod host;
#[cfg(feature = "kernel")]
pub mod kernel;
pub mod pure;
pub mod report;
pub mod shrink;
pub mod worlds;

use envnet_model::{Direction, World};

/// Whether the kernel runs a program on this frame at all: the network layer's header must be there, or at least a byte.
#[must_use]
pub fn can_be_run(frame: &[u8]) -> bool {
    let header = match frame.get(12..14) {
        Some([0x08, 0x00]) => 20,
        Some([0x86, 0xdd]) => 40,
        _ => 1,
    };
    frame.len() >= 14 + header
}

/// A frame, and where it is seen.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the generator meant it to be.
    pub kind: &'static str,
    /// Which programs see it.
    pub direction: Direction,
    /// From the Ethernet header on.
    pub frame: Vec<u8>,
}

/// A case on which a program and the model do not agree.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// In which world.
    pub world: &'static World,
    /// The case.
    pub case: Case,
    /// What the model says and what the program did.
    pub difference: String,
}
