//! Puts differences between two outcomes into classes, each a difference that one can explain.

use std::fmt;

use envnet_model::Direction;

use super::{
    exchange::{self, Exchange},
    router::{Outcome, Seen},
};
use crate::corpus::hex;
use Fate::{Forwarded, LeakedInternal, Nothing};

/// What became of an exchange, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Nothing,
    Forwarded,
    /// With an address of the guests' prefix on the outside.
    LeakedInternal,
}

/// How two outcomes differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    iptables: Fate,
    envnet: Fate,
    /// The parts of the packets that differ, when both were forwarded.
    parts: Vec<&'static str>,
}

/// Why packets of some kinds fare differently, under the headings of docs/differential.md.
struct Cause {
    name: &'static str,
    kinds: &'static [&'static str],
    /// With iptables and with envnet. That envnet leaks an internal address has no excuse.
    fates: &'static [(Fate, Fate)],
}

const CAUSES: &[Cause] = &[
    Cause {
        name: "invalid to connection tracking",
        kinds: &[
            "GRE",
            "ICMP with a wrong checksum",
            "ICMPv6 in IPv4",
            "SCTP without a right CRC",
            "TCP cut off",
            "TCP out of the blue",
            "TCP, UDP or UDP-Lite with a wrong checksum",
            "UDP or UDP-Lite cut off",
            "UDP with a wrong length",
            "an ICMP message that is no query",
            "an ICMP redirect",
            "an ICMP error about nothing",
        ],
        fates: &[
            (Nothing, Forwarded),
            (LeakedInternal, Forwarded),
            (LeakedInternal, Nothing),
        ],
    },
    Cause {
        name: "ICMP errors with a wrong checksum",
        kinds: &["error with a wrong checksum"],
        fates: &[(Forwarded, Forwarded), (LeakedInternal, Forwarded)],
    },
    Cause {
        name: "DCCP and UDP-Lite",
        kinds: &[
            "DCCP",
            "UDP-Lite",
            "error about DCCP",
            "error about UDP-Lite",
            "fragments of DCCP",
            "fragments of UDP-Lite",
            "record route with DCCP or UDP-Lite",
        ],
        fates: &[
            (Nothing, Forwarded),
            (LeakedInternal, Forwarded),
            (Forwarded, Forwarded),
            (Forwarded, Nothing),
        ],
    },
    Cause {
        name: "SCTP inside ICMP errors",
        kinds: &["error about a packet, in", "error about a packet, out"],
        fates: &[(Forwarded, Forwarded)],
    },
    Cause {
        name: "fragments of a datagram that is never whole",
        kinds: &["a lone fragment"],
        fates: &[(Nothing, Forwarded)],
    },
    Cause {
        name: "hairpins",
        kinds: &[
            "to an own external address, out",
            "TCP that is to be split",
            "TCP with an unfinished checksum",
            "UDP with an unfinished checksum",
        ],
        fates: &[(Nothing, Forwarded), (Forwarded, Forwarded)],
    },
    Cause {
        name: "between guests",
        kinds: &["to an internal address, out"],
        fates: &[(Nothing, Forwarded), (Forwarded, Forwarded)],
    },
    Cause {
        name: "nobody's external address",
        kinds: &["to an unmapped external address, out"],
        fates: &[(Nothing, Forwarded)],
    },
    Cause {
        name: "addresses that cannot be there",
        kinds: &[
            "from an internal address, in",
            "from an own external address, in",
            "from an unmapped address, out",
            "from or to nobody's address",
            "to an unmapped address, in",
        ],
        fates: &[(Forwarded, Nothing), (LeakedInternal, Nothing)],
    },
    Cause {
        name: "IP options",
        kinds: &["record route, out", "with IP options"],
        fates: &[
            (Nothing, Forwarded),
            (LeakedInternal, Forwarded),
            (LeakedInternal, Nothing),
            (Forwarded, Forwarded),
        ],
    },
    Cause {
        name: "the router's own address",
        kinds: &["to or from the router itself"],
        fates: &[(Nothing, Forwarded)],
    },
];

impl Class {
    /// The class of a difference, if there is one.
    pub(super) fn of(iptables: &Outcome, envnet: &Outcome) -> Option<Self> {
        let (theirs, ours) = (sorted(iptables), sorted(envnet));
        if theirs == ours {
            return None;
        }
        let parts = if theirs.len() == ours.len() {
            let mut parts: Vec<_> = theirs.iter().zip(&ours).flat_map(|(a, b)| differing(a, b)).collect();
            parts.sort_unstable();
            parts.dedup();
            parts
        } else {
            vec!["number of packets"]
        };
        Some(Self {
            iptables: fate(iptables),
            envnet: fate(envnet),
            parts,
        })
    }

    /// The cause, if it is a known one.
    pub(super) fn cause(&self, kind: &str) -> Option<&'static str> {
        let fates = (self.iptables, self.envnet);
        let known = |cause: &&Cause| cause.kinds.contains(&kind) && cause.fates.contains(&fates);
        CAUSES.iter().find(known).map(|cause| cause.name)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "iptables: {:?}, envnet: {:?}; differs: {}",
            self.iptables,
            self.envnet,
            self.parts.join(", ")
        )
    }
}

fn sorted(outcome: &Outcome) -> Vec<Seen> {
    let mut outcome = outcome.clone();
    outcome.sort();
    outcome
}

fn fate(outcome: &Outcome) -> Fate {
    let leaks = |seen: &Seen| {
        let (source, _) = exchange::addresses(&seen.packet);
        seen.side == Direction::Out && source.octets()[..3] == [10, 0, 0]
    };
    if outcome.is_empty() {
        Nothing
    } else if outcome.iter().any(leaks) {
        LeakedInternal
    } else {
        Forwarded
    }
}

fn differing(a: &Seen, b: &Seen) -> Vec<&'static str> {
    let mut parts = Vec::new();
    let mut part = |name, differs: bool| {
        if differs {
            parts.push(name);
        }
    };
    let (left, right) = (&a.packet, &b.packet);
    part("side", a.side != b.side);
    part("what is left to a device", a.offload != b.offload);
    part("ttl", left[8] != right[8]);
    part("addresses", left[12..20] != right[12..20]);
    part("fragmentation", left[6..8] != right[6..8]);
    part("length", left.len() != right.len());
    let header = usize::from(left[0] & 15) * 4;
    part(
        "header",
        left[..2] != right[..2] || left[20..header] != right[20..header],
    );
    if parts.is_empty() {
        if left[10..12] != right[10..12] {
            parts.push("header checksum");
        }
        if left[header..] != right[header..] {
            parts.push("payload");
        }
    }
    parts
}

/// An exchange and both outcomes, in hexadecimal.
pub(super) fn show(exchange: &Exchange, iptables: &Outcome, envnet: &Outcome) -> String {
    let sent = exchange
        .frames
        .iter()
        .map(|sent| format!("    sent {:?} {}\n", sent.direction, hex(&sent.frame)));
    let seen =
        |who: &'static str| move |seen: &Seen| format!("    {who} {:?} {:28}{}\n", seen.side, "", hex14(&seen.packet));
    sent.chain(iptables.iter().map(seen("ipt ")))
        .chain(envnet.iter().map(seen("env ")))
        .collect()
}

fn hex14(packet: &[u8]) -> String {
    hex(&[&[0; 14][..], packet].concat())[28..].to_owned()
}
