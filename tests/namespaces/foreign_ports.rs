//! Ports that somebody else plugs into an environment's bridge, as libvirt does.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use envnet_lab::{
    Lab,
    addresses::{INTERNAL_PREFIX, REMOTE, ROLES, ROUTER, Role, UPSTREAM},
    guest::{Guest, Settings},
    interrupt,
    namespace::Namespace,
    ping::ping,
    process::output,
    tap::Offload,
};

use crate::{fixture::attached_fast, shortcut, traffic};

const PORT: &str = "vnet7";
const PATIENCE: Duration = Duration::from_secs(3);

/// How many programs run on what comes in from a link of the host, however they are attached.
fn programs(lab: &Lab, link: &str) -> Result<usize> {
    let attached = lab
        .host()
        .run(|| Ok(SchedClassifier::query_tcx(link, TcAttachType::Ingress)?.1.len()));
    let mut tc = lab.host().command("tc");
    let filters = output(tc.args(["filter", "show", "dev", link, "ingress"]))?;
    // A kernel without tcx cannot be asked.
    Ok(attached.unwrap_or(0) + filters.matches(" handle ").count())
}

fn is_there(lab: &Lab, link: &str) -> Result<bool> {
    let links = lab.host().ip("-brief link show up")?;
    Ok(links.lines().any(|line| line.split([' ', '@']).next() == Some(link)))
}

/// A guest on a tap that the hypervisor has made itself, or a container on a virtual cable.
pub(crate) enum Newcomer {
    Machine(Guest),
    Container(Namespace),
}

impl Newcomer {
    pub(crate) fn machine(lab: &Lab, role: Role) -> Result<Self> {
        let settings = Settings {
            tap: PORT.to_owned(),
            address: role.internal(),
            prefix: INTERNAL_PREFIX,
            router: ROUTER,
            mac: role.mac.to_owned(),
            offload: Offload::Full,
        };
        let name = format!("{}-1.{}", lab.host().name(), role.number);
        Ok(Self::Machine(Guest::create(&name, lab.host(), settings)?))
    }

    fn container(lab: &Lab, role: Role) -> Result<Self> {
        let namespace = Namespace::create(&format!("{}-1.{}", lab.host().name(), role.number))?;
        lab.host().ip(&format!(
            "link add {PORT} type veth peer name eth0 address {} netns {}",
            role.mac,
            namespace.name()
        ))?;
        namespace.ip(&format!("address add {}/{INTERNAL_PREFIX} dev eth0", role.internal()))?;
        namespace.ip("link set eth0 up")?;
        namespace.ip(&format!("route add default via {ROUTER}"))?;
        Ok(Self::Container(namespace))
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        match self {
            Self::Machine(guest) => guest.namespace(),
            Self::Container(namespace) => namespace,
        }
    }
}

pub(crate) fn plug(lab: &Lab) -> Result<()> {
    lab.host().ip(&format!("link set {PORT} master br1 up")).map(drop)
}

fn with_newcomer(newcomer: impl Fn(&Lab, Role) -> Result<Newcomer>) -> Result<()> {
    attached_fast(|lab| {
        let [dc, member] = ROLES;
        let sibling = lab.guest(1, member)?;
        let newcomer = newcomer(lab, dc)?;
        plug(lab)?;
        let (outside, inside) = (lab.outside(), newcomer.namespace());
        let reach = |from: &Namespace, target| -> Result<()> {
            let answer = ping(from, target, 56, PATIENCE)?;
            ensure!(answer.is_some(), "{}: no answer from {target}", from.name());
            Ok(())
        };
        let siblings = || {
            reach(sibling.namespace(), dc.internal())?;
            reach(inside, member.internal())
        };
        reach(outside, dc.external(1)).context("at once")?;
        shortcut::check_slow(lab, 1, outside, dc.external(1)).context("before attach")?;
        shortcut::check_slow(lab, 1, inside, REMOTE).context("before attach")?;
        siblings().context("before attach")?;
        ensure!(programs(lab, PORT)? == 0, "envnet has put programs on a port unasked");

        lab.attach()?;
        shortcut::check(lab, 1, outside, dc.external(1)).context("after attach")?;
        shortcut::check(lab, 1, inside, REMOTE).context("after attach")?;
        shortcut::check(lab, 1, sibling.namespace(), dc.external(1)).context("hairpin")?;
        siblings().context("after attach")?;
        traffic::tcp(outside, inside, dc.external(1), 1 << 20).context("from outside")?;
        traffic::tcp(inside, outside, UPSTREAM, 1 << 20).context("to the outside")?;
        traffic::tcp(sibling.namespace(), inside, dc.internal(), 1 << 20).context("from the sibling")?;
        ensure!(lab.envnet().changes("attach")? == 0, "another attach changed something");

        lab.detach()?;
        ensure!(is_there(lab, PORT)?, "detach has touched the port");
        ensure!(programs(lab, PORT)? == 0, "detach has left programs on the port");
        lab.attach()?;
        plug(lab)?;
        reach(outside, dc.external(1)).context("plugged in again")?;
        lab.attach()?;
        shortcut::check(lab, 1, outside, dc.external(1)).context("after the last attach")
    })
}

#[test]
fn a_machine_on_a_port_that_its_hypervisor_made() -> Result<()> {
    with_newcomer(Newcomer::machine)
}

#[test]
fn a_container_on_a_virtual_cable() -> Result<()> {
    with_newcomer(Newcomer::container)
}

/// As when a machine is started anew, by somebody who makes ports of his own.
#[test]
fn a_machine_that_moves_to_a_foreign_port_is_found_there() -> Result<()> {
    attached_fast(|lab| {
        let [dc, member] = ROLES;
        let sibling = lab.guest(1, member)?;
        let before = lab.guest(1, dc)?;
        ensure!(sibling.ping(dc.internal())?.is_some(), "the machine is not up");
        ensure!(before.ping(REMOTE)?.is_some(), "the machine is not up");
        drop(before);
        let newcomer = Newcomer::machine(lab, dc)?;
        plug(lab)?;
        // What was learned of the old port goes within a second: the router asks everybody, and the answer shows where the
        // machine is by now, to its siblings, too.
        interrupt::wait_for("the machine at its new port", Duration::from_secs(2), || {
            ping(lab.outside(), dc.external(1), 56, Duration::from_millis(100))
        })?;
        interrupt::sleep(Duration::from_secs(1))?;
        for _ in 0..2 {
            let answer = lab.ping(dc.external(1))?;
            ensure!(answer.is_some(), "no answer to the outside");
            let answer = sibling.ping(dc.internal())?;
            ensure!(answer.is_some(), "no answer to the sibling");
            ensure!(
                ping(newcomer.namespace(), REMOTE, 56, PATIENCE)?.is_some(),
                "no answer to the machine"
            );
            interrupt::sleep(Duration::from_secs(1))?;
        }
        lab.attach()?;
        shortcut::check(lab, 1, lab.outside(), dc.external(1)).context("after attach")
    })
}

/// Its owner may take a port away again, and use it for something else.
fn taken_away(then: impl Fn(&Lab) -> Result<String>) -> Result<()> {
    attached_fast(|lab| {
        let [dc, _] = ROLES;
        let _newcomer = Newcomer::machine(lab, dc)?;
        plug(lab)?;
        lab.attach()?;
        ensure!(programs(lab, PORT)? > 0, "no programs on the port");
        lab.host().ip(&format!("link set {PORT} nomaster"))?;
        then(lab)?;
        ensure!(programs(lab, PORT)? == 0, "there are still programs on it");
        Ok(())
    })
}

#[test]
fn attach_leaves_a_port_that_was_taken_away() -> Result<()> {
    taken_away(Lab::attach)
}

#[test]
fn detach_leaves_a_port_that_was_taken_away() -> Result<()> {
    taken_away(Lab::detach)
}
