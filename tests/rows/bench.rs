//! Runs rows: each is one frame through one program with `BPF_PROG_TEST_RUN`, on maps of its own.
//!
//! The kernel runs the program as if the frame were on the loopback interface, and carries out no redirect, so nothing
//! leaves and no interface is needed.

use std::net::Ipv4Addr;

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, Map, MapData, PerCpuHashMap, PerCpuValues},
    programs::{SchedClassifier, TestRun, TestRunOptions},
};
use envnet_common::{
    Address, DropReason, Mac,
    maps::{Counters, DropKey, Environment, Mapping, MappingKey},
};

use crate::names::{ENVIRONMENT, EXTERNAL, GATEWAY, INTERNAL, MAPPED, MASK, OTHER_ENVIRONMENT, OTHER_MAPPED};

/// Index of the loopback interface in every network namespace.
const LOOPBACK: u32 = 1;

/// Return codes, from `linux/pkt_cls.h`.
const TC_ACT_OK: u32 = 0;
const TC_ACT_SHOT: u32 = 2;
const TC_ACT_REDIRECT: u32 = 7;

/// Which program a row is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Ingress,
    Egress,
}

/// What must become of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Goes on, as this frame.
    Pass(Vec<u8>),
    /// Redirected, as this frame: out of the interface, or in again, which the kernel tells by the same code.
    Redirect(Vec<u8>),
    /// Dropped and counted, under this internal address when a mapping is concerned.
    Drop(DropReason, Option<Ipv4Addr>),
}

/// One frame and what must become of it.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) description: String,
    pub(crate) program: Program,
    pub(crate) frame: Vec<u8>,
    pub(crate) outcome: Outcome,
}

/// Runs all rows, and fails with every one that went wrong.
#[track_caller]
pub(crate) fn run(rows: &[Row]) {
    println!("{} rows", rows.len());
    let mut bench = Bench::load();
    let failures: Vec<String> = rows.iter().filter_map(|row| bench.check(row).err()).collect();
    assert!(
        failures.is_empty(),
        "{} of {} rows failed:\n\n{}",
        failures.len(),
        rows.len(),
        failures.join("\n\n")
    );
}

/// The programs, loaded, with two environments in their maps.
pub(crate) struct Bench {
    object: Ebpf,
}

impl Bench {
    pub(crate) fn load() -> Self {
        let mut object = EbpfLoader::new()
            .load(envnet::EBPF_OBJECT)
            .expect("cannot load the programs: these tests need root and a kernel with BPF");
        for program in [Program::Ingress, Program::Egress] {
            let program: &mut SchedClassifier = object.program_mut(program.name()).unwrap().try_into().unwrap();
            program.load().unwrap();
        }
        let mut bench = Self { object };
        let environment = Environment {
            number: ENVIRONMENT,
            internal: INTERNAL.into(),
            external: EXTERNAL.into(),
            mask: MASK.into(),
            mac: Mac(GATEWAY),
            reserved: [0; 2],
        };
        bench
            .environments()
            .insert(LOOPBACK, bytemuck::cast::<_, [u8; 24]>(environment), 0)
            .unwrap();
        let own = MAPPED.map(|addresses| (ENVIRONMENT, addresses));
        for (environment, (internal, external)) in own.into_iter().chain([(OTHER_ENVIRONMENT, OTHER_MAPPED)]) {
            let key: [u8; 8] = bytemuck::cast(MappingKey {
                environment,
                internal: internal.into(),
            });
            let mapping: [u8; 4] = bytemuck::cast(Mapping {
                external: external.into(),
            });
            let mut mappings: HashMap<_, [u8; 8], [u8; 4]> = bench.map("MAPPINGS").try_into().unwrap();
            mappings.insert(key, mapping, 0).unwrap();
            let cpus = aya::util::nr_cpus().unwrap();
            let zeroes =
                PerCpuValues::try_from(vec![bytemuck::cast::<_, [u64; 5]>(Counters::default()); cpus]).unwrap();
            let mut counters: PerCpuHashMap<_, [u8; 8], [u64; 5]> = bench.map("COUNTERS").try_into().unwrap();
            counters.insert(key, zeroes, 0).unwrap();
        }
        bench
    }

    /// Takes the environment away, as while it is being detached.
    pub(crate) fn forget_environment(&mut self) {
        self.environments().remove(&LOOPBACK).unwrap();
    }

    /// Runs a row; the error says what differs.
    pub(crate) fn check(&mut self, row: &Row) -> Result<(), String> {
        let before = self.counted(row.program);
        let (code, out) = self.execute(row.program, &row.frame);
        let after = self.counted(row.program);
        let outcome = match (code, self.take_drops().as_slice()) {
            (TC_ACT_OK, []) => Outcome::Pass(out),
            (TC_ACT_REDIRECT, []) => Outcome::Redirect(out),
            (TC_ACT_SHOT, [(key, 1)]) if key.environment == ENVIRONMENT => {
                let internal = (key.internal != Address::UNSPECIFIED).then(|| key.internal.into());
                Outcome::Drop(DropReason::from_number(key.reason).unwrap(), internal)
            }
            odd => {
                return Err(format!(
                    "{}\n  unexpected code and drop counters: {odd:x?}",
                    row.description
                ));
            }
        };
        if outcome != row.outcome {
            let (input, expected, got) = (hex(&row.frame), show(&row.outcome), show(&outcome));
            return Err(format!(
                "{}\n  in:       {input}\n  expected: {expected}\n  got:      {got}",
                row.description
            ));
        }
        let translated = row.frame[12..14] == [8, 0] && !matches!(outcome, Outcome::Drop(..));
        let (packets, bytes) = if translated {
            (1, row.frame.len() as u64)
        } else {
            (0, 0)
        };
        if after != (before.0 + packets, before.1 + bytes) {
            return Err(format!(
                "{}\n  miscounted: {before:?} became {after:?}",
                row.description
            ));
        }
        Ok(())
    }

    /// The program's return code, and the frame as it left it.
    pub(crate) fn execute(&self, program: Program, frame: &[u8]) -> (u32, Vec<u8>) {
        let mut out = vec![0; frame.len() + 256];
        let program: &SchedClassifier = self.object.program(program.name()).unwrap().try_into().unwrap();
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        };
        let result = program.test_run(options).unwrap();
        out.truncate(result.data_size_out as usize);
        (result.return_value, out)
    }

    /// Reads the drop counters and empties them.
    pub(crate) fn take_drops(&mut self) -> Vec<(DropKey, u64)> {
        let mut drops: PerCpuHashMap<_, [u8; 12], u64> = self.map("DROPS").try_into().unwrap();
        let keys: Vec<_> = drops.keys().map(Result::unwrap).collect();
        let take = |key| {
            let packets = drops.get(&key, 0).unwrap().iter().sum();
            drops.remove(&key).unwrap();
            (bytemuck::cast(key), packets)
        };
        keys.into_iter().map(take).collect()
    }

    /// Packets and bytes that the program has translated.
    fn counted(&mut self, program: Program) -> (u64, u64) {
        let counters: PerCpuHashMap<_, [u8; 8], [u64; 5]> = self.map("COUNTERS").try_into().unwrap();
        let values = counters.iter().flat_map(|entry| entry.unwrap().1.to_vec());
        values
            .map(bytemuck::cast::<_, Counters>)
            .fold((0, 0), |(packets, bytes), counters| match program {
                Program::Ingress => (packets + counters.packets_in, bytes + counters.bytes_in),
                Program::Egress => (packets + counters.packets_out, bytes + counters.bytes_out),
            })
    }

    fn environments(&mut self) -> HashMap<&mut MapData, u32, [u8; 24]> {
        self.map("ENVIRONMENTS").try_into().unwrap()
    }

    fn map(&mut self, name: &str) -> &mut Map {
        self.object.map_mut(name).unwrap()
    }
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Ingress => "router_ingress",
            Self::Egress => "router_egress",
        }
    }
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Pass(frame) => format!("pass {}", hex(frame)),
        Outcome::Redirect(frame) => format!("redirect {}", hex(frame)),
        Outcome::Drop(reason, internal) => format!("drop {} {internal:?}", reason.label()),
    }
}

/// Two digits a byte, with spaces where headers commonly end.
fn hex(frame: &[u8]) -> String {
    let digits = |(at, byte)| format!("{}{byte:02x}", if [14, 34, 42, 62].contains(&at) { " " } else { "" });
    frame.iter().enumerate().map(digits).collect()
}
