//! Makes a failing case small, greedily: cuts pieces out and zeroes bytes while it goes on failing.

use anyhow::Result;

use crate::{Case, can_be_run};

/// Checks after which it is small enough: each reads all counters.
const ENOUGH: u32 = 5000;

/// The smallest failing case that was found, and what is wrong with it.
pub fn shrink(
    mut case: Case,
    mut difference: String,
    mut check: impl FnMut(&Case) -> Result<Option<String>>,
) -> Result<(Case, String)> {
    let mut checks = 0;
    loop {
        let before = case.frame.clone();
        for frame in simpler(&before) {
            if !can_be_run(&frame) || weight(&frame) >= weight(&case.frame) {
                continue;
            }
            checks += 1;
            let candidate = Case { frame, ..case.clone() };
            if let Some(now) = check(&candidate)? {
                (case, difference) = (candidate, now);
                break;
            }
        }
        if case.frame == before || checks >= ENOUGH {
            return Ok((case, difference));
        }
    }
}

/// Shorter first, then fewer bytes that are not zero.
fn weight(frame: &[u8]) -> (usize, usize) {
    (frame.len(), frame.iter().filter(|byte| **byte != 0).count())
}

/// Frames with a piece less or a byte less, the smallest first.
fn simpler(frame: &[u8]) -> Vec<Vec<u8>> {
    let mut simpler = Vec::new();
    let mut size = frame.len() / 2;
    while size > 0 {
        for at in (12..=frame.len().saturating_sub(size)).rev().step_by(size) {
            let mut piece = frame.to_vec();
            piece.drain(at..at + size);
            simpler.push(piece.clone());
            // The same with a total length that goes on telling the truth.
            if let Some(field) = piece.get_mut(16..18) {
                let total = u16::from_be_bytes([field[0], field[1]]);
                let shorter = total.saturating_sub(u16::try_from(size).unwrap_or(0));
                field.copy_from_slice(&shorter.to_be_bytes());
            }
            simpler.push(piece);
        }
        size /= 2;
    }
    for at in 0..frame.len() {
        let mut zeroed = frame.to_vec();
        zeroed[at] = 0;
        simpler.push(zeroed);
    }
    simpler
}

#[cfg(test)]
mod tests {
    use envnet_model::Direction;

    use super::*;

    #[test]
    fn only_what_matters_is_left() -> Result<()> {
        let case = Case {
            kind: "",
            direction: Direction::In,
            frame: (1..=255).collect(),
        };
        let fails = |case: &Case| Ok(case.frame.contains(&77).then(|| "fails".to_owned()));
        let (case, difference) = shrink(case, String::new(), fails)?;
        assert_eq!(difference, "fails");
        assert_eq!(case.frame.iter().filter(|byte| **byte != 0).collect::<Vec<_>>(), [&77]);
        assert_eq!(case.frame.len(), 15, "{:x?}", case.frame);
        Ok(())
    }
}
