//! `packaging/envnet.service`: its commands do what they are to do within its bounds. systemd itself is only asked about the
//! file, because there may be none at work; the bounds are set as systemd would.

mod bounds;
mod unit;

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Configuration, Lab, Mode,
    addresses::{ROLES, UPSTREAM},
    envnet::Outcome,
    fixture::{detached, detached_with},
    process, snapshot,
};

use self::{bounds::Bounds, unit::Unit};

/// What systemd's assessment of the exposure must not exceed, times ten. A service that changes the whole host's network and
/// its mounts cannot be hidden from the host.
const EXPOSURE: u8 = 45;

/// Options that give the service a mount namespace of its own (systemd.exec(5)), or would with the next version.
const PRIVATE_MOUNTS: [&str; 20] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "InaccessiblePaths",
    "MountFlags",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateTmp",
    "ProcSubset",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "TemporaryFileSystem",
];

/// Runs one of the unit's commands in a laboratory, within bounds.
fn run(lab: &Lab, command: &[String], bounds: &Bounds) -> Result<Outcome> {
    let configuration = lab.configuration_file();
    let (program, arguments) = command.split_first().context("no command")?;
    ensure!(program == "/usr/bin/envnet", "{program} is another program");
    let mut process = process::command(lab.envnet().program());
    process.arg("--netns").arg(lab.host().name());
    for argument in arguments {
        match argument.as_str() {
            "/etc/envnet/envnet.toml" => process.arg(&configuration),
            _ => process.arg(argument),
        };
    }
    outcome(bounds.apply(&mut process))
}

fn outcome(command: &mut Command) -> Result<Outcome> {
    let output = process::wait(command)?;
    Ok(Outcome {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn succeed(lab: &Lab, command: &[String], bounds: &Bounds) -> Result<String> {
    let outcome = run(lab, command, bounds)?;
    ensure!(
        outcome.status == Some(0) && outcome.stderr.is_empty(),
        "{command:?}: {outcome:?}"
    );
    Ok(outcome.stdout)
}

#[test]
fn systemd_finds_no_fault_in_the_unit() -> Result<()> {
    let directory = envnet_lab::directory::Directory::create(&format!("envnet-lab-{}-unit", std::process::id()))?;
    let path = directory.path().join("envnet.service");
    // systemd looks whether the program is there.
    let own = std::env::current_exe()?;
    let own = own.to_str().context("the path of this program")?;
    fs::write(&path, unit::TEXT.replace("/usr/bin/envnet", own))?;
    let analyze = |arguments: &[&str]| process::output(Command::new("systemd-analyze").args(arguments).arg(&path));
    let said = analyze(&["verify", "--man=no"])?;
    ensure!(said.is_empty(), "{said}");
    let threshold = format!("--threshold={EXPOSURE}");
    analyze(&["security", "--offline=true", "--no-pager", &threshold]).map(drop)
}

#[test]
fn nothing_in_the_unit_gives_it_mounts_of_its_own() -> Result<()> {
    let unit = Unit::read()?;
    for option in PRIVATE_MOUNTS {
        ensure!(unit.all(option).is_empty(), "{option} would hide envnet's mounts");
    }
    Ok(())
}

#[test]
fn the_units_commands_work_within_its_bounds() -> Result<()> {
    let unit = Unit::read()?;
    let bounds = Bounds::of(&unit)?;
    for configuration in [
        Configuration::default(),
        Configuration::default().accelerate("xdp"),
        Configuration::default().accelerate("off"),
        Configuration::default().mode(Mode::Bridge),
    ] {
        detached_with(configuration.tap_owner("nobody", ""), |lab| {
            let before = snapshot::of_host(lab)?;
            succeed(lab, &unit.command("ExecStart")?, &bounds)?;
            let [dc, member] = ROLES;
            let guests = [lab.guest(1, dc)?, lab.guest(2, member)?];
            ensure!(lab.ping(dc.external(1))?.is_some(), "no answer to the outside");
            ensure!(
                guests[0].ping(UPSTREAM)?.is_some(),
                "the outside does not answer a guest"
            );
            ensure!(
                guests[1].ping(dc.external(1))?.is_some(),
                "no answer to another environment"
            );
            let reloaded = succeed(lab, &unit.command("ExecReload")?, &bounds)?;
            ensure!(reloaded.contains("no change"), "the reload says: {reloaded}");
            // Once more without the bounds: what they have kept from being made is made now.
            ensure!(lab.envnet().changes("attach")? == 0, "something was missing");
            drop(guests);
            succeed(lab, &unit.command("ExecStop")?, &bounds)?;
            let after = snapshot::of_host(lab)?;
            ensure!(
                before == after,
                "the stop has left:\n{}",
                snapshot::difference(&before, &after)
            );
            Ok(())
        })?;
    }
    Ok(())
}

/// What the test sets is what the unit says, or passing within it would mean nothing.
#[test]
fn the_bounds_are_bounds() -> Result<()> {
    let bounds = Bounds::of(&Unit::read()?)?;
    for (command, allowed) in [
        ("true", true),
        ("ip link show lo", true),
        ("unshare --net true", true),
        ("unshare --uts true", false),
        ("unshare --mount true", false),
        ("chroot / true", false),
        ("chown 1 /proc/self/comm", false),
        ("exec 3<>/dev/udp/127.0.0.1/9", false),
    ] {
        let mut shell = process::command("bash");
        let outcome = outcome(bounds.apply(shell.args(["-c", command])))?;
        ensure!((outcome.status == Some(0)) == allowed, "{command}: {outcome:?}");
    }
    Ok(())
}

#[test]
fn a_missing_capability_is_named_before_the_first_change() -> Result<()> {
    let unit = Unit::read()?;
    let capabilities = unit.words("CapabilityBoundingSet");
    ensure!(!capabilities.is_empty(), "the unit bounds no capabilities");
    detached(|lab| {
        for missing in &capabilities {
            let before = snapshot::of_host(lab)?;
            let bounds = Bounds::of(&unit)?.without(missing)?;
            for command in ["ExecStart", "ExecStop"] {
                let outcome = run(lab, &unit.command(command)?, &bounds)?;
                ensure!(outcome.status == Some(1), "without {missing}: {outcome:?}");
                ensure!(
                    outcome.stderr.lines().count() == 1
                        && outcome.stderr.contains(missing)
                        && outcome.stderr.contains("CapabilityBoundingSet"),
                    "without {missing}: {}",
                    outcome.stderr
                );
            }
            ensure!(
                before == snapshot::of_host(lab)?,
                "something was changed without {missing}"
            );
        }
        Ok(())
    })
}

/// A start that is killed half-way has no stop; what comes after it looks at how it ended.
#[test]
fn what_a_killed_start_leaves_is_removed() -> Result<()> {
    let unit = Unit::read()?;
    let bounds = Bounds::of(&unit)?;
    let lines = unit.all("ExecStopPost");
    let script = lines
        .first()
        .and_then(|line| line.strip_prefix("/bin/sh -c '")?.strip_suffix('\''));
    let script = script.context("no script")?.replace("$$", "$");
    detached(|lab| {
        // The service may not look into everybody's home, where the build may be.
        let program = lab.directory().path().join("envnet");
        fs::copy(lab.envnet().program(), &program)?;
        let envnet = format!("{} --netns {}", program.display(), lab.host().name());
        let script = script.replace("/usr/bin/envnet", &envnet);
        let after = |result: &str| -> Result<u64> {
            let mut shell = process::command("/bin/sh");
            let shell = shell.args(["-c", &script]).env("SERVICE_RESULT", result);
            let outcome = outcome(bounds.apply(shell))?;
            ensure!(outcome.status == Some(0), "{result}: {outcome:?}");
            lab.envnet().changes("attach")
        };
        lab.attach()?;
        for result in ["success", "exit-code"] {
            ensure!(after(result)? == 0, "after {result}, something was removed");
        }
        for result in ["signal", "timeout", "core-dump", "oom-kill"] {
            ensure!(after(result)? > 0, "after {result}, nothing was removed");
        }
        Ok(())
    })
}

/// What may come later is tried again (exit status 1), what stays wrong is not (2).
#[test]
fn what_may_come_later_is_tried_again() -> Result<()> {
    let unit = Unit::read()?;
    let bounds = Bounds::of(&unit)?;
    ensure!(unit.words("Restart") == ["on-failure"], "nothing is tried again");
    ensure!(
        unit.words("RestartPreventExitStatus") == ["2"],
        "what is not tried again"
    );
    detached(|lab| {
        let right = lab.configuration();
        let start = |text: &str| {
            lab.write_configuration(text)?;
            run(lab, &unit.command("ExecStart")?, &bounds)
        };
        for (text, status, word) in [
            (right.clone().uplink("eth7").to_string(), 1, "eth7"),
            (right.clone().tap_owner("nobody-yet", "").to_string(), 1, "nobody-yet"),
            (
                right.to_string().replace("environments", "enviroments"),
                2,
                "enviroments",
            ),
        ] {
            let outcome = start(&text)?;
            ensure!(
                outcome.status == Some(status) && outcome.stderr.contains(word),
                "{outcome:?}"
            );
        }
        lab.host().ip("link set eth0 down")?;
        let outcome = start(&right.to_string())?;
        ensure!(
            outcome.status == Some(1) && outcome.stderr.contains("is down"),
            "{outcome:?}"
        );
        lab.host().ip("link set eth0 up")?;
        let outcome = start(&right.to_string())?;
        ensure!(outcome.status == Some(0), "{outcome:?}");
        Ok(())
    })
}

/// As with one of the options that the unit leaves out.
#[test]
fn a_private_mount_namespace_is_refused() -> Result<()> {
    detached(|lab| {
        let before = snapshot::of_host(lab)?;
        let mut command = process::command("unshare");
        command.args(["--mount", "--propagation", "slave", "--"]);
        command
            .arg(lab.envnet().program())
            .arg("--netns")
            .arg(lab.host().name());
        command.arg("--config").arg(lab.configuration_file()).arg("attach");
        let outcome = outcome(&mut command)?;
        ensure!(
            outcome.status == Some(1) && outcome.stderr.contains("private mount namespace"),
            "{outcome:?}"
        );
        ensure!(before == snapshot::of_host(lab)?, "something was changed");
        Ok(())
    })
}
