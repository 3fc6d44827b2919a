//! Reads what `cargo test` prints: how many tests were announced, and what became of them.

use std::{iter::Sum, ops::Add};

/// Results of test programs, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Test programs that announced how many tests they have.
    pub(crate) started: u32,
    /// Test programs that said how it ended.
    pub(crate) finished: u32,
    /// Tests passed.
    pub(crate) passed: u32,
    /// Tests failed.
    pub(crate) failed: u32,
    /// Tests ignored.
    pub(crate) ignored: u32,
}

impl Tally {
    /// What one line of output adds.
    pub(crate) fn of_line(line: &str) -> Self {
        let mut tally = Self::default();
        if let Some(count) = line.strip_prefix("running ") {
            let words: Vec<_> = count.split_whitespace().collect();
            tally.started = u32::from(matches!(words[..], [n, "test" | "tests"] if n.parse::<u32>().is_ok()));
        } else if let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        {
            tally.finished = 1;
            for count in counts.split(';') {
                match count.trim().split_once(' ') {
                    Some((n, "passed")) => tally.passed = n.parse().unwrap_or(0),
                    Some((n, "failed")) => tally.failed = n.parse().unwrap_or(0),
                    Some((n, "ignored")) => tally.ignored = n.parse().unwrap_or(0),
                    _ => {}
                }
            }
        }
        tally
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            started: self.started + other.started,
            finished: self.finished + other.finished,
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Self::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let output = "\
running 2 tests
test a ... ok
test b ... FAILED
running to the hills
test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 1 test
test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 1.20s
";
        let tally: Tally = output.lines().map(Tally::of_line).sum();
        assert_eq!(
            tally,
            Tally {
                started: 2,
                finished: 2,
                passed: 1,
                failed: 1,
                ignored: 1
            }
        );
    }

    #[test]
    fn a_crash_is_an_unfinished_program() {
        let tally: Tally = "running 3 tests\ntest a ... ok\n".lines().map(Tally::of_line).sum();
        assert_eq!(
            tally,
            Tally {
                started: 1,
                ..Tally::default()
            }
        );
    }
}
