//! What could not be applied.

use crate::kernel;

/// Why a plan was not carried out. Every message names the step that it is about.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Steps failed, of different environments at the same time if they are several; nothing is left of the others.
    #[error("{}; everything before it was rolled back", .0.join("\n"))]
    RolledBack(Vec<String>),
    /// Steps failed, and of those before them something is left.
    #[error(
        "{}; not everything could be rolled back, the next `envnet attach` puts it right:\n{}",
        failed.join("\n"),
        left.join("\n")
    )]
    PartlyRolledBack {
        /// Why steps failed.
        failed: Vec<String>,
        /// What is left, and why.
        left: Vec<String>,
    },
    /// Steps failed, and all others were taken.
    #[error("{} of {steps} steps failed:\n{}", failed.len(), failed.join("\n"))]
    Incomplete {
        /// Why steps failed.
        failed: Vec<String>,
        /// How many steps there are.
        steps: usize,
    },
    /// There were no threads to apply anything with.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failed_step_is_told_on_a_line_of_its_own() {
        let lines = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
        let failed = || lines(&["environment 1: + link br1: busy", "environment 2: + link br2: busy"]);
        assert_eq!(
            ApplyError::RolledBack(failed()).to_string(),
            "environment 1: + link br1: busy\nenvironment 2: + link br2: busy; everything before it was rolled back"
        );
        assert_eq!(
            ApplyError::PartlyRolledBack {
                failed: failed(),
                left: lines(&["- link br3: busy"]),
            }
            .to_string(),
            "environment 1: + link br1: busy\nenvironment 2: + link br2: busy; not everything could be rolled back, the next \
             `envnet attach` puts it right:\n- link br3: busy"
        );
        assert_eq!(
            ApplyError::Incomplete {
                failed: failed(),
                steps: 7,
            }
            .to_string(),
            "2 of 7 steps failed:\nenvironment 1: + link br1: busy\nenvironment 2: + link br2: busy"
        );
    }
}
