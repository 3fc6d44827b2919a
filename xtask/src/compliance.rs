//! Checks the pages that promise something: every row of their tables has a state, every promise that is met names a test, and
//! every named test exists.
//!
//! Sources are read as text, so that nothing has to be built: nobody runs a lint that takes minutes.

mod page;
mod source;

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use xtask::workspace;

use page::{Name, Page, Row};

const PAGES: [&str; 2] = ["docs/compliance.md", "docs/security.md"];

/// The test programs by the first segment of a test's name, with their root files. The rest of the name is as `cargo test`
/// prints it.
const PROGRAMS: [(&str, &str); 8] = [
    ("clones", "tests/clones/main.rs"),
    ("common", "envnet-common/src/lib.rs"),
    ("envnet", "envnet/src/lib.rs"),
    ("lifecycle", "tests/lifecycle/main.rs"),
    ("model", "tests/fuzz/replay/main.rs"),
    ("namespaces", "tests/namespaces/main.rs"),
    ("rows", "tests/rows/main.rs"),
    ("translation", "envnet-common/tests/translation.rs"),
];

/// Checks the pages against the sources.
pub(crate) fn check() -> Result<()> {
    let read = |path: &Path| {
        let place = workspace().join(path);
        fs::read_to_string(&place).with_context(|| format!("{} cannot be read", path.display()))
    };
    let mut tests = BTreeMap::new();
    for (program, root) in PROGRAMS {
        tests.insert(program, source::tests(Path::new(root), &read)?);
    }
    for path in PAGES {
        let page = Page::read(path, &read(Path::new(path))?)?;
        ensure!(!page.rows.is_empty(), "{path} has no table of requirements");
        let errors = errors(&page, &tests);
        ensure!(errors.is_empty(), "{}", errors.join("\n"));
        println!(
            "{path}: {} requirements, {} references to tests",
            page.rows.len(),
            page.names.len()
        );
    }
    Ok(())
}

/// The errors of the page, line by line.
fn errors(page: &Page, tests: &BTreeMap<&str, Vec<String>>) -> Vec<String> {
    let mut errors = Vec::new();
    let document = page.path;
    for name in &page.names {
        let Name { line, path } = name;
        let (program, path_there) = path.split_once("::").unwrap_or_default();
        match tests.get(program) {
            None => errors.push(format!(
                "{document}:{line}: `{path}` is in no test program; they are {}",
                PROGRAMS.map(|(program, _)| program).join(", ")
            )),
            Some(there) if !there.iter().any(|test| test == path_there) => {
                errors.push(format!("{document}:{line}: there is no test `{path}`"));
            }
            Some(_) => {}
        }
    }
    for row in page.rows.iter().filter(|row| row.state.needs_test()) {
        let Row {
            line,
            requirement,
            state,
        } = row;
        if !page.names.iter().any(|name| name.line == *line) {
            errors.push(format!(
                "{document}:{line}: `{requirement}` is {state} but names no test: name one, or mark it untested"
            ));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(page: &str) -> Vec<String> {
        let tests = BTreeMap::from([("rows", vec!["icmp::errors".to_owned()])]);
        errors(&Page::read("docs/compliance.md", page).expect("a good page"), &tests)
    }

    #[test]
    fn what_is_named_must_exist() {
        let page = "| REQ-1 | a | b | met | `rows::icmp::errors` |\n| REQ-2 | a | b | met | `rows::icmp::error` |\n";
        assert_eq!(
            complaints(page),
            ["docs/compliance.md:2: there is no test `rows::icmp::error`"]
        );
    }

    #[test]
    fn what_is_met_must_name_a_test() {
        let page = "| REQ-1 | a | b | met | none |\n| REQ-2 | a | b | untested | |\n";
        let complaints = complaints(page);
        assert_eq!(complaints.len(), 1);
        assert!(
            complaints[0].starts_with("docs/compliance.md:1: `REQ-1` is met but names no test"),
            "{complaints:?}"
        );
    }

    #[test]
    fn an_unknown_program_is_named() {
        let complaints = complaints("| REQ-1 | a | b | met | `row::icmp::errors` |\n");
        assert_eq!(complaints.len(), 1);
        assert!(
            complaints[0].contains("`row::icmp::errors` is in no test program"),
            "{complaints:?}"
        );
    }

    #[test]
    fn names_outside_the_tables_are_checked_as_well() {
        assert_eq!(
            complaints("\nAs `rows::icmp::gone` shows.\n"),
            ["docs/compliance.md:2: there is no test `rows::icmp::gone`"]
        );
    }

    #[test]
    fn the_page_is_right() -> Result<()> {
        check()
    }
}
