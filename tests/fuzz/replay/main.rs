//! The programs against the model: every kept case, and a short campaign that is the same each time.

use envnet_fuzz::{
    Disagreement,
    campaign::{BATCH, Campaign},
    corpus,
};

/// Enough for every kind of packet and every reason, and over in seconds.
const PACKETS: usize = 200_000;

fn agree(found: &[Disagreement]) {
    let show = |found: &Disagreement| format!("{}\n  {}", found.difference, corpus::line(found.world, &found.case));
    assert!(
        found.is_empty(),
        "{} disagreements:\n{}",
        found.len(),
        found.iter().map(show).collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn kept_cases() -> anyhow::Result<()> {
    agree(&Campaign::load()?.replay(corpus::KEPT)?);
    Ok(())
}

#[test]
fn a_short_campaign() -> anyhow::Result<()> {
    let mut campaign = Campaign::load()?;
    for number in 0..(PACKETS / BATCH) as u64 {
        agree(&campaign.batch(1, number)?);
    }
    let missing = campaign.report.missing();
    assert!(missing.is_empty(), "no packet was dropped for {missing:?}");
    for (program, runs) in &campaign.report.programs {
        println!("{program}: {} of {} packets translated", runs.taken, runs.packets);
        // Or nothing much was compared.
        assert!(
            runs.taken * 4 > runs.packets,
            "{program} has translated few packets: {runs:?}"
        );
    }
    Ok(())
}
