//! Real virtual machines, cloned from one memory snapshot per role into two environments. Needs root, QEMU, and the
//! folder of guest assets that `cargo xtask setup` fetches, named by `ENVNET_LAB_ASSETS`.

use std::{
    env, fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Configuration, Lab,
    addresses::{self, ROLES, Role, UPSTREAM},
    http,
    parallel::in_parallel,
    ping::ping,
    process::output,
    qemu::{Accelerator, Assets, Image, Machine, Snapshot},
};

/// A clone that was just resumed runs translated code for the first time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Environments in the laboratory.
const ENVIRONMENTS: [u8; 2] = [1, 2];

/// A laboratory with a snapshot of each role, taken in environment 1.
struct Templates {
    // Before the laboratory, in whose folder the files are.
    snapshots: Vec<(Role, Snapshot)>,
    lab: Lab,
}

impl Templates {
    fn make() -> Result<Self> {
        let assets = env::var_os("ENVNET_LAB_ASSETS")
            .context("ENVNET_LAB_ASSETS must name the folder with the guests' kernel; `cargo xtask test` sets it")?;
        let lab = Lab::new(Configuration::default())?;
        let image = Image::build(&Assets::open(&PathBuf::from(assets))?, lab.directory().path())?;
        let accelerator = Accelerator::detect(&image)?;
        lab.attach()?;
        let snapshots = in_parallel(ROLES, |role| {
            let mut template = lab.boot(1, role, &image, accelerator)?;
            template.wait_until_ready()?;
            Ok((role, template.save(&lab.directory().path().join(role.name))?))
        })?;
        Ok(Self { snapshots, lab })
    }

    /// A clone that stands still until it is resumed.
    fn clone(&self, environment: u8, role: Role) -> Result<Machine> {
        let snapshot = self
            .snapshots
            .iter()
            .find(|(of, _)| *of == role)
            .map(|(_, snapshot)| snapshot);
        let snapshot = snapshot.with_context(|| format!("no snapshot of {}", role.name))?;
        let mut machine = Machine::restore(self.lab.host(), &role.tap(environment), snapshot)?;
        machine.wait_until_restored()?;
        Ok(machine)
    }

    fn ping(&self, target: Ipv4Addr) -> Result<Option<Duration>> {
        ping(self.lab.outside(), target, 56, PATIENCE)
    }
}

#[test]
fn every_clone_is_reached_at_its_own_address() -> Result<()> {
    let templates = Templates::make()?;
    let mut clones = Vec::new();
    for environment in ENVIRONMENTS {
        for role in ROLES {
            let token = format!("token-of-{environment}-{}", role.name);
            clones.push((environment, role, token, templates.clone(environment, role)?));
        }
    }
    for (environment, role, _, machine) in &mut clones {
        machine.resume()?;
        // One packet, not several until one is answered.
        let answer = templates.ping(role.external(*environment))?;
        answer.with_context(|| format!("no answer to the first packet for {} {environment}", role.name))?;
    }
    in_parallel(&mut clones, |(_, _, token, machine)| machine.set_token(token))?;
    in_parallel(&mut clones, |(_, role, _, machine)| {
        machine.visit_sibling(role.sibling().internal())
    })?;
    for (environment, role, token, machine) in &mut clones {
        let page = http::get(templates.lab.outside(), role.external(*environment), PATIENCE)?;
        let sibling = format!("token-of-{environment}-{}", role.sibling().name);
        let expected = format!(
            "token {token}\nrole {}\naddress {}\nsibling {sibling}\n",
            role.name,
            role.internal()
        );
        ensure!(page == expected, "page of {} {environment}: {page:?}", role.name);
        for target in [
            UPSTREAM,
            addresses::REMOTE,
            role.external(3 - *environment),
            role.external(*environment),
        ] {
            let output = machine.run(&format!("ping -c 1 -W 5 {target}"))?;
            ensure!(
                output.contains("1 packets received"),
                "{} {environment} to {target}: {output}",
                role.name
            );
        }
    }
    drop(clones);
    templates.lab.check_no_leak()?;
    Ok(())
}

#[test]
fn clones_asked_for_before_they_run_answer_the_first_packet_after() -> Result<()> {
    let templates = Templates::make()?;
    let [dc, member] = ROLES;
    // While there is no guest at all, then while it is there but stands still.
    ensure!(
        templates.lab.ping(dc.external(2))?.is_none(),
        "something answers for a guest that is not there"
    );
    let mut clone = templates.clone(2, dc)?;
    ensure!(
        templates.lab.ping(dc.external(2))?.is_none(),
        "a guest that stands still answers"
    );
    clone.resume()?;
    templates
        .ping(dc.external(2))?
        .context("no answer to the first packet after the resume")?;
    // Whoever lived here before is replaced by a clone with the same addresses: the template's own place.
    let mut first = templates.clone(1, member)?;
    first.resume()?;
    templates
        .ping(member.external(1))?
        .context("no answer from the first clone")?;
    drop(first);
    let mut second = templates.clone(1, member)?;
    second.resume()?;
    templates
        .ping(member.external(1))?
        .context("no answer from the clone that replaced it")?;
    let output = second.run(&format!("ping -c 1 -W 5 {UPSTREAM}"))?;
    ensure!(
        output.contains("1 packets received"),
        "the clone does not reach the outside: {output}"
    );
    drop((clone, second));
    templates.lab.check_no_leak()?;
    Ok(())
}

/// Bytes of a transfer: hundreds of segments as large as virtio's offload lets the guest make them.
const BULK: u64 = 8 << 20;

#[test]
fn bulk_data_survives_virtio_checksum_and_segmentation_offload() -> Result<()> {
    let templates = Templates::make()?;
    let [dc, _] = ROLES;
    let mut clone = templates.clone(2, dc)?;
    clone.resume()?;
    templates.ping(dc.external(2))?.context("no answer from the clone")?;
    let outside = templates.lab.outside();
    let received = templates.lab.directory().path().join("received");

    // Out of the guest: a file that it made up and whose sum it knows.
    let made = clone.run(&format!(
        "head -c {BULK} /dev/urandom >/www/noise; sha256sum /www/noise"
    ))?;
    outside.run(|| {
        let mut stream = TcpStream::connect_timeout(&(dc.external(2), 80).into(), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /noise HTTP/1.0\r\n\r\n")?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        let body = reply
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n")
            .context("no HTTP reply")?;
        Ok(fs::write(&received, &reply[body + 4..])?)
    })?;
    ensure!(
        sum(&made)? == sum(&sha256sum(&received)?)?,
        "the guest's file arrived changed"
    );

    // And back into it.
    let listener = outside.run(|| Ok(TcpListener::bind((UPSTREAM, 0))?))?;
    let port = listener.local_addr()?.port();
    let got = thread::scope(|scope| {
        let sender = scope.spawn(|| -> Result<()> {
            let (mut stream, _) = listener.accept()?;
            std::io::copy(&mut fs::File::open(&received)?, &mut stream)?;
            Ok(())
        });
        let got = clone.run(&format!("nc {UPSTREAM} {port} </dev/null | sha256sum"));
        if got.is_err() {
            // Nobody may have connected; the sender waits for somebody.
            drop(outside.run(|| Ok(TcpStream::connect((UPSTREAM, port))?)));
        }
        sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        got
    })?;
    ensure!(sum(&got)? == sum(&made)?, "what went into the guest arrived changed");
    drop(clone);
    templates.lab.check_no_leak()?;
    Ok(())
}

fn sha256sum(file: &Path) -> Result<String> {
    output(Command::new("sha256sum").arg(file))
}

/// The sum in what `sha256sum` prints.
fn sum(printed: &str) -> Result<&str> {
    let sum = printed.split_ascii_whitespace().find(|word| word.len() == 64);
    sum.with_context(|| format!("no sum in {printed:?}"))
}
