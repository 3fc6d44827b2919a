//! What the fast path must do with a row's frame, by the model. [`Harness::check`](crate::harness::Harness::check) makes sure
//! that the model says the same as the row about the slow path, which it says this from.

use std::net::Ipv4Addr;

use envnet_common::DropReason;
use envnet_model::{Due, Program as Modelled, Verdict, as_guest_sends, due};

use crate::{
    harness::{Counted, Outcome, Program, Row, address},
    host::{KNOWN, Owner},
    names::{GUEST, GUEST_MAC, SIBLING, SIBLING_MAC},
};

const IPV4: [u8; 2] = [8, 0];
const ARP: [u8; 2] = [8, 6];
const SOURCE: usize = 26;

/// One frame through one program of the fast path.
pub(crate) struct Run {
    pub(crate) description: String,
    pub(crate) program: Program,
    /// Whose port it comes in by.
    pub(crate) port: Owner,
    pub(crate) frame: Vec<u8>,
    pub(crate) outcome: Outcome,
    pub(crate) counted: Counted,
}

/// Everything that is to be run for a row.
pub(crate) fn runs(row: &Row) -> Vec<Run> {
    match row.program {
        Program::Ingress => [
            (Program::UplinkIngress, Modelled::UplinkIngress),
            (Program::WanPort, Modelled::WanPortEgress),
            (Program::UplinkXdp, Modelled::UplinkXdp),
        ]
        .map(|(program, modelled)| {
            let due = due(modelled, Some(&KNOWN), None, &row.frame);
            Run::new(row.description.clone(), program, None, row.frame.clone(), &due)
        })
        .into(),
        _ => outward(row),
    }
}

/// From a guest: what the router would send, on the guest's own port and on one where any guest may be.
fn outward(row: &Row) -> Vec<Run> {
    let (sender, mac) = sender(&row.frame);
    let mut frames = vec![as_guest_sends(&KNOWN, mac, &row.frame)];
    if row.frame[12..14] == ARP {
        // And in the router's name.
        let mut spoofed = row.frame.clone();
        spoofed[..6].copy_from_slice(&KNOWN.router_inside);
        spoofed[6..12].copy_from_slice(&mac);
        frames.push(spoofed);
    }
    let on = |frame: &Vec<u8>, owner: Owner| {
        let due = due(Modelled::GuestIngress, Some(&KNOWN), owner, frame);
        let description = format!("{}, port of {owner:?}", row.description);
        Run::new(description, Program::GuestIngress, owner, frame.clone(), &due)
    };
    frames
        .iter()
        .flat_map(|frame| [on(frame, Some(sender)), on(frame, None)])
        .collect()
}

/// Who has sent a frame that goes out.
fn sender(frame: &[u8]) -> (Ipv4Addr, [u8; 6]) {
    if frame[12..14] == IPV4 && address(frame, SOURCE) == SIBLING {
        (SIBLING, SIBLING_MAC)
    } else {
        (GUEST, GUEST_MAC)
    }
}

impl Run {
    fn new(description: String, program: Program, port: Owner, frame: Vec<u8>, due: &Due) -> Self {
        let outcome = match &due.verdict {
            Verdict::Pass(out) => Outcome::Pass(out.bytes.clone()),
            Verdict::Redirect(out) => Outcome::Redirect(out.bytes.clone()),
            Verdict::Next => Outcome::Next(frame.clone()),
            Verdict::Drop(defects) => {
                let [defect] = defects[..] else {
                    panic!("{description}: one reason must be the first: {defects:?}")
                };
                let mut reasons = DropReason::ALL.iter();
                let reason = reasons.find(|reason| reason.label() == defect.reason.label()).unwrap();
                Outcome::Drop(*reason, defect.internal)
            }
        };
        let mut counted = Counted::new();
        due.count(frame.len(), &mut counted);
        Self {
            description,
            program,
            port,
            frame,
            outcome,
            counted,
        }
    }
}
