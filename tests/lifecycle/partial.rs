//! Attaching and detaching a part of the environments: the others stay as they are, and nothing is left of what goes.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use envnet::{kernel::pinned_maps::PinnedMaps, names::Instance};
use envnet_common::Address;
use envnet_lab::{
    Configuration, Lab,
    addresses::{self, ROLES},
    capture::{Capture, Frame},
    configuration::Vm,
    fixture::{attached_with, detached, detached_with},
    guest::Guest,
    interrupt, snapshot,
};
use nix::net::if_::{Interface, if_nameindex};

use crate::flood::{Flood, with};

/// The numbers of the environments that `status` shows.
fn shown(lab: &Lab) -> Result<Vec<u64>> {
    let status = lab.status()?;
    let environments = status["environments"]
        .as_array()
        .context("no environments in the status")?;
    let number = |environment: &serde_json::Value| environment["environment"].as_u64();
    environments
        .iter()
        .map(|each| number(each).context("no number"))
        .collect()
}

/// What a snapshot says of one environment.
fn of_environment(snapshot: &str, number: u8) -> Vec<&str> {
    let names = [
        format!(" br{number}"),
        format!("peer1-br{number}"),
        format!("vm{number}."),
        format!("-ns{number}"),
    ];
    let lines = snapshot.lines();
    lines
        .filter(|line| names.iter().any(|name| line.contains(name)))
        .collect()
}

#[test]
fn a_part_is_attached_and_detached_alone() -> Result<()> {
    detached_with(Configuration::of(3), |lab| {
        let [dc, _] = ROLES;
        let envnet = lab.envnet();
        let nothing = envnet.succeed("detach --environments 1-3")?;
        ensure!(
            nothing.contains("nothing is attached of environments 1-3: no change"),
            "{nothing}"
        );

        let planned = envnet.succeed("plan --environments 2")?;
        ensure!(
            planned.contains("environment 2") && !planned.contains("environment 1"),
            "{planned}"
        );
        let headings = planned.lines().filter(|line| !line.starts_with(' ')).count();
        ensure!(
            headings == 3,
            "not one heading for all, one for environment 2 and an end: {planned}"
        );
        ensure!(envnet.changes("attach --environments 2")? > 0, "nothing was attached");
        ensure!(shown(lab)? == [2], "not environment 2 alone: {:?}", shown(lab)?);
        let text = envnet.succeed("status")?;
        ensure!(text.contains("not attached: environments 1, 3"), "{text}");
        let guest = lab.guest(2, dc)?;
        ensure!(lab.ping(dc.external(2))?.is_some(), "no answer from environment 2");

        // The kernel's link watch takes up to a second to say that a link is up.
        interrupt::sleep(Duration::from_millis(1500))?;
        let before = snapshot::of_host(lab)?;
        ensure!(envnet.changes("attach --environments 1,3")? > 0, "nothing was attached");
        let now = snapshot::of_host(lab)?;
        let [before, now] = [&before, &now].map(|snapshot| of_environment(snapshot, 2).join("\n"));
        ensure!(
            before == now,
            "environment 2 was changed:\n{}",
            snapshot::difference(&before, &now)
        );
        ensure!(envnet.changes("attach")? == 0, "the parts are not the whole");

        // Environment 3 is not in the file any more, and the machines are others: of that, only the part is done.
        lab.configure(Configuration::of(2).machine(Vm {
            name: "new".to_owned(),
            address: addresses::internal(9),
            mac: None,
        }))?;
        ensure!(envnet.changes("attach --environments 1")? > 0, "nothing was changed");
        ensure!(shown(lab)? == [1, 2, 3], "an environment is gone: {:?}", shown(lab)?);
        let links = lab.host().ip("-brief link show")?;
        ensure!(links.contains("vm1.9") && !links.contains("vm2.9"), "{links}");

        let missing = envnet.run("attach --environments 2-4")?;
        ensure!(
            missing.status == Some(2) && missing.stderr.contains("has no environments 3-4"),
            "{missing:?}"
        );
        let wrong = envnet.run("attach --environments 3-1")?;
        ensure!(
            wrong.status == Some(2) && wrong.stderr.contains("backwards"),
            "{wrong:?}"
        );

        ensure!(envnet.changes("detach --environments 1,3")? > 0, "nothing was detached");
        ensure!(
            envnet.changes("detach --environments 1,3")? == 0,
            "not all was detached"
        );
        ensure!(shown(lab)? == [2], "not environment 2 alone: {:?}", shown(lab)?);
        ensure!(
            guest.ping(addresses::UPSTREAM)?.is_some(),
            "environment 2 has lost the outside"
        );
        drop(guest);
        let last = envnet.succeed("detach --environments 2")?;
        ensure!(last.contains("environment 2 detached"), "{last}");
        let text = envnet.succeed("status")?;
        ensure!(text.starts_with("nothing is attached"), "{text}");
        ensure!(
            lab.envnet().changes("detach")? == 0,
            "with the last environment not everything went"
        );
        Ok(())
    })
}

#[test]
fn a_part_that_concerns_the_others_is_refused() -> Result<()> {
    attached_with(Configuration::of(3), |lab| {
        let right = lab.configuration();
        for other in [
            right.clone().without_next_hop(),
            right.clone().accelerate("off"),
            right.clone().accelerate("xdp"),
        ] {
            lab.configure(other)?;
            let refused = lab.envnet().run("attach --environments 2")?;
            ensure!(refused.status == Some(1), "{refused:?}");
            for word in ["environments 1, 3", "[uplink]", "without --environments"] {
                ensure!(refused.stderr.contains(word), "no {word} in {}", refused.stderr);
            }
        }
        lab.configure(right)?;
        ensure!(lab.envnet().changes("attach")? == 0, "something was changed");
        Ok(())
    })
}

/// The uplink's programs are told of all environments.
#[test]
fn a_fast_path_is_for_all_environments_or_for_none() -> Result<()> {
    detached(|lab| {
        let fast = lab.configuration();
        lab.configure(fast.clone().accelerate("off"))?;
        lab.envnet().changes("attach --environments 2")?;
        lab.configure(fast)?;
        let refused = lab.envnet().run("attach --environments 1")?;
        ensure!(refused.status == Some(1), "{refused:?}");
        for word in ["environment 2", "[uplink]", "without --environments"] {
            ensure!(refused.stderr.contains(word), "no {word} in {}", refused.stderr);
        }
        lab.attach()?;
        lab.envnet().changes("detach --environments 1")?;
        ensure!(
            lab.envnet().changes("attach --environments 2")? == 0,
            "the other one is as it was"
        );
        Ok(())
    })
}

/// What the maps still have of an environment, or of one of its addresses when it is said.
pub(crate) fn left(lab: &Lab, number: u32, internal: Option<Ipv4Addr>) -> Result<Vec<String>> {
    let maps = PinnedMaps::open(&Instance::Named(lab.host().name().to_owned()))?.context("the maps are gone")?;
    let internal = internal.map(Address::from);
    let mut left = Vec::new();
    let mut look = |table: &str, environment: u32, address: Option<Address>| {
        if environment == number && internal.is_none_or(|internal| address == Some(internal)) {
            left.push(format!("{table}: {address:?}"));
        }
    };
    for entry in &maps.environments {
        look("environments", entry?.1.number, None);
    }
    for entry in &maps.router_wans {
        look("router WAN ports", entry?.1, None);
    }
    for key in maps.mappings.keys() {
        let key = key?;
        look("mappings", key.environment, Some(key.internal));
    }
    for key in maps.counters.keys() {
        let key = key?;
        look("counters", key.environment, Some(key.internal));
    }
    for key in maps.drops.keys() {
        let key = key?;
        look("drops", key.environment, Some(key.internal));
    }
    for entry in &maps.ports {
        let (_, port) = entry?;
        look("ports", port.environment.number, Some(port.internal));
    }
    for entry in &maps.endpoints {
        let (_, endpoint) = entry?;
        look("endpoints", endpoint.environment.number, Some(endpoint.internal));
    }
    for key in maps.fdb.keys() {
        look("fdb", key?.environment, None);
    }
    let links = || -> Result<Vec<u32>> { Ok(if_nameindex()?.iter().map(Interface::index).collect()) };
    let links = lab.host().run(links)?;
    for entry in &maps.fdb {
        let (key, entry) = entry?;
        if !links.contains(&entry.interface) {
            left.push(format!("fdb: {:?} on a link that is gone", key.mac));
        }
    }
    Ok(left)
}

#[test]
fn nothing_is_left_of_what_goes() -> Result<()> {
    let test = |lab: &Lab| {
        let [dc, member] = ROLES;
        let (first, mut second) = (lab.guest(2, dc)?, lab.guest(2, member)?);
        let flood = |second: &Guest| -> Result<[Flood; 3]> {
            for role in ROLES {
                ensure!(lab.ping(role.external(2))?.is_some(), "{} is not up", role.name);
            }
            let (first, second) = (first.namespace(), second.namespace());
            let flowing = [
                Flood::start("in", lab.outside(), second, member.external(2))?,
                Flood::start("out", second, lab.outside(), addresses::UPSTREAM)?,
                Flood::start("within", first, second, member.internal())?,
            ];
            interrupt::sleep(Duration::from_millis(200))?;
            Ok(flowing)
        };
        let whole = lab.configuration();
        let packets = |name: &str| -> Result<u64> {
            let status = lab.status()?;
            let guests = status["environments"][1]["guests"].as_array().context("no guests")?;
            let guest = guests
                .iter()
                .find(|guest| guest["name"] == name)
                .context("no such guest")?;
            guest["packets_in"].as_u64().context("no number")
        };
        let stopped = |what: &str, floods: &[Flood], gone: &[u8]| -> Result<()> {
            let capture = Capture::start(lab.outside(), "eth0")?;
            // What the receivers have in their queues.
            interrupt::sleep(Duration::from_millis(50))?;
            let before: Vec<usize> = floods.iter().map(Flood::count).collect();
            ensure!(
                before.iter().all(|count| *count > 0),
                "{what}: nothing flowed: {before:?}"
            );
            interrupt::sleep(Duration::from_millis(300))?;
            let after: Vec<usize> = floods.iter().map(Flood::count).collect();
            ensure!(before == after, "{what}: still {before:?}, then {after:?}");
            floods.iter().for_each(Flood::stop);
            let frames = capture.frames()?;
            // The sender in an ARP or an IPv4 header.
            let is_theirs = |frame: &Frame| [26, 28].iter().any(|start| frame.bytes[*start..].starts_with(gone));
            let late = frames.iter().find(|frame| !frame.outgoing && is_theirs(frame));
            ensure!(late.is_none(), "{what}: {late:02x?} left the uplink");
            Ok(())
        };

        let flowing = flood(&second)?;
        lab.attach_as(whole.clone().without(member.name))?;
        stopped("a machine was removed", &flowing, &member.external(2).octets())?;
        let kept = left(lab, 2, Some(member.internal()))?;
        ensure!(kept.is_empty(), "left of the machine: {kept:?}");
        drop(flowing);
        lab.attach_as(whole)?;
        ensure!(packets("member")? == 0, "the machine's counters did not start again");

        second.plug(lab.host())?;
        let flowing = flood(&second)?;
        lab.envnet().succeed("detach --environments 2")?;
        stopped(
            "an environment was detached",
            &flowing,
            &member.external(2).octets()[..3],
        )?;
        let kept = left(lab, 2, None)?;
        ensure!(kept.is_empty(), "left of the environment: {kept:?}");
        drop(flowing);
        lab.attach()?;
        ensure!(packets("dc")? == 0, "the environment's counters did not start again");
        Ok(())
    };
    ["tc", "xdp", "off"]
        .into_iter()
        .try_for_each(|accelerate| with(accelerate, test))
}
