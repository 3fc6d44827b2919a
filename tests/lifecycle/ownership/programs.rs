//! Other people's programs, filters and queueing disciplines where envnet's are. That they go on seeing packets is tested
//! with the namespaces.

use std::{borrow::Cow, collections::BTreeSet, ffi::OsString, fs};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf,
    programs::{
        Program, SchedClassifier, TcAttachType, XdpMode,
        tc::{NlOptions, TcAttachOptions},
    },
};
use envnet::{kernel::bpffs, names::Instance};
use envnet_lab::{
    Configuration, Lab,
    addresses::ROLES,
    counting_program::Counter,
    fixture::{attached, detached_with},
};

use super::{
    foreign::{Foreign, foreign, run},
    refused, tolerated,
};

/// Priority of envnet's filters beside others'.
const PRIORITY: u16 = 25_966;

/// Queueing disciplines and filters that neither way of attaching programs may touch.
const TOLERATED: [Foreign; 4] = [
    foreign(
        &["tc qdisc add dev eth0 clsact"],
        &["tc qdisc show dev eth0"],
        &["tc qdisc delete dev eth0 clsact"],
    ),
    foreign(
        &[
            "tc qdisc add dev eth0 clsact",
            "tc filter add dev eth0 ingress pref 7 protocol ip u32 match u32 0 0 flowid 1:1",
        ],
        &["tc qdisc show dev eth0", "tc filter show dev eth0 ingress pref 7"],
        &["tc qdisc delete dev eth0 clsact"],
    ),
    foreign(
        &[
            "tc qdisc add dev eth0 clsact",
            "tc filter add dev eth0 egress pref 40000 protocol ip u32 match u32 0 0 flowid 1:1",
        ],
        &["tc qdisc show dev eth0", "tc filter show dev eth0 egress pref 40000"],
        &["tc qdisc delete dev eth0 clsact"],
    ),
    foreign(
        &["tc qdisc add dev eth0 root tbf rate 1gbit burst 1mbit latency 400ms"],
        &["tc qdisc show dev eth0 root"],
        &["tc qdisc delete dev eth0 root"],
    ),
];

/// What is in the way of filters only.
const IN_THE_WAY_OF_FILTERS: [(Foreign, &[&str]); 3] = [
    (
        foreign(
            &[
                "tc qdisc add dev eth0 clsact",
                "tc filter add dev eth0 ingress pref 25966 protocol ip u32 match u32 0 0 flowid 1:1",
            ],
            &["tc qdisc show dev eth0", "tc filter show dev eth0 ingress"],
            &["tc qdisc delete dev eth0 clsact"],
        ),
        &["eth0", "25966", "not envnet's", "another priority"],
    ),
    (
        foreign(
            &[
                "tc qdisc add dev eth0 clsact",
                "tc filter add dev eth0 egress pref 25966 protocol ip u32 match u32 0 0 flowid 1:1",
            ],
            &["tc qdisc show dev eth0", "tc filter show dev eth0 egress"],
            &["tc qdisc delete dev eth0 clsact"],
        ),
        &["eth0", "25966", "not envnet's", "another priority"],
    ),
    (
        foreign(
            &["tc qdisc add dev eth0 ingress"],
            &["tc qdisc show dev eth0"],
            &["tc qdisc delete dev eth0 ingress"],
        ),
        &["eth0", "ingress qdisc", "clsact"],
    ),
];

#[test]
fn queueing_disciplines_and_filters_of_others_stay() -> Result<()> {
    for hook in ["tcx", "clsact"] {
        detached_with(Configuration::default().hook(hook).accelerate("tc"), |lab| {
            for foreign in &TOLERATED {
                foreign
                    .check_tolerated(lab)
                    .with_context(|| format!("{hook}: {:?}", foreign.make))?;
            }
            for (foreign, words) in &IN_THE_WAY_OF_FILTERS {
                let check = || {
                    if hook == "tcx" {
                        return foreign.check_tolerated(lab);
                    }
                    foreign.make(lab)?;
                    refused(lab, words)?;
                    foreign.remove(lab)
                };
                check().with_context(|| format!("{hook}: {:?}", foreign.make))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A filter that comes while envnet's are there is not taken along when they go.
#[test]
fn a_filter_that_came_later_keeps_the_qdisc() -> Result<()> {
    detached_with(Configuration::default().hook("clsact").accelerate("tc"), |lab| {
        lab.attach()?;
        run(
            lab.host(),
            "tc filter add dev eth0 ingress pref 7 protocol ip u32 match u32 0 0 flowid 1:1",
        )?;
        let view = || run(lab.host(), "tc filter show dev eth0 ingress pref 7");
        let before = view()?;
        ensure!(lab.envnet().changes("attach")? == 0, "attach again changed something");
        lab.detach()?;
        ensure!(view()? == before, "detach has changed {before} to {}", view()?);
        let left = run(lab.host(), "tc filter show dev eth0 egress")?;
        ensure!(left.is_empty(), "detach has left {left}");
        run(lab.host(), "tc qdisc delete dev eth0 clsact").map(drop)
    })
}

/// Somebody else's loaded copy of envnet's own programs: the same names, other maps, which are empty, so that they leave
/// everything alone.
struct Copies(Ebpf);

impl Copies {
    fn load() -> Result<Self> {
        let mut loaded = envnet::kernel::sk_buff::loader()?.load(envnet::EBPF_OBJECT)?;
        for (_, program) in loaded.programs_mut() {
            if let Program::SchedClassifier(program) = program {
                program.load()?;
            }
        }
        Ok(Self(loaded))
    }

    fn classifier(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        Ok(self.0.program_mut(name).context("no such program")?.try_into()?)
    }

    fn attach_tcx(&mut self, lab: &Lab, link: &str, name: &str, direction: TcAttachType) -> Result<()> {
        let program = self.classifier(name)?;
        lab.host().run(|| Ok(program.attach(link, direction)?)).map(drop)
    }
}

/// The programs that are attached to a link of the host, in their order.
fn attached_to(lab: &Lab, link: &str) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
        let found = lab.host().run(|| Ok(SchedClassifier::query_tcx(link, direction)?.1))?;
        ids.extend(found.iter().map(aya::programs::ProgramInfo::id));
    }
    Ok(ids)
}

#[test]
fn programs_of_the_same_names_are_not_mistaken_for_envnets() -> Result<()> {
    for hook in ["tcx", "clsact"] {
        detached_with(Configuration::default().hook(hook).accelerate("tc"), |lab| {
            let mut copies = Copies::load()?;
            copies.attach_tcx(lab, "eth0", "uplink_ingress", TcAttachType::Ingress)?;
            copies.attach_tcx(lab, "eth0", "uplink_egress", TcAttachType::Egress)?;
            let foreign = attached_to(lab, "eth0")?;
            ensure!(foreign.len() == 2, "{foreign:?}");
            tolerated(lab, || {
                let mut present = attached_to(lab, "eth0")?;
                present.retain(|id| foreign.contains(id));
                Ok(present)
            })
            .context(hook)?;
            ensure!(attached_to(lab, "eth0")? == foreign, "detach has left programs");
            drop(copies);
            Ok(())
        })?;
    }
    Ok(())
}

/// With envnet's priority, handle and program name, but without its mark.
#[test]
fn a_filter_that_looks_like_envnets_is_refused() -> Result<()> {
    detached_with(Configuration::default().hook("clsact").accelerate("tc"), |lab| {
        run(lab.host(), "tc qdisc add dev eth0 clsact")?;
        let mut copies = Copies::load()?;
        let info = copies.classifier("uplink_ingress")?.info()?;
        let mut copy = SchedClassifier::from_program_info(info, Cow::Borrowed("uplink_ingress"))?;
        let options = TcAttachOptions::Netlink(NlOptions {
            priority: PRIORITY,
            handle: 1.into(),
            ..NlOptions::default()
        });
        let attach = || Ok(copy.attach_with_options("eth0", TcAttachType::Ingress, options)?);
        lab.host().run(attach)?;
        let view = || run(lab.host(), "tc filter show dev eth0 ingress");
        let before = view()?;
        ensure!(before.contains("uplink_ingress"), "no such filter: {before}");
        refused(lab, &["eth0", "25966", "not envnet's"])?;
        ensure!(view()? == before, "it was changed");
        lab.host().run(|| Ok(copy.unload()?))?;
        run(lab.host(), "tc qdisc delete dev eth0 clsact").map(drop)
    })
}

#[test]
fn a_program_in_the_driver_is_tolerated_or_refused() -> Result<()> {
    for mode in [XdpMode::Driver, XdpMode::Skb] {
        for accelerate in ["auto", "tc", "off", "xdp"] {
            let check = |lab: &Lab| {
                let _program = Counter::xdp(lab.host(), "eth0", mode)?;
                let view = || -> Result<Option<String>> {
                    let link = run(lab.host(), "ip link show eth0")?;
                    Ok(link.split_once("prog/xdp").map(|(_, program)| program.to_owned()))
                };
                ensure!(view()?.is_some(), "there is no program");
                match accelerate {
                    "xdp" => refused(lab, &["eth0", "XDP", "not envnet's", "uplink.accelerate = \"tc\""])?,
                    _ => tolerated(lab, view)?,
                }
                ensure!(view()?.is_some(), "the program is gone");
                Ok(())
            };
            detached_with(Configuration::default().accelerate(accelerate), check)
                .with_context(|| format!("{mode:?}"))?;
        }
    }
    Ok(())
}

/// Own links are envnet's, but programs beside its own ones stay there as long as the link does.
#[test]
fn programs_of_others_on_own_links_are_tolerated() -> Result<()> {
    attached(|lab| {
        let [dc, _] = ROLES;
        let tap = dc.tap(1);
        let _guest = lab.guest(1, dc)?;
        let mut copies = Copies::load()?;
        let program = Counter::xdp(lab.host(), &tap, XdpMode::Skb)?;
        for link in [tap.as_str(), "br1", "peer1-br1"] {
            copies.attach_tcx(lab, link, "uplink_egress", TcAttachType::Egress)?;
            run(
                lab.host(),
                &format!("tc filter add dev {link} ingress pref 30000 protocol ip u32 match u32 0 0 flowid 1:1"),
            )?;
        }
        let view = || -> Result<_> {
            let links = [tap.as_str(), "br1", "peer1-br1"];
            let filters = |link| run(lab.host(), &format!("tc filter show dev {link} ingress pref 30000"));
            links
                .map(|link| Ok((attached_to(lab, link)?, filters(link)?)))
                .into_iter()
                .collect::<Result<Vec<_>>>()
        };
        let before = view()?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "no answer beside other programs");
        ensure!(lab.envnet().changes("attach")? == 0, "attach changed something");
        ensure!(view()? == before, "attach has changed {before:?} to {:?}", view()?);
        let link = run(lab.host(), &format!("ip link show {tap}"))?;
        ensure!(link.contains("prog/xdp"), "the tap's XDP program is gone: {link}");
        ensure!(lab.ping(dc.external(1))?.is_some(), "no answer after attach");
        ensure!(program.count()? > 0, "the tap's XDP program sees nothing");
        Ok(())
    })
}

/// Hypervisors name the ports of their machines anew each time. What holds a program for one that is gone would hold it for
/// ever, whichever build's it is by then.
#[test]
fn nothing_is_kept_of_a_port_that_is_gone() -> Result<()> {
    // The router has a link of the last name, too.
    for (hook, port) in [("tcx", "vnet.7"), ("clsact", "vnet.7"), ("clsact", "gw1")] {
        detached_with(Configuration::default().hook(hook).accelerate("tc"), |lab| {
            lab.attach()?;
            let kept = links(lab)?;
            run(lab.host(), &format!("ip tuntap add {port} mode tap"))?;
            run(lab.host(), &format!("ip link set {port} master br1"))?;
            lab.attach()?;
            ensure!(links(lab)? != kept, "the port has no program");
            run(lab.host(), &format!("ip link delete {port}"))?;
            lab.attach()?;
            ensure!(links(lab)? == kept, "{:?} is left of {kept:?}", links(lab)?);
            ensure!(
                lab.envnet().changes("attach")? == 0,
                "a second attach changes something"
            );
            lab.detach().map(drop)
        })
        .with_context(|| format!("{port}, {hook}"))?;
    }
    Ok(())
}

/// What envnet remembers of the links that its programs are on.
fn links(lab: &Lab) -> Result<BTreeSet<OsString>> {
    let instance = Instance::Named(lab.host().name().to_owned());
    let links = fs::read_dir(bpffs::directory(&instance).join("links"))?;
    links.map(|entry| Ok(entry?.file_name())).collect()
}
