//! Two routers that should do the same: one with a DNAT and an SNAT rule of iptables per guest, one with envnet's programs.
//!
//! Both get the same packets from both sides, in namespaces of their own, and whatever comes out on either side is
//! compared. Differences are put into classes; docs/differential.md explains each.

mod class;
mod exchange;
mod offload;
mod router;

use std::collections::BTreeMap;

use anyhow::Result;
use envnet_lab::interrupt;
use fastrand::Rng;

use crate::worlds::HOSTS;
use class::Class;
use exchange::Exchange;
use router::{Nat, Router};

/// How many packets or short sequences of packets are exchanged with each router.
const EXCHANGES: u16 = 4000;

/// What is known about a class of exchanges.
struct Entry {
    count: u32,
    example: String,
}

/// Runs all exchanges through both routers and prints the classes of differences; whether all of them are known.
pub fn run(seed: u64) -> Result<bool> {
    interrupt::install();
    let world = HOSTS[0].world();
    let mut rng = Rng::with_seed(seed);
    let exchanges: Vec<Exchange> = (1..=EXCHANGES).map(|id| exchange::make(&mut rng, world, id)).collect();
    let [iptables, envnet] = [Nat::Iptables, Nat::Envnet].map(|nat| -> Result<_> {
        let mut router = Router::build(nat, world)?;
        router.exchange_all(&exchanges)
    });
    let (iptables, envnet) = (iptables?, envnet?);

    let mut agreed: BTreeMap<&'static str, u32> = BTreeMap::new();
    let mut classes: BTreeMap<(&'static str, Class), Entry> = BTreeMap::new();
    for ((exchange, theirs), ours) in exchanges.iter().zip(&iptables).zip(&envnet) {
        match Class::of(theirs, ours) {
            None => *agreed.entry(exchange.kind).or_default() += 1,
            Some(class) => {
                let entry = classes.entry((exchange.kind, class)).or_insert_with(|| Entry {
                    count: 0,
                    example: class::show(exchange, theirs, ours),
                });
                entry.count += 1;
            }
        }
    }
    print(&agreed, &classes);
    let unknown = classes
        .keys()
        .filter(|(kind, class)| class.cause(kind).is_none())
        .count();
    println!(
        "{} exchanges with each router: {} the same, {} different, {unknown} classes unexplained",
        exchanges.len(),
        agreed.values().sum::<u32>(),
        classes.values().map(|entry| entry.count).sum::<u32>(),
    );
    Ok(unknown == 0)
}

fn print(agreed: &BTreeMap<&'static str, u32>, classes: &BTreeMap<(&'static str, Class), Entry>) {
    println!("the same:");
    for (kind, count) in agreed {
        println!("{count:>8}  {kind}");
    }
    println!("\ndifferent, by the headings of docs/differential.md:");
    let mut by_cause: BTreeMap<Option<&str>, Vec<_>> = BTreeMap::new();
    for ((kind, class), entry) in classes {
        by_cause
            .entry(class.cause(kind))
            .or_default()
            .push((kind, class, entry));
    }
    for (cause, classes) in by_cause {
        println!("{}", cause.unwrap_or("UNEXPLAINED"));
        for (kind, class, entry) in classes {
            println!("{:>8}  {kind}: {class}", entry.count);
            if cause.is_none() {
                print!("{}", entry.example);
            }
        }
    }
}
