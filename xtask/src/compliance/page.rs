//! Reads the page: its tables (requirement, asks, envnet, state, tests), and the names of tests.

use std::fmt;

use anyhow::{Context, Result, ensure};

/// What a page says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// The file, from the top of the project.
    pub(super) path: &'static str,
    /// The requirements in its tables.
    pub(super) rows: Vec<Row>,
    /// Code spans that contain two colons, anywhere on the page.
    pub(super) names: Vec<Name>,
}

/// The name of a test.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Line of the page, counted from 1.
    pub(super) line: usize,
    pub(super) path: String,
}

/// One requirement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Line of the page, counted from 1.
    pub(super) line: usize,
    /// Its number in the RFC.
    pub(super) requirement: String,
    pub(super) state: State,
}

/// How far a requirement is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Tests prove it.
    Met,
    /// Tests prove a part of it.
    InPart,
    /// It should be met, but no test proves it.
    Untested,
    /// It is not met.
    NotMet,
    /// It is about something that envnet does not have.
    DoesNotApply,
}

impl State {
    const ALL: [Self; 5] = [
        Self::Met,
        Self::InPart,
        Self::Untested,
        Self::NotMet,
        Self::DoesNotApply,
    ];

    pub(super) const fn needs_test(self) -> bool {
        matches!(self, Self::Met | Self::InPart)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::InPart => "in part",
            Self::Untested => "untested",
            Self::NotMet => "not met",
            Self::DoesNotApply => "does not apply",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Page {
    pub(super) fn read(path: &'static str, text: &str) -> Result<Self> {
        let mut page = Self {
            path,
            ..Self::default()
        };
        let mut fenced = false;
        for (line, text) in (1..).zip(text.lines()) {
            let fence = text.trim_start().starts_with("```");
            fenced ^= fence;
            if !fenced && !fence {
                page.names.extend(names(path, line, text)?);
                page.rows.extend(row(path, line, text)?);
            }
        }
        Ok(page)
    }
}

fn names(page: &str, line: usize, text: &str) -> Result<impl Iterator<Item = Name>> {
    let spans = text.split('`');
    ensure!(spans.clone().count() % 2 == 1, "{page}:{line}: a code span has no end");
    let names = spans.skip(1).step_by(2).filter(|span| span.contains("::"));
    Ok(names.map(move |path| Name {
        line,
        path: path.to_owned(),
    }))
}

/// A row of a table with five columns, unless it is the table's head.
fn row(page: &str, line: usize, text: &str) -> Result<Option<Row>> {
    let cells = text.trim().strip_prefix('|').and_then(|text| text.strip_suffix('|'));
    let cells: Vec<&str> = cells.unwrap_or_default().split('|').map(str::trim).collect();
    let [requirement, _, _, state, _] = cells[..] else {
        return Ok(None);
    };
    if state == "state" || state.chars().all(|char| char == '-') {
        return Ok(None);
    }
    let state = State::ALL.into_iter().find(|known| known.name() == state);
    let state = state.with_context(|| {
        let known = State::ALL.map(State::name).join(", ");
        format!("{page}:{line}: the fourth column is a state, one of: {known}")
    })?;
    Ok(Some(Row {
        line,
        requirement: requirement.to_owned(),
        state,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_among_other_things() {
        let text = "# Page\n\n`is::here`\n\n| requirement | asks | envnet | state | tests |\n|---|---|---|---|---|\n\
            | REQ-9a | hairpin | `gwE` | met | `rows::hairpin::x` |\n| a | table | of three |\n\
            ```sh\n| a | b | c | d | `e::f` |\n```\n";
        let name = |line, path: &str| Name {
            line,
            path: path.to_owned(),
        };
        let page = Page {
            path: "docs/compliance.md",
            rows: vec![Row {
                line: 7,
                requirement: "REQ-9a".to_owned(),
                state: State::Met,
            }],
            names: vec![name(3, "is::here"), name(7, "rows::hairpin::x")],
        };
        assert_eq!(Page::read("docs/compliance.md", text).expect("a good page"), page);
    }

    #[test]
    fn states_are_these_only() {
        let error = Page::read("docs/compliance.md", "\n| REQ-1 | a | b | fine | |\n").expect_err("no state");
        assert!(error.to_string().starts_with("docs/compliance.md:2: "), "{error}");
    }

    #[test]
    fn an_open_code_span_is_an_error() {
        let error = Page::read("docs/compliance.md", "| REQ-1 | a | b | met | `rows::x |\n").expect_err("an open span");
        assert!(error.to_string().contains("no end"), "{error}");
    }
}
