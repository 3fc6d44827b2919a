//! Runs rows in the harness of `envnet-fuzz`, on maps of their own.

use std::{collections::BTreeMap, net::Ipv4Addr};

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData, PerCpuHashMap, PerCpuValues},
    programs::{SchedClassifier, TcAttachType, tc},
};
use envnet_common::{
    Address, DropReason,
    maps::{Counters, DropKey, Environment, Mapping, MappingKey},
};
use envnet_fuzz::harness::{self, Action, LOOPBACK};

use crate::{
    fast, host,
    names::{ENVIRONMENT, MAPPED, OTHER_ENVIRONMENT, OTHER_MAPPED},
};

/// Which program a frame is for. Rows are for the first two; what the others must do follows from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Ingress,
    Egress,
    UplinkIngress,
    UplinkXdp,
    WanPort,
    UplinkEgress,
    GuestIngress,
    RouterPort,
}

/// What must become of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Goes on, as this frame.
    Pass(Vec<u8>),
    /// Redirected, as this frame: out of an interface, or in again, which the kernel tells by the same code.
    Redirect(Vec<u8>),
    /// Left to whoever is next, as this frame.
    Next(Vec<u8>),
    /// Dropped and counted, under this internal address when a mapping is concerned.
    Drop(DropReason, Option<Ipv4Addr>),
}

/// Packets and bytes in, and packets and bytes out, by environment and internal address.
pub(crate) type Counted = BTreeMap<(u32, Ipv4Addr), [u64; 4]>;

/// One frame and what must become of it.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) description: String,
    pub(crate) program: Program,
    pub(crate) frame: Vec<u8>,
    pub(crate) outcome: Outcome,
}

/// Runs all rows on both paths, and fails with every one that went wrong.
#[track_caller]
pub(crate) fn run(rows: &[Row]) {
    let mut harness = Harness::load();
    harness.learn(None);
    let (mut runs, mut taken) = (0, 0);
    let mut failures = Vec::new();
    for row in rows {
        failures.extend(harness.check(row).err());
        for run in fast::runs(&mut harness, row) {
            runs += 1;
            taken += usize::from(!run.counted.is_empty());
            failures.extend(harness.check_fast(&run).err());
        }
    }
    println!("{} rows; {runs} runs on the fast path, which took {taken}", rows.len());
    assert_none(&failures);
}

/// Fails with all failures.
#[track_caller]
pub(crate) fn assert_none(failures: &[String]) {
    assert!(
        failures.is_empty(),
        "{} failed:\n\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n\n")
    );
}

/// The programs, loaded, with two environments in their maps.
pub(crate) struct Harness {
    object: Ebpf,
    /// The environment that the interface belongs to.
    environment: u32,
}

impl Harness {
    pub(crate) fn load() -> Self {
        Self::load_object(envnet::EBPF_OBJECT)
    }

    /// Like [`Self::load`], with another object of the same programs.
    pub(crate) fn load_object(object: &[u8]) -> Self {
        host::enter();
        let maps = [
            "COUNTERS",
            "DROPS",
            "ENDPOINTS",
            "MAPPINGS",
            "NEXT_HOPS",
            "PORTS",
            "FDB",
        ];
        let object = harness::load(object, Program::ALL.map(Program::name), &maps, 64).unwrap();
        let mut harness = Self {
            object,
            environment: ENVIRONMENT,
        };
        harness.stand_at(&host::environment(ENVIRONMENT));
        let own = MAPPED.map(|addresses| (ENVIRONMENT, addresses));
        for (environment, (internal, external)) in own.into_iter().chain([(OTHER_ENVIRONMENT, OTHER_MAPPED)]) {
            let key = MappingKey {
                environment,
                internal: internal.into(),
            };
            let external = external.into();
            harness
                .hash_map("MAPPINGS")
                .insert(key, Mapping { external }, 0)
                .unwrap();
            let cpus = aya::util::nr_cpus().unwrap();
            let zeroes = PerCpuValues::try_from(vec![Counters::default(); cpus]).unwrap();
            harness.counters().insert(key, zeroes, 0).unwrap();
        }
        harness
    }

    /// Makes the loopback interface the `gwE` of this environment.
    pub(crate) fn stand_at(&mut self, environment: &Environment) {
        self.environment = environment.number;
        self.hash_map("ENVIRONMENTS").insert(LOOPBACK, *environment, 0).unwrap();
    }

    /// Takes the environment away, as while it is being detached.
    pub(crate) fn forget_environment(&mut self) {
        self.hash_map::<u32, Environment>("ENVIRONMENTS")
            .remove(&LOOPBACK)
            .unwrap();
    }

    /// Runs a row; the error says what differs.
    pub(crate) fn check(&mut self, row: &Row) -> Result<(), String> {
        let mut counted = Counted::new();
        if row.frame[12..14] == [8, 0]
            && let Outcome::Pass(out) | Outcome::Redirect(out) = &row.outcome
        {
            let bytes = row.frame.len() as u64;
            match row.program {
                Program::Ingress => counted.insert((ENVIRONMENT, address(out, 30)), [1, bytes, 0, 0]),
                _ => counted.insert((ENVIRONMENT, address(&row.frame, 26)), [0, 0, 1, bytes]),
            };
        }
        self.expect(&row.description, row.program, &row.frame, &row.outcome, &counted)
    }

    /// Runs a frame through a program of the fast path, with everything learned that can be.
    pub(crate) fn check_fast(&mut self, run: &fast::Run) -> Result<(), String> {
        let description = format!("{}, {:?}", run.description, run.program);
        self.set_port(&host::port(run.port));
        let expect =
            |harness: &mut Self| harness.expect(&description, run.program, &run.frame, &run.outcome, &run.counted);
        expect(self).or_else(|_| {
            // Another row may have taught something, or much time has gone by.
            self.learn(run.port);
            expect(self)
        })
    }

    /// Runs a frame through a program; the error says what differs.
    pub(crate) fn expect(
        &mut self,
        description: &str,
        program: Program,
        frame: &[u8],
        outcome: &Outcome,
        counted: &Counted,
    ) -> Result<(), String> {
        let before = self.counted();
        let got = self
            .observe(program, frame)
            .map_err(|odd| format!("{description}\n  {odd}"))?;
        let mut after = self.counted();
        for (key, values) in &mut after {
            for (value, before) in values.iter_mut().zip(before[key]) {
                *value -= before;
            }
        }
        after.retain(|_, values| *values != [0; 4]);
        if got != *outcome {
            let (input, expected, got) = (hex(frame), show(outcome), show(&got));
            return Err(format!(
                "{description}\n  in:       {input}\n  expected: {expected}\n  got:      {got}"
            ));
        }
        if after != *counted {
            return Err(format!("{description}\n  counted {after:?} and not {counted:?}"));
        }
        Ok(())
    }

    /// Like [`Self::expect`], and fails at once.
    #[track_caller]
    pub(crate) fn must(&mut self, description: &str, program: Program, frame: &[u8], outcome: &Outcome) {
        self.must_count(description, program, frame, outcome, &[]);
    }

    /// Like [`Self::must`], and these are counted, as in [`Counted`].
    #[track_caller]
    pub(crate) fn must_count(
        &mut self,
        description: &str,
        program: Program,
        frame: &[u8],
        outcome: &Outcome,
        counted: &[((u32, Ipv4Addr), [u64; 4])],
    ) {
        let counted = counted.iter().copied().collect();
        if let Err(failure) = self.expect(description, program, frame, outcome, &counted) {
            panic!("{failure}");
        }
    }

    /// What a program makes of a frame, drop counters included; the error is something that no program may do.
    pub(crate) fn observe(&mut self, program: Program, frame: &[u8]) -> Result<Outcome, String> {
        let (action, out) = self.execute(program, frame);
        match (action, self.take_drops().as_slice()) {
            (Action::Pass, []) => Ok(Outcome::Pass(out)),
            (Action::Redirect, []) => Ok(Outcome::Redirect(out)),
            (Action::Next, []) => Ok(Outcome::Next(out)),
            (Action::Drop, [(key, 1)]) if key.environment == self.environment => {
                let internal = (key.internal != Address::UNSPECIFIED).then(|| key.internal.into());
                Ok(Outcome::Drop(DropReason::from_number(key.reason).unwrap(), internal))
            }
            odd => Err(format!("unexpected action and drop counters: {odd:x?}")),
        }
    }

    /// The program's action, and the frame as it left it.
    pub(crate) fn execute(&self, program: Program, frame: &[u8]) -> (Action, Vec<u8>) {
        let mut out = vec![0; frame.len() + 256];
        let (action, length) = harness::run(&self.object, program.name(), frame, &mut out).unwrap();
        out.truncate(length);
        (action, out)
    }

    /// Runs a program on what passes an interface of the thread's network namespace, as long as the harness lives.
    pub(crate) fn attach(&mut self, program: Program, interface: &str, direction: TcAttachType) {
        let loaded = self.object.program_mut(program.name()).unwrap();
        let loaded: &mut SchedClassifier = loaded.try_into().unwrap();
        // For kernels before 6.6; the others need nothing that programs hang on.
        let _ = tc::qdisc_add_clsact(interface);
        loaded.attach(interface, direction).unwrap();
    }

    /// Reads the drop counters and empties them.
    pub(crate) fn take_drops(&mut self) -> Vec<(DropKey, u64)> {
        let mut drops: PerCpuHashMap<_, DropKey, u64> = self.map("DROPS").try_into().unwrap();
        let keys: Vec<_> = drops.keys().map(Result::unwrap).collect();
        let take = |key| {
            let packets = drops.get(&key, 0).unwrap().iter().sum();
            drops.remove(&key).unwrap();
            (key, packets)
        };
        keys.into_iter().map(take).collect()
    }

    /// What the programs have translated so far.
    fn counted(&mut self) -> Counted {
        let counters = self.counters();
        let sum = |entry: Result<(MappingKey, PerCpuValues<Counters>), _>| {
            let (key, values) = entry.unwrap();
            ((key.environment, key.internal.into()), harness::sum(&values))
        };
        counters.iter().map(sum).collect()
    }

    fn counters(&mut self) -> PerCpuHashMap<&mut MapData, MappingKey, Counters> {
        self.map("COUNTERS").try_into().unwrap()
    }

    pub(crate) fn hash_map<K: aya::Pod, V: aya::Pod>(&mut self, name: &str) -> HashMap<&mut MapData, K, V> {
        self.map(name).try_into().unwrap()
    }

    pub(crate) fn map(&mut self, name: &str) -> &mut Map {
        self.object.map_mut(name).unwrap()
    }
}

impl Program {
    const ALL: [Self; 8] = [
        Self::Ingress,
        Self::Egress,
        Self::UplinkIngress,
        Self::UplinkXdp,
        Self::WanPort,
        Self::UplinkEgress,
        Self::GuestIngress,
        Self::RouterPort,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Ingress => "router_ingress",
            Self::Egress => "router_egress",
            Self::UplinkIngress => "uplink_ingress",
            Self::UplinkXdp => "uplink_xdp",
            Self::WanPort => "wan_port_egress",
            Self::UplinkEgress => "uplink_egress",
            Self::GuestIngress => "guest_ingress",
            Self::RouterPort => "router_port_ingress",
        }
    }
}

/// The IPv4 address at this offset of a frame.
pub(crate) fn address(frame: &[u8], at: usize) -> Ipv4Addr {
    let bytes: [u8; 4] = frame[at..at + 4].try_into().unwrap();
    bytes.into()
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Pass(frame) => format!("pass {}", hex(frame)),
        Outcome::Redirect(frame) => format!("redirect {}", hex(frame)),
        Outcome::Next(frame) => format!("next {}", hex(frame)),
        Outcome::Drop(reason, internal) => format!("drop {} {internal:?}", reason.label()),
    }
}

/// Two digits a byte, with spaces where headers commonly end.
fn hex(frame: &[u8]) -> String {
    let digits = |(at, byte)| format!("{}{byte:02x}", if [14, 34, 42, 62].contains(&at) { " " } else { "" });
    frame.iter().enumerate().map(digits).collect()
}
