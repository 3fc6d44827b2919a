//! What the programs write when somebody reads their log.

use std::{fs::File, io::Read as _, time::Duration};

use anyhow::{Context, Result, ensure};
use envnet_lab::{Lab, addresses, fixture::attached_slowly, interrupt, ping::ping, process::Process};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const PATIENCE: Duration = Duration::from_secs(5);
/// Nobody's address in environment 1.
const UNMAPPED: u8 = 77;

#[test]
fn drops_are_written_until_the_reader_goes() -> Result<()> {
    attached_slowly(|lab| {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            reads(lab, signal).with_context(|| signal.to_string())?;
        }
        Ok(())
    })
}

fn reads(lab: &Lab, signal: Signal) -> Result<()> {
    let path = lab.directory().path().join("log");
    let file = File::create(&path)?;
    let mut command = lab.envnet().command();
    command.args(["status", "--log"]).stdout(file.try_clone()?).stderr(file);
    let mut process = Process::start(command)?;
    let target = addresses::external(1, UNMAPPED);
    // Known by hand, so that the packet is sent although nobody answers for the address.
    let router_wan = lab.router(1)?.mac("gw1")?;
    lab.outside().ip(&format!(
        "neighbour replace {target} lladdr {router_wan} dev eth0 nud permanent"
    ))?;
    let expected = format!("to {target}");
    interrupt::wait_for("a line about the drop", PATIENCE, || {
        ensure!(process.ended()?.is_none(), "the reader has ended: {}", text(&path)?);
        ping(lab.outside(), target, 56, Duration::from_millis(50))?;
        let text = text(&path)?;
        Ok(text
            .lines()
            .any(|line| line.contains("reason 9") && line.contains(&expected))
            .then_some(()))
    })?;
    ensure!(
        lab.status()?["logging"] == 1,
        "status does not say that the programs log"
    );
    kill(Pid::from_raw(process.child().id().cast_signed()), signal)?;
    let status = interrupt::wait_for("the reader's end", PATIENCE, || process.ended())?;
    ensure!(status.success(), "the reader ended with {status}");
    ensure!(lab.status()?["logging"] == 0, "the programs still log");
    Ok(())
}

fn text(path: &std::path::Path) -> Result<String> {
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}
