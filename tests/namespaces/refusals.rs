//! Bad input: refused with one clear error before the first change.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Mode,
    addresses::UPSTREAM,
    envnet::{Envnet, Outcome},
    interrupt,
};

use crate::fixture::{attached, detached, refused};

/// A mistake in the configuration: a line, what is written instead, and the key the error must name.
const MISTAKES: [(&str, &str, &str); 16] = [
    ("gateway = \"172.16.0.1\"", "gatewy = \"172.16.0.1\"", "gatewy"),
    ("environments = \"1-2\"", "environments = \"1-256\"", "environments"),
    ("environments = \"1-2\"", "environments = \"0-2\"", "environments"),
    ("environments = \"1-2\"", "environments = \"2-1\"", "environments"),
    ("environments = \"1-2\"", "environments = [1, 1]", "environments"),
    ("environments = \"1-2\"", "environments = \"one\"", "environments"),
    ("address = \"10.0.0.3\"", "address = \"10.0.1.3\"", "vm[1].address"),
    ("address = \"10.0.0.3\"", "address = \"10.0.0.2\"", "vm[1].address"),
    ("address = \"10.0.0.3\"", "address = \"10.0.0.1\"", "vm[1].address"),
    ("address = \"10.0.0.3\"", "address = \"10.0.0.255\"", "vm[1].address"),
    ("name = \"member\"", "name = \"dc\"", "vm[1].name"),
    (
        "mac = \"52:54:00:00:00:03\"",
        "mac = \"52:54:00:00:00:02\"",
        "vm[1].mac",
    ),
    (
        "gateway = \"172.16.0.1\"",
        "gateway = \"172.16.1.254\"",
        "uplink.gateway",
    ),
    (
        "interface = \"eth0\"",
        "interface = \"an-interface-with-a-long-name\"",
        "uplink.interface",
    ),
    ("router = \"10.0.0.1\"", "router = \"10.0.1.1\"", "addresses.router"),
    (
        "external = \"172.16.0.0/16\"",
        "external = \"10.0.0.0/8\"",
        "addresses.external",
    ),
];

#[test]
fn mistakes_in_the_configuration_are_refused_with_line_and_key() -> Result<()> {
    detached(|lab| {
        let right = lab.configuration().to_string();
        for (line, mistake, key) in MISTAKES {
            let number = right
                .lines()
                .position(|text| text == line)
                .with_context(|| format!("no line {line}"))?
                + 1;
            lab.write_configuration(&right.replacen(line, mistake, 1))?;
            let location = format!("envnet.toml:{number}:");
            refused(lab, 2, &[&location, key], || lab.envnet().run("attach")).context(mistake)?;
        }
        Ok(())
    })
}

#[test]
fn a_missing_configuration_is_refused() -> Result<()> {
    detached(|lab| {
        fs::remove_file(lab.configuration_file())?;
        for command in ["attach", "plan", "status", "check"] {
            refused(lab, 2, &["envnet.toml", "--config"], || lab.envnet().run(command)).context(command)?;
        }
        Ok(())
    })
}

#[test]
fn status_says_why_it_was_not_compared_with_the_configuration() -> Result<()> {
    attached(|lab| {
        let right = lab.configuration().to_string();
        for (line, mistake, words) in [
            ("router = ", "rooter = ", ["envnet.toml:10", "rooter"]),
            ("\"eth0\"", "\"eth7\"", ["uplink.interface", "eth7"]),
        ] {
            lab.write_configuration(&right.replacen(line, mistake, 1))?;
            let text = lab.envnet().succeed("status")?;
            let line = text
                .lines()
                .find(|line| line.starts_with("not compared with the configuration: "));
            let line = line.with_context(|| format!("it does not say so: {text}"))?;
            ensure!(words.iter().all(|word| line.contains(word)), "not {words:?}: {line}");
            ensure!(text.contains("172.16.2.3"), "no status: {text}");
        }
        lab.write_configuration(&right)?;
        ensure!(lab.status()?["not_compared"].is_null(), "{}", lab.status()?);
        Ok(())
    })
}

#[test]
fn status_says_why_attach_would_be_refused() -> Result<()> {
    attached(|lab| {
        lab.host().ip("link del vm1.3")?;
        lab.host().ip("link add vm1.3 type bridge")?;
        let planned = lab.envnet().run("plan")?;
        let why = planned.stderr.trim().strip_prefix("envnet: ");
        let why = why.with_context(|| format!("the plan is not refused: {planned:?}"))?;
        ensure!(why.contains("link vm1.3 exists and is not envnet's"), "{why}");
        let status = lab.status()?;
        ensure!(status["not_compared"] == why, "not `{why}`: {status}");
        let text = lab.envnet().succeed("status")?;
        ensure!(text.contains(why), "no `{why}` in {text}");
        lab.host().ip("link del vm1.3")?;
        lab.attach()?;
        ensure!(lab.status()?["not_compared"].is_null(), "{}", lab.status()?);
        Ok(())
    })
}

#[test]
fn hints_are_for_the_host_and_file_at_hand() -> Result<()> {
    detached(|lab| {
        let (netns, file) = (lab.host().name(), lab.configuration_file());
        let again = format!("`envnet --netns {netns} --config {} attach`", file.display());
        let planned = lab.envnet().succeed("plan")?;
        ensure!(planned.contains(&again), "no {again} in {planned}");
        lab.attach()?;
        lab.host().ip("link set vm1.2 down")?;
        let status = lab.envnet().succeed("status")?;
        ensure!(status.contains(&again), "no {again} in {status}");
        Ok(())
    })
}

#[test]
fn an_address_of_the_host_inside_an_environment_is_refused() -> Result<()> {
    detached(|lab| {
        lab.host().ip("address add 172.16.2.9/16 dev eth0")?;
        refused(lab, 1, &["172.16.2.9", "eth0", "environment 2"], || {
            lab.envnet().run("attach")
        })?;
        lab.host().ip("address flush dev eth0").map(drop)
    })
}

#[test]
fn a_host_that_is_the_gateway_cannot_be_barred() -> Result<()> {
    detached(|lab| {
        lab.host().ip(&format!("address add {UPSTREAM}/16 dev eth0"))?;
        lab.configure(lab.configuration().without_host())?;
        refused(lab, 1, &["uplink.gateway", "172.16.0.1", "uplink.host"], || {
            lab.envnet().run("attach")
        })?;
        lab.host().ip("address flush dev eth0").map(drop)
    })
}

#[test]
fn an_uplink_that_cannot_be_used_is_refused() -> Result<()> {
    detached(|lab| {
        let attach = || lab.envnet().run("attach");
        let right = lab.configuration();
        lab.configure(right.clone().uplink("eth7"))?;
        refused(lab, 1, &["uplink.interface", "eth7"], attach).context("missing")?;
        lab.configure(right.clone())?;
        lab.host().ip("link set eth0 down")?;
        refused(lab, 1, &["uplink.interface", "eth0", "down"], attach).context("down")?;
        lab.host().ip("link set eth0 up")?;
        interrupt::wait_for("eth0 up", Duration::from_secs(2), || {
            Ok(lab.host().ip("link show eth0")?.contains("state UP").then_some(()))
        })?;
        lab.configure(right.clone().mode(Mode::Bridge).uplink("eth0"))?;
        refused(lab, 1, &["uplink.interface", "eth0", "not a bridge"], attach).context("not a bridge")?;
        lab.configure(right)?;
        lab.host().ip("link add br0 type bridge")?;
        lab.host().ip("link set eth0 master br0")?;
        refused(lab, 1, &["uplink.interface", "eth0", "br0"], attach).context("port of a bridge")?;
        lab.host().ip("link del br0").map(drop)
    })
}

#[test]
fn foreign_objects_with_wanted_names_are_left_alone() -> Result<()> {
    detached(|lab| {
        for (make, name) in [
            ("link add br1 type bridge", "br1"),
            ("link add vm2.3 type bridge", "vm2.3"),
            ("link add peer1-br2 type bridge", "peer1-br2"),
        ] {
            lab.host().ip(make)?;
            refused(lab, 1, &[name], || lab.envnet().run("attach")).context(make)?;
            lab.detach()?;
            lab.host()
                .ip(&format!("link show {name}"))
                .context("detach removed what is not envnet's")?;
            lab.host().ip(&format!("link del {name}"))?;
        }
        let name = format!("{}-ns2", lab.host().name());
        let _foreign = envnet_lab::namespace::Namespace::create(&name)?;
        refused(lab, 1, &[&name], || lab.envnet().run("attach"))?;
        lab.detach()?;
        envnet_lab::namespace::Namespace::open(&name).map(drop)
    })
}

#[test]
fn an_unknown_namespace_is_refused() -> Result<()> {
    detached(|lab| {
        let envnet = Envnet::find("no-such-namespace", &lab.configuration_file(), None)?;
        refused(lab, 1, &["no-such-namespace"], || envnet.run("attach"))
    })
}

#[test]
fn without_privileges_nothing_is_tried() -> Result<()> {
    use std::os::unix::process::CommandExt;
    detached(|lab| {
        // Where the program is built, others may not be able to read it.
        let program = lab.directory().path().join("envnet");
        fs::copy(lab.envnet().program(), &program)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let configuration = lab.directory().path().join("readable.toml");
        fs::copy(lab.configuration_file(), &configuration)?;
        fs::set_permissions(lab.directory().path(), fs::Permissions::from_mode(0o755))?;
        let run = |verb: &str| {
            let mut command = envnet_lab::process::command(&program);
            command
                .arg("--netns")
                .arg(lab.host().name())
                .arg("--config")
                .arg(&configuration)
                .arg(verb);
            let output = envnet_lab::process::wait(command.uid(65_534).gid(65_534))?;
            Ok(Outcome {
                status: output.status.code(),
                stdout: String::from_utf8(output.stdout)?,
                stderr: String::from_utf8(output.stderr)?,
            })
        };
        for verb in ["attach", "detach", "plan", "status"] {
            refused(lab, 1, &["takes root", "sudo", verb], || run(verb)).context(verb)?;
        }
        let checked = run("check")?;
        ensure!(checked.status == Some(0), "{checked:?}");
        Ok(())
    })
}
