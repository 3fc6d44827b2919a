//! The laboratory itself leaves nothing behind, however it ends.

use std::{
    env, fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use envnet_lab::{interrupt, namespace, process::Process};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Ending takes a detach and the removal of a few namespaces.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts `envnet-lab run` with namespace guests.
fn start() -> Result<Process> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_envnet-lab"));
    command
        .args(["run", "--guests", "netns"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Process::start(command)
}

/// Sends the signal and waits for the process's end.
fn end(process: &mut Process, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(process.child().id())?), signal)?;
    interrupt::wait_for("the laboratory's end", PATIENCE, || process.ended()).map(drop)
}

/// Namespaces, folders and pins named after that process.
fn remains(pid: u32) -> Result<Vec<String>> {
    let name = format!("envnet-lab-{pid}");
    let mut found: Vec<String> = namespace::names()?;
    for directory in [env::temp_dir(), "/sys/fs/bpf/envnet".into()] {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            found.push(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    found.retain(|found| found.contains(&name));
    Ok(found)
}

#[test]
fn an_interrupted_laboratory_leaves_nothing() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        for delay in [20, 100, 300, 1500].map(Duration::from_millis) {
            let mut laboratory = start()?;
            thread::sleep(delay);
            end(&mut laboratory, signal)?;
            let remains = remains(laboratory.child().id())?;
            ensure!(
                remains.is_empty(),
                "{signal} after {} ms leaves {remains:?}",
                delay.as_millis()
            );
        }
    }
    Ok(())
}

#[test]
fn a_killed_laboratory_is_cleared_by_the_next() -> Result<()> {
    let mut laboratory = start()?;
    thread::sleep(Duration::from_secs(1));
    let killed = laboratory.child().id();
    ensure!(!remains(killed)?.is_empty(), "the laboratory has not even begun");
    end(&mut laboratory, Signal::SIGKILL)?;
    let status = Command::new(env!("CARGO_BIN_EXE_envnet-lab"))
        .args(["run", "--guests", "netns", "--once"])
        .stdout(Stdio::null())
        .status()
        .context("envnet-lab")?;
    ensure!(status.success(), "the next laboratory failed: {status}");
    let remains = remains(killed)?;
    ensure!(remains.is_empty(), "still there: {remains:?}");
    Ok(())
}
