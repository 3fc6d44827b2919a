//! Another build of envnet takes over what one has attached, while packets flow; and pins that no build should touch.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs, mem,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use aya::{
    maps::MapData,
    programs::{ProgramInfo, SchedClassifier, TcAttachType, loaded_programs},
};
use envnet_common::maps;
use envnet_lab::{
    Configuration, Lab,
    addresses::{self, ROLES},
    envnet::Envnet,
    fixture::{attached, attached_each},
    interrupt,
    namespace::Namespace,
    process::{self, Process},
};

use crate::{
    flood::{self, Busy, counted},
    sweep::{Fault, Sweep},
};

/// How long the kernel may take to let go of a program. Those of filters wait in one queue for the whole machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test with each way that programs are attached and packets take.
pub(crate) fn each_way(test: impl Fn(&Lab) -> Result<()>) -> Result<()> {
    let [tc, xdp, off] = ["tc", "xdp", "off"].map(|accelerate| Configuration::default().accelerate(accelerate));
    attached_each([tc.clone(), xdp, off, tc.hook("clsact")], test)
}

/// Another build of the program, in the laboratory's folder.
fn another_build(lab: &Lab) -> Result<Envnet> {
    lab.envnet().another_build(&lab.directory().path().join("envnet-2"))
}

pub(crate) fn pins(lab: &Lab) -> PathBuf {
    Path::new("/sys/fs/bpf/envnet").join(format!("netns-{}", lab.host().name()))
}

/// The directories with programs of some build.
pub(crate) fn builds(lab: &Lab) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(pins(lab))?.map(|entry| Ok(entry?.path()));
    let paths: Vec<PathBuf> = entries.collect::<Result<_>>()?;
    let is_programs = |path: &PathBuf| path.to_string_lossy().contains("/programs-");
    Ok(paths.into_iter().filter(is_programs).collect())
}

/// The numbers of the pinned programs of the only build there is.
fn programs(lab: &Lab) -> Result<BTreeSet<u32>> {
    let builds = builds(lab)?;
    let [build] = &builds[..] else {
        anyhow::bail!("not one build: {builds:?}");
    };
    let ids = fs::read_dir(build)?.map(|entry| Ok(ProgramInfo::from_pin(entry?.path())?.id()));
    ids.collect()
}

/// The numbers of the programs on a link, by filter and by tcx.
fn on(namespace: &Namespace, link: &str, direction: &str) -> Result<Vec<u32>> {
    let mut tc = namespace.command("tc");
    let text = process::output(tc.args(["-json", "filter", "show", "dev", link, direction]))?;
    let filters: serde_json::Value = serde_json::from_str(&text)?;
    let filters = filters.as_array().context("no list of filters")?;
    let number = |filter: &serde_json::Value| filter["options"]["prog"]["id"].as_u64();
    let mut ids: Vec<u32> = filters
        .iter()
        .filter_map(number)
        .map(u32::try_from)
        .collect::<Result<_, _>>()?;
    let attach = match direction {
        "egress" => TcAttachType::Egress,
        _ => TcAttachType::Ingress,
    };
    // Kernels without tcx have nothing there.
    if let Ok((_, programs)) = namespace.run(|| Ok(SchedClassifier::query_tcx(link, attach)?)) {
        ids.extend(programs.iter().map(ProgramInfo::id));
    }
    Ok(ids)
}

/// Fails unless there is exactly one program at every hook, of the only build there is.
pub(crate) fn check_programs(lab: &Lab) -> Result<BTreeSet<u32>> {
    let own = programs(lab)?;
    let router = lab.router(1)?;
    let (host, mut hooks) = (lab.host(), Vec::new());
    for direction in ["ingress", "egress"] {
        hooks.push((&router, "gw1", direction));
        if lab.is_accelerated() {
            hooks.extend([(host, "eth0", direction), (host, "peer1-br1", direction)]);
        }
    }
    hooks.push((host, "br1", "ingress"));
    if lab.is_accelerated() {
        hooks.extend([(host, "vm1.2", "ingress"), (host, "vm2.3", "ingress")]);
    }
    for (namespace, link, direction) in hooks {
        let found = on(namespace, link, direction)?;
        let one = found.len() == 1 && own.contains(&found[0]);
        ensure!(one, "not one of {own:?} on {link} {direction}, but {found:?}");
    }
    Ok(own)
}

/// Waits until the kernel has let go of all these programs.
pub(crate) fn gone(ids: &BTreeSet<u32>) -> Result<()> {
    interrupt::wait_for("the old programs to go", PATIENCE, || {
        let mut loaded = BTreeSet::new();
        for program in loaded_programs() {
            // One that went between being listed and being asked.
            loaded.extend(program.ok().map(|program| program.id()));
        }
        Ok(loaded.is_disjoint(ids).then_some(()))
    })
}

#[test]
fn another_build_takes_over_while_packets_flow() -> Result<()> {
    each_way(|lab| {
        let other = another_build(lab)?;
        let busy = Busy::start(lab)?;
        let mut old = check_programs(lab)?;
        for envnet in [&other, lab.envnet()] {
            busy.during("the upgrade", || {
                ensure!(envnet.changes("attach")? > 0, "nothing was changed");
                Ok(())
            })?;
            let new = check_programs(lab)?;
            ensure!(new.is_disjoint(&old), "programs of both builds: {old:?}, {new:?}");
            gone(&old)?;
            ensure!(envnet.changes("attach")? == 0, "the upgrade was not complete");
            old = new;
        }
        let due = busy.end()?;
        let counted = counted(lab)?;
        ensure!(counted == due, "{counted:?} packets in and out counted, not {due:?}");
        Ok(())
    })
}

#[test]
fn an_upgrade_killed_at_any_point_is_completed_or_taken_back() -> Result<()> {
    const STEPS: u32 = 8;
    attached(|lab| {
        let other = another_build(lab)?;
        let (mut present, mut absent) = (&other, lab.envnet());
        let busy = Busy::start(lab)?;
        let start = Instant::now();
        other.succeed("attach")?;
        let whole = start.elapsed();
        for step in 0..STEPS {
            let delay = whole * step / STEPS;
            let mut command = absent.command();
            command.arg("attach").stdout(Stdio::null()).stderr(Stdio::null());
            let process = Process::start(command)?;
            thread::sleep(delay);
            drop(process);
            // Every second time it is completed, every second time rolled back.
            if step % 2 == 0 {
                mem::swap(&mut present, &mut absent);
            }
            busy.during("the upgrade after a killed one", || present.succeed("attach").map(drop))
                .with_context(|| format!("killed after {} ms", delay.as_millis()))?;
            check_programs(lab).with_context(|| format!("killed after {} ms", delay.as_millis()))?;
            ensure!(present.changes("attach")? == 0, "the upgrade was not complete");
        }
        Ok(())
    })
}

#[test]
fn a_detach_killed_at_any_step_leaves_nothing_that_another_build_does_not_replace() -> Result<()> {
    const STEPS: usize = 12;
    attached(|lab| {
        let other = another_build(lab)?;
        let sweep = Sweep {
            lab,
            command: "detach",
            what: "detach before another build".to_owned(),
            cases: STEPS,
        };
        let old = RefCell::new(BTreeSet::new());
        let prepare = |lab: &Lab| {
            lab.attach()?;
            *old.borrow_mut() = check_programs(lab)?;
            Ok(())
        };
        sweep.run(Fault::Kill, prepare, |_| {
            other.succeed("attach")?;
            check_programs(lab)?;
            gone(&old.borrow())
        })
    })
}

#[test]
fn an_upgrade_that_fails_at_any_call_disturbs_nobody() -> Result<()> {
    let sweep = |lab: &Lab, accelerate: &str| {
        let other = another_build(lab)?;
        let busy = Busy::start(lab)?;
        let sweep = Sweep {
            lab,
            command: "attach",
            what: format!("an upgrade, accelerate = {accelerate}"),
            cases: 6,
        };
        let prepare = |_: &Lab| {
            other.succeed("attach")?;
            // After a case that has failed.
            busy.resume()
        };
        sweep.run(Fault::Fail, prepare, |case| {
            busy.during("the fault, or what came of it", || case.repair())?;
            check_programs(lab).map(drop)
        })
    };
    ["off", "tc", "xdp"]
        .into_iter()
        .try_for_each(|accelerate| flood::with(accelerate, |lab| sweep(lab, accelerate)))
}

/// Makes what is attached another build's, with another layout of its maps: this one's pins under other names.
fn age(lab: &Lab) -> Result<()> {
    let pins = pins(lab);
    let now = format!("maps-v{}", maps::LAYOUT_VERSION);
    fs::rename(pins.join(now), pins.join("maps-v1")).context("the maps' directory")?;
    for build in builds(lab)? {
        fs::rename(build, pins.join("programs-0")).context("the programs' directory")?;
    }
    Ok(())
}

#[test]
fn another_layout_is_replaced_while_packets_flow() -> Result<()> {
    each_way(|lab| {
        let busy = Busy::start(lab)?;
        let old = check_programs(lab)?;
        age(lab)?;
        let text = lab.envnet().succeed("status")?;
        for word in ["another build", "layout 1", " attach`"] {
            ensure!(text.contains(word), "no {word} in {text}");
        }
        for part in ["attach --environments 1", "detach --environments 1"] {
            let refused = lab.envnet().run(part)?;
            ensure!(
                refused.status == Some(1) && refused.stderr.contains("another build"),
                "{part}: {refused:?}"
            );
        }
        busy.check().context("before")?;
        busy.during("the upgrade", || {
            let text = lab.envnet().succeed("attach")?;
            ensure!(text.contains("counted from 0 again"), "{text}");
            Ok(())
        })?;
        check_programs(lab)?;
        gone(&old)?;
        let text = lab.envnet().succeed("attach")?;
        ensure!(text.contains("no change") && !text.contains("counted"), "{text}");
        ensure!(!pins(lab).join("maps-v1").exists(), "the other maps are still pinned");
        drop(busy);
        // The end of the test detaches over it.
        age(lab)
    })
}

/// Plants a pinned program as a filter, as one does by hand.
fn plant(namespace: &Namespace, link: &str, direction: &str, priority: &str, program: &Path) -> Result<()> {
    // There may be one already.
    drop(process::output(
        namespace.command("tc").args(["qdisc", "add", "dev", link, "clsact"]),
    ));
    let mut tc = namespace.command("tc");
    tc.args(["filter", "add", "dev", link, direction, "prio", priority]);
    tc.args(["handle", "7", "bpf", "direct-action", "object-pinned"]);
    process::output(tc.arg(program)).map(drop)
}

#[test]
fn programs_planted_twice_are_removed() -> Result<()> {
    each_way(|lab| {
        let [dc, _] = ROLES;
        let _guest = lab.guest(1, dc)?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "the guest is not up");
        let builds = builds(lab)?;
        let pin = |program: &str| builds[0].join(program);
        let router = lab.router(1)?;
        let mut attach_points = vec![(&router, "gw1", "egress", "1", "router_egress")];
        attach_points.push((lab.host(), "br1", "ingress", "3", "bridge_ingress"));
        if lab.is_accelerated() {
            attach_points.push((lab.host(), "vm1.2", "ingress", "9", "guest_ingress"));
            attach_points.push((lab.host(), "eth0", "egress", "9", "uplink_egress"));
        }
        for (namespace, link, direction, priority, program) in attach_points {
            let context = || format!("{program} on {link}");
            plant(namespace, link, direction, priority, &pin(program)).with_context(context)?;
            ensure!(
                on(namespace, link, direction)?.len() == 2,
                "{program} was not planted on {link}"
            );
            ensure!(
                lab.envnet().changes("attach").with_context(context)? > 0,
                "{program} on {link} is not seen"
            );
            check_programs(lab).with_context(context)?;
            ensure!(
                lab.envnet().changes("attach")? == 0,
                "{program} on {link} is not removed"
            );
        }
        ensure!(lab.ping(dc.external(1))?.is_some(), "the guest is not reached");
        // The qdisc was made by hand, unless the programs are filters there.
        drop(process::output(
            lab.host().command("tc").args(["qdisc", "del", "dev", "eth0", "clsact"]),
        ));
        lab.attach().map(drop)
    })
}

#[test]
fn maps_of_another_shape_are_refused() -> Result<()> {
    attached(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "the guest is not up");
        let directory = pins(lab).join(format!("maps-v{}", maps::LAYOUT_VERSION));
        let pin = directory.join(maps::MAPPINGS);
        fs::remove_file(&pin)?;
        MapData::from_pin(directory.join(maps::SETTINGS))?.pin(&pin)?;
        let old = programs(lab)?;
        for command in ["attach", "plan", "attach --environments 1", "detach --environments 1"] {
            let refused = lab.envnet().run(command)?;
            ensure!(refused.status == Some(1), "{command}: {refused:?}");
            for word in ["maps-v", "MAPPINGS", "nothing was changed", " detach`"] {
                ensure!(
                    refused.stderr.contains(word),
                    "{command}: no {word} in {}",
                    refused.stderr
                );
            }
        }
        ensure!(programs(lab)? == old, "other programs were loaded");
        ensure!(
            guest.ping(addresses::UPSTREAM)?.is_some(),
            "the guest has lost the outside"
        );
        let text = lab.envnet().succeed("status")?;
        ensure!(text.contains("MAPPINGS") && text.contains(" detach`"), "{text}");
        lab.detach()?;
        lab.attach()?;
        ensure!(lab.ping(dc.external(2))?.is_none(), "nobody is there");
        Ok(())
    })
}
