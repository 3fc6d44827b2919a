//! Several commands at once: they take turns.

use std::{io::Read as _, process::Stdio, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Lab,
    faults::{self, Effect, Kind},
    fixture::{converged, detached, restored},
    interrupt,
    process::Process,
    snapshot,
};

/// At which change the first command is stopped: some of the environment is there by then.
const HALFWAY: usize = 150;
/// Longer than any of the commands would take if it did not wait.
const PAUSE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_second_command_waits_for_the_first() -> Result<()> {
    detached(|lab| {
        let before = snapshot::of_host(lab)?;
        let said = during_attach(lab, "--json attach")?;
        ensure!(
            said.contains("\"changes\":0"),
            "the second attach found half of the first: {said}"
        );
        converged(lab)?;
        lab.detach()?;
        let said = during_attach(lab, "--json plan")?;
        ensure!(
            said.contains("\"changes\":[]"),
            "the plan saw half of an attach: {said}"
        );
        lab.detach()?;
        let said = during_attach(lab, "--json status")?;
        ensure!(
            !said.contains("\"intact\":false"),
            "the status saw half of an attach: {said}"
        );
        lab.detach()?;
        during_attach(lab, "detach")?;
        restored(lab, &before)
    })
}

/// Starts a command when an `attach` is half-way, fails unless it waits and then succeeds, and returns what it says.
fn during_attach(lab: &Lab, arguments: &str) -> Result<String> {
    let (mut changes, mut second) = (0, None);
    let first = faults::watch(lab.envnet(), "attach", |call| {
        changes += usize::from(call.kind == Kind::Change);
        if changes == HALFWAY && second.is_none() {
            let mut process = start(lab, arguments)?;
            thread::sleep(PAUSE);
            ensure!(process.ended()?.is_none(), "`envnet {arguments}` did not wait");
            second = Some(process);
        }
        Ok(Effect::Proceed)
    })?;
    ensure!(first.outcome.status == Some(0), "{}", first.outcome.stderr);
    end(
        second.with_context(|| format!("attach made only {changes} changes"))?,
        arguments,
    )
}

#[test]
fn commands_that_are_started_together_all_succeed() -> Result<()> {
    detached(|lab| {
        let names = [
            "attach", "status", "attach", "detach", "plan", "attach", "status", "detach",
        ];
        let commands: Vec<_> = names.iter().map(|name| start(lab, name)).collect::<Result<_>>()?;
        for (command, name) in commands.into_iter().zip(names) {
            end(command, name)?;
        }
        converged(lab)
    })
}

fn start(lab: &Lab, arguments: &str) -> Result<Process> {
    let mut command = lab.envnet().command();
    command
        .args(arguments.split_ascii_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    Process::start(command)
}

fn end(mut process: Process, arguments: &str) -> Result<String> {
    let what = format!("`envnet {arguments}`");
    let status = interrupt::wait_for(&what, PATIENCE, || process.ended())?;
    ensure!(status.success(), "{what} ended with {status}");
    let mut said = String::new();
    process
        .child()
        .stdout
        .take()
        .context("no pipe")?
        .read_to_string(&mut said)?;
    Ok(said)
}
