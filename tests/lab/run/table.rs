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

pub(super) fn show(lab: &Lab, members: &[Member], answers: &[Answer], once: bool) -> Result<()> {
    println!();
    let table = table(&lab.status()?, members, answers);
    println!("{table}");
    if once {
        return Ok(());
    }
    let host = lab.host().name();
    println!(
        "From outside:  ip netns exec {} curl http://{}/",
        lab.outside().name(),
        members[0].external()
    );
    let (program, file) = (lab.envnet().program().display(), lab.configuration());
    println!(
        "On the host:   {program} --netns {host} --config {} status",
        file.display()
    );
    println!("Ctrl-C removes everything.");
    let overwrite = io::stdout().is_terminal();
    let lines = table.lines().count() + 4;
    while interrupt::sleep(if overwrite { REFRESH } else { REFRESH_IN_FILE }).is_ok() {
        let table = self::table(&lab.status()?, members, answers);
        if overwrite {
            // Back to the table's first line, then past the explanations again.
            println!("\x1b[{lines}A{table}\x1b[3B");
        } else {
            println!("{table}");
        }
    }
    Ok(())
}

fn table(status: &Value, members: &[Member], answers: &[Answer]) -> String {
    let header = [
        "env",
        "guest",
        "internal",
        "external",
        "tap",
        "packets in",
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
        "{environment:>3}  {guest:<8} {internal:<10} {external:<14} {tap:<9} {packets_in:>10} {packets_out:>8} {delay:>13}  {page}\n"
    )
}
