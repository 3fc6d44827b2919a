//! The table of `cargo xtask setup --check`. It fetches nothing.

use std::process::Command;

use anyhow::Result;

use xtask::{
    linker::find_linker,
    process::{cargo, output},
    toolchain::Toolchain,
    tools::Preference,
};

use super::{
    Apt, Distribution, Found, ask_version, on_system, private,
    rust::cargo_deny,
    table::{TOOLS, Tool},
    version,
};
use crate::kernels;

/// One line: tool, where it is, its version, who needs it, how it would be got.
type Row = [String; 5];

/// Prints the table.
pub(super) fn table() -> Result<()> {
    let header = ["tool", "found", "version", "needed by", "if missing"].map(str::to_owned);
    let mut rows = vec![header];
    for tool in &TOOLS {
        rows.push(program(tool)?);
    }
    rows.extend([
        compiler(),
        cargo_program("bpf-linker", find_linker().ok(), "all"),
        cargo_program("cargo-deny", cargo_deny()?, "lint"),
        component("fmt", "rustfmt"),
        component("clippy", "clippy"),
        machines_kernel(),
    ]);
    let widths = [0, 1, 2, 3].map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for [tool, found, version, needed_by, missing] in &rows {
        let [a, b, c, d] = widths;
        println!("{tool:<a$}  {found:<b$}  {version:<c$}  {needed_by:<d$}  {missing}");
    }
    Ok(())
}

/// The version in what a program says; empty when there is none.
fn version_text(said: &str) -> String {
    version(said).map_or_else(String::new, |(text, _)| text)
}

fn program(tool: &Tool) -> Result<Row> {
    let system = match Preference::get()? {
        Preference::System => on_system(tool),
        Preference::Private => Found::Missing,
    };
    let private = private::program(tool);
    let (found, said) = match (&system, private) {
        (Found::Good { path, version }, _) => (path.display().to_string(), version.clone()),
        (_, Some(path)) => {
            let said = ask_version(tool, &path).unwrap_or_default();
            (path.display().to_string(), version_text(&said))
        }
        (Found::Bad { path, reason }, None) => (format!("no: {} {reason}", path.display()), String::new()),
        (Found::Missing, None) => ("no".to_owned(), String::new()),
    };
    let package = Distribution::here().package(tool);
    let missing = if Apt::is_here() {
        format!("private copy of {package}")
    } else {
        Distribution::here().command(&[tool])
    };
    Ok([tool.name.to_owned(), found, said, tool.needed_by.to_owned(), missing])
}

fn compiler() -> Row {
    let (found, said) = match Toolchain::choose() {
        Ok(toolchain) => {
            let said = output(Command::new(&toolchain.rustc).arg("--version")).unwrap_or_default();
            let said = version_text(&said);
            (toolchain.rustc.display().to_string(), said)
        }
        Err(_) => ("no".to_owned(), String::new()),
    };
    let missing = if Apt::is_here() {
        "private copy of rustc-web".to_owned()
    } else {
        Distribution::here().compiler().to_owned()
    };
    ["rustc with source".into(), found, said, "all".into(), missing]
}

fn cargo_program(name: &str, found: Option<std::path::PathBuf>, needed_by: &str) -> Row {
    let said = found
        .as_ref()
        .and_then(|path| output(Command::new(path).arg("--version")).ok());
    [
        name.into(),
        found.map_or_else(|| "no".into(), |path| path.display().to_string()),
        version_text(&said.unwrap_or_default()),
        needed_by.into(),
        "cargo install --root .tools/cargo".into(),
    ]
}

fn component(verb: &str, name: &str) -> Row {
    let said = output(cargo().args([verb, "--version"]));
    [
        format!("cargo {verb}"),
        if said.is_ok() { "with cargo".into() } else { "no".into() },
        version_text(&said.unwrap_or_default()),
        "lint".into(),
        format!("rustup component add {name}"),
    ]
}

fn machines_kernel() -> Row {
    let folder = kernels::machines_folder();
    let found = if folder.join("modules/order").is_file() {
        folder.display().to_string()
    } else {
        "no".to_owned()
    };
    let packages = Distribution::here().kernel();
    [
        "guests' kernel".into(),
        found,
        String::new(),
        "run, test".into(),
        format!("private copy of {packages}"),
    ]
}
