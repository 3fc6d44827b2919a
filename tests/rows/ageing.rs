//! What was learned is used while it is confirmed, asked about when it is not, and then forgotten.

use envnet_common::{age::Age, maps::Endpoint};

use crate::{
    harness::{Harness, Outcome, Program},
    host::{endpoint, now},
    names::{ELSEWHERE, GUEST, GUEST_MAC, GUEST_OUTSIDE, NEIGHBOUR, NEXT_HOP, OUTSIDE, incoming, sent_by},
    packet::{Payload, packet},
};

const MILLISECOND: u64 = 1_000_000;

/// Confirmed so many milliseconds ago, and asked about so many ago.
fn aged(confirmed: u64, asked: Option<u64>) -> Age {
    let now = now();
    Age {
        confirmed: now - confirmed * MILLISECOND,
        probed: asked.map_or(0, |asked| now - asked * MILLISECOND),
    }
}

fn at_age(external: Endpoint, age: Age) -> Endpoint {
    let mut endpoint = external;
    endpoint.location.age = age;
    endpoint
}

/// Whether the program takes the frame; else it must leave it as it is.
fn takes(harness: &mut Harness, program: Program, frame: &[u8]) -> bool {
    match harness.observe(program, frame).unwrap() {
        Outcome::Redirect(out) | Outcome::Next(out) => out != frame,
        odd => panic!("{odd:?}"),
    }
}

/// Sets the age of what a frame needs, runs the frame, and reads the age.
struct Subject {
    name: &'static str,
    program: Program,
    frame: Vec<u8>,
    /// Whether it comes last before the router that knows.
    asks: bool,
    set: fn(&mut Harness, Age),
    get: fn(&mut Harness) -> Age,
}

fn subjects() -> Vec<Subject> {
    let inward = incoming(&packet(OUTSIDE, GUEST_OUTSIDE, Payload::Tcp));
    let location = |name, program, asks| Subject {
        name,
        program,
        asks,
        frame: inward.clone(),
        set: |harness, age| harness.set_endpoint(GUEST_OUTSIDE, &at_age(endpoint(GUEST_OUTSIDE), age)),
        get: |harness| harness.endpoint(GUEST_OUTSIDE).location.age,
    };
    vec![
        location("location, TC", Program::UplinkIngress, true),
        location("location, XDP", Program::UplinkXdp, false),
        Subject {
            name: "location, across",
            program: Program::GuestIngress,
            frame: sent_by(GUEST_MAC, &packet(GUEST, ELSEWHERE, Payload::Tcp)),
            asks: false,
            set: |harness, age| {
                let stranger = endpoint(ELSEWHERE);
                harness.set_endpoint(ELSEWHERE, &at_age(stranger, age));
            },
            get: |harness| harness.endpoint(ELSEWHERE).location.age,
        },
        Subject {
            name: "next hop",
            program: Program::GuestIngress,
            frame: sent_by(GUEST_MAC, &packet(GUEST, OUTSIDE, Payload::Tcp)),
            asks: true,
            set: |harness, age| harness.set_next_hop(NEXT_HOP, NEIGHBOUR, age),
            get: |harness| harness.next_hop(NEXT_HOP).unwrap().age,
        },
    ]
}

#[test]
fn trust_wanes() {
    let mut harness = Harness::load();
    for subject in subjects() {
        let Subject {
            name, program, frame, ..
        } = &subject;
        let mut taken = |age| {
            harness.learn(Some(GUEST));
            (subject.set)(&mut harness, age);
            let taken = takes(&mut harness, *program, frame);
            (taken, (subject.get)(&mut harness))
        };
        let start = now();
        assert!(taken(aged(0, None)).0, "{name}: just confirmed");
        // In the future, so that a slow machine has time to get there: counts as now.
        assert!(
            taken(Age::new(now() + 1000 * MILLISECOND)).0,
            "{name}: another CPU's clock"
        );
        let (is_taken, age) = taken(aged(400, None));
        assert!(!is_taken, "{name}: doubted, so this one asks");
        assert_eq!(age.probed >= start, subject.asks, "{name}: notes that it has asked");
        let asked = Age {
            probed: now() + 1000 * MILLISECOND,
            ..aged(400, None)
        };
        assert!(taken(asked).0, "{name}: asked already, and others need not wait");
        assert!(!taken(aged(450, Some(50))).0, "{name}: asks again");
        let (is_taken, age) = taken(aged(1000, None));
        assert!(!is_taken, "{name}: forgotten");
        assert_eq!(age.probed, 0, "{name}: and nothing to ask about");
        assert!(!taken(Age::default()).0, "{name}: never heard");
    }
}

/// A guest that sends is where it sends from.
#[test]
fn what_a_guest_sends_confirms_it() {
    let mut harness = Harness::load();
    let out = sent_by(GUEST_MAC, &packet(GUEST, OUTSIDE, Payload::Tcp));
    for age in [aged(400, None), aged(1000, None), Age::default()] {
        harness.learn(Some(GUEST));
        harness.set_endpoint(GUEST_OUTSIDE, &at_age(endpoint(GUEST_OUTSIDE), age));
        let before = now();
        assert!(takes(&mut harness, Program::GuestIngress, &out));
        let confirmed = harness.endpoint(GUEST_OUTSIDE).location.age;
        assert!(confirmed.confirmed >= before && confirmed.probed == 0, "{confirmed:?}");
    }
}

/// What comes in by a next hop confirms it, as an answer to what went out; but only from its own Ethernet address.
#[test]
fn what_comes_in_confirms_its_next_hop() {
    let mut harness = Harness::load();
    let inward = incoming(&packet(OUTSIDE, GUEST_OUTSIDE, Payload::Tcp));
    let mut from_another = inward.clone();
    from_another[11] ^= 1;
    for program in [Program::UplinkIngress, Program::UplinkXdp] {
        for (frame, confirms) in [(&inward, true), (&from_another, false)] {
            harness.learn(Some(GUEST));
            let old = aged(400, None);
            harness.set_next_hop(NEXT_HOP, NEIGHBOUR, old);
            assert!(takes(&mut harness, program, frame));
            let hop = harness.next_hop(NEXT_HOP).unwrap();
            assert_eq!(hop.mac.0, NEIGHBOUR);
            assert_eq!(hop.age.confirmed > old.confirmed, confirms, "{program:?} {hop:?}");
        }
    }
}
