//! Runs rows in the harness of `envnet-fuzz`, on maps of their own.

use std::net::Ipv4Addr;

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData, PerCpuHashMap, PerCpuValues},
    programs::{SchedClassifier, TcAttachType, tc},
};
use envnet_common::{
    Address, DropReason,
    maps::{Counters, DropKey, Environment, Mapping, MappingKey},
};
use envnet_fuzz::{
    corpus::hex,
    harness::{self, Action, LOOPBACK},
    pure,
};
pub(crate) use envnet_model::{Counts as Counted, address};
use envnet_model::{Program as Modelled, Verdict, due};

use crate::{
    fast,
    host::{self, KNOWN},
    names::ENVIRONMENT,
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
        for run in fast::runs(row) {
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
}

impl Harness {
    pub(crate) fn load() -> Self {
        Self::load_object(envnet::EBPF_OBJECT)
    }

    /// Like [`Self::load`], with limits on what a guest may send.
    pub(crate) fn load_limited() -> Self {
        Self::load_with(envnet::EBPF_OBJECT, true)
    }

    /// Like [`Self::load`], with another object of the same programs.
    pub(crate) fn load_object(object: &[u8]) -> Self {
        Self::load_with(object, false)
    }

    fn load_with(object: &[u8], limited: bool) -> Self {
        host::enter();
        let maps = [
            "COUNTERS",
            "DROPS",
            "ENDPOINTS",
            "GUEST_MACS",
            "MAPPINGS",
            "NEXT_HOPS",
            "PORTS",
            "FDB",
        ];
        let object = harness::load(object, Program::ALL.map(Program::name), &maps, 64, limited).unwrap();
        let mut harness = Self { object };
        // The loopback interface is the `gwE` of this environment.
        harness
            .hash_map("ENVIRONMENTS")
            .insert(LOOPBACK, pure::environment(KNOWN.world()), 0)
            .unwrap();
        for mapping in &KNOWN.world().mappings {
            let key = MappingKey {
                environment: mapping.environment,
                internal: mapping.internal.into(),
            };
            let external = mapping.external.into();
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

    /// Takes the environment away, as while it is being detached.
    pub(crate) fn forget_environment(&mut self) {
        self.hash_map::<u32, Environment>("ENVIRONMENTS")
            .remove(&LOOPBACK)
            .unwrap();
    }

    /// Runs a row; the error says what differs, or that the model says something else than the row.
    pub(crate) fn check(&mut self, row: &Row) -> Result<(), String> {
        let program = match row.program {
            Program::Ingress => Modelled::RouterIngress,
            Program::Egress => Modelled::RouterEgress,
            other => {
                return Err(format!(
                    "{}: rows are for Ingress and Egress, and what {other:?} must do follows from them; what it does besides is tested \
                     with `Harness::must`, as in spoofing.rs",
                    row.description
                ));
            }
        };
        let due = due(program, Some(&KNOWN), None, &row.frame);
        let agree = match (&due.verdict, &row.outcome) {
            (Verdict::Pass(frame), Outcome::Pass(out)) | (Verdict::Redirect(frame), Outcome::Redirect(out)) => {
                frame.is(out)
            }
            (Verdict::Drop(defects), Outcome::Drop(reason, internal)) => defects
                .iter()
                .any(|defect| defect.reason.label() == reason.label() && defect.internal == *internal),
            _ => false,
        };
        if !agree {
            let (description, input, outcome) = (&row.description, hex(&row.frame), show(&row.outcome));
            let model = match &due.verdict {
                Verdict::Pass(frame) => format!("pass {}", hex(&frame.bytes)),
                Verdict::Redirect(frame) => format!("redirect {}", hex(&frame.bytes)),
                other => format!("{other:?}"),
            };
            return Err(format!(
                "{description}, {:?}\n  in:    {input}\n  row:   {outcome}\n  model: {model}",
                row.program
            ));
        }
        let mut counted = Counted::new();
        due.count(row.frame.len(), &mut counted);
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
            (Action::Drop, [(key, 1)]) if key.environment == ENVIRONMENT => {
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

    /// The programs and their maps.
    pub(crate) fn object(&mut self) -> &mut Ebpf {
        &mut self.object
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

fn show(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Pass(frame) => format!("pass {}", hex(frame)),
        Outcome::Redirect(frame) => format!("redirect {}", hex(frame)),
        Outcome::Next(frame) => format!("next {}", hex(frame)),
        Outcome::Drop(reason, internal) => format!("drop {} {internal:?}", reason.label()),
    }
}
