//! What the host looks like, as text: two snapshots are equal when nothing was changed.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Result;

use crate::{Lab, namespace, namespace::Namespace, process};

/// The host's links, addresses, routes and queueing disciplines, and the router namespaces.
pub fn of_host(lab: &Lab) -> Result<String> {
    let host = lab.host();
    let mut text = String::new();
    for view in [
        "-details -oneline link show",
        "-4 -oneline address show",
        "-4 route show table all",
        "rule show",
    ] {
        text += &without_what_moves(&host.ip(view)?);
    }
    text += &process::output(host.command("tc").args(["qdisc", "show"]))?;
    text += &process::output(host.command("tc").args(["filter", "show", "dev", "eth0", "ingress"]))?;
    let routers = format!("{}-ns", host.name());
    for name in namespace::names()?
        .into_iter()
        .filter(|name| name.starts_with(&routers))
    {
        text += &name;
        text.push('\n');
    }
    let pins = Path::new("/sys/fs/bpf/envnet").join(format!("netns-{}", host.name()));
    text += if pins.exists() { "pins\n" } else { "no pins\n" };
    Ok(text)
}

/// A bridge's timers run by themselves, and it forgets what it has learned.
fn without_what_moves(view: &str) -> String {
    let mut text = String::new();
    for line in view.lines() {
        let mut words = line.split_ascii_whitespace();
        while let Some(word) = words.next() {
            if word.ends_with("_timer") || word == "fdb_n_learned" {
                words.next();
            } else {
                text.push_str(word);
                text.push(' ');
            }
        }
        text.push('\n');
    }
    text
}

/// The lines that only one of two snapshots has.
#[must_use]
pub fn difference(before: &str, after: &str) -> String {
    let only = |mark: &str, these: &str, those: &str| {
        let lines = these.lines().filter(|line| !those.lines().any(|other| other == *line));
        lines.map(|line| format!("{mark} {line}")).collect::<Vec<_>>()
    };
    [only("-", before, after), only("+", after, before)].concat().join("\n")
}

/// Every IPv4 and IPv6 sysctl of a namespace, by path.
pub fn sysctls(namespace: &Namespace) -> Result<BTreeMap<String, String>> {
    namespace.run(|| {
        let mut values = BTreeMap::new();
        for family in ["ipv4", "ipv6"] {
            collect(&Path::new("/proc/sys/net").join(family), &mut values)?;
        }
        Ok(values)
    })
}

fn collect(directory: &Path, values: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, values)?;
        } else if let Ok(value) = fs::read_to_string(&path) {
            // Some can only be written.
            values.insert(path.display().to_string(), value);
        }
    }
    Ok(())
}

/// The sysctls among `before` that have another value or are gone.
#[must_use]
pub fn changed<'a>(before: &'a BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<&'a String> {
    before
        .iter()
        .filter(|(key, value)| after.get(*key) != Some(value))
        .map(|(key, _)| key)
        .collect()
}
