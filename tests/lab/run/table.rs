//! The table of guests, once or again every second with fresh counters.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use anyhow::Result;
use serde_json::Value;

use super::{check::Answer, counters, member::Member};
use crate::{Lab, interrupt};

const REFRESH: Duration = Duration::from_secs(1);
/// Where lines cannot be overwritten, there are fewer of them.
const REFRESH_IN_FILE: Duration = Duration::from_secs(10);

/// What the table shows.
pub(super) struct Table<'a> {
    pub(super) lab: &'a Lab,
    pub(super) members: &'a [Member],
    /// One for each member.
    pub(super) answers: &'a [Answer],
    /// A line below the table, or nothing.
    pub(super) notice: String,
}

impl Table<'_> {
    /// Prints the table, once or until Ctrl-C.
    pub(super) fn show(&self, once: bool) -> Result<()> {
        println!();
        let mut shown = self.text()?;
        println!("{shown}");
        if once {
            return Ok(());
        }
        let hints = hints(self.lab, self.members);
        println!("{hints}");
        let terminal = io::stdout().is_terminal();
        while interrupt::sleep(if terminal { REFRESH } else { REFRESH_IN_FILE }).is_ok() {
            let text = self.text()?;
            if terminal {
                // The whole screen: whatever wraps or does not fit, the next picture starts at the top.
                println!("\x1b[H\x1b[J{text}\n{hints}");
            } else if text != shown {
                println!("{text}");
            }
            shown = text;
        }
        Ok(())
    }

    fn text(&self) -> Result<String> {
        Ok(table(&self.lab.status()?, self.members, self.answers) + &self.notice)
    }
}

/// What to type to see more.
fn hints(lab: &Lab, members: &[Member]) -> String {
    format!(
        "From outside:\n  ip netns exec {} curl http://{}/\nOn the host:\n  {} --netns {} --config {} status\nCtrl-C removes everything.",
        lab.outside().name(),
        members[0].external(),
        lab.envnet().program().display(),
        lab.host().name(),
        lab.configuration_file().display()
    )
}

fn table(status: &Value, members: &[Member], answers: &[Answer]) -> String {
    let header = [
        "env",
        "guest",
        "internal",
        "external",
        "tap",
        "in",
        "out",
        "first answer",
        "page",
    ];
    let mut lines = vec![line(&header.map(str::to_owned))];
    for (member, answer) in members.iter().zip(answers) {
        let Member { environment, role, .. } = member;
        let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let (packets_in, packets_out) = counters::of(status, *environment, role.internal()).unzip();
        lines.push(line(&[
            environment.to_string(),
            role.name.to_owned(),
            role.internal().to_string(),
            member.external().to_string(),
            role.tap(*environment),
            count(packets_in),
            count(packets_out),
            format!("{} ms", answer.delay.as_millis()),
            answer
                .problem
                .as_ref()
                .map_or_else(|| "ok".to_owned(), |problem| format!("FAIL: {problem}")),
        ]));
    }
    lines.concat()
}

fn line(
    [
        environment,
        guest,
        internal,
        external,
        tap,
        packets_in,
        packets_out,
        delay,
        page,
    ]: &[String; 9],
) -> String {
    format!(
        "{environment:>3}  {guest:<8} {internal:<10} {external:<14} {tap:<9} {packets_in:>7} {packets_out:>7} {delay:>13}  {page}\n"
    )
}
