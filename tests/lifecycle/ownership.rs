//! What is not envnet's: refused with one error before the first change where it is in the way, and otherwise left exactly
//! as it was across attach, a second attach, status and detach.

#[path = "../namespaces/counting_program.rs"]
#[expect(dead_code, reason = "the tests of namespaces use the rest of it")]
mod counting_program;
mod inside;
mod programs;
mod side_by_side;

use std::fs;

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Configuration, Lab, Mode,
    addresses::ROLES,
    fixture::{self, attached, detached, detached_with},
    namespace::Namespace,
    process::output,
    snapshot,
};

/// Something of somebody else's in the host: how it is made, what shows it, and how it is taken away.
struct Foreign {
    make: &'static [&'static str],
    view: &'static [&'static str],
    remove: &'static [&'static str],
}

const fn foreign(
    make: &'static [&'static str],
    view: &'static [&'static str],
    remove: &'static [&'static str],
) -> Foreign {
    Foreign { make, view, remove }
}

/// Names near envnet's, its groups, its uplink's neighbours, routes into its pool.
const LIVED_WITH: [Foreign; 10] = [
    foreign(
        &["ip link add gw1 type bridge", "ip link add ns1 type bridge"],
        &["ip -details link show gw1", "ip -details link show ns1"],
        &["ip link delete gw1", "ip link delete ns1"],
    ),
    foreign(
        &["ip link add br3 type bridge", "ip link add br01 type bridge"],
        &["ip -details link show br3", "ip -details link show br01"],
        &["ip link delete br3", "ip link delete br01"],
    ),
    foreign(
        &[
            "ip link add other group 25966 type bridge",
            "ip link add vm3.2 group 25966 type bridge",
        ],
        &["ip -details link show other", "ip -details link show vm3.2"],
        &["ip link delete other", "ip link delete vm3.2"],
    ),
    foreign(
        &["ip link add other group 25967 type bridge"],
        &["ip -details link show other"],
        &["ip link delete other"],
    ),
    foreign(
        &["ip tuntap add vm3.2 mode tap user 65534", "ip link set vm3.2 up"],
        &["ip -details link show vm3.2"],
        &["ip link delete vm3.2"],
    ),
    foreign(
        &["ip link add link eth0 name other type macvlan mode bridge"],
        &["ip -details link show other"],
        &["ip link delete other"],
    ),
    foreign(
        &[
            "ip link property add dev eth0 altname br3",
            "ip link property add dev eth0 altname outside",
        ],
        &["ip link show eth0"],
        &["ip link property del dev eth0 altname br3 altname outside"],
    ),
    foreign(
        &[
            "ip address add 172.16.0.9/32 dev eth0",
            "ip address add 10.0.0.9/24 dev lo",
        ],
        &["ip -4 address show dev eth0", "ip -4 address show dev lo"],
        &[
            "ip address delete 172.16.0.9/32 dev eth0",
            "ip address delete 10.0.0.9/24 dev lo",
        ],
    ),
    foreign(
        &[
            "ip route add blackhole 172.16.1.0/24",
            "ip route add 172.16.2.2 dev eth0 table 77",
            "ip rule add to 172.16.2.0/24 lookup 77",
        ],
        &[
            "ip route show table all type blackhole",
            "ip route show table 77",
            "ip rule show",
        ],
        &[
            "ip rule delete to 172.16.2.0/24 lookup 77",
            "ip route delete 172.16.2.2 dev eth0 table 77",
            "ip route delete blackhole 172.16.1.0/24",
        ],
    ),
    foreign(
        &["tc qdisc add dev eth0 root tbf rate 1gbit burst 1mbit latency 400ms"],
        &["tc qdisc show dev eth0 root"],
        &["tc qdisc delete dev eth0 root"],
    ),
];

/// What has a name that is wanted, and the words that say so.
const REFUSED: [(Foreign, &[&str]); 8] = [
    (
        foreign(
            &["ip link add br1 group 7 type bridge"],
            &["ip -details link show br1"],
            &["ip link delete br1"],
        ),
        &["link br1", "environment 1"],
    ),
    (
        foreign(
            &[
                "ip link add br2 group 25966 type bridge",
                "ip link set br2 alias somebody's",
            ],
            &["ip -details link show br2"],
            &["ip link delete br2"],
        ),
        &["link br2", "environment 2"],
    ),
    (
        foreign(
            &[
                "ip link add br2 group 25967 type bridge",
                "ip link set br2 alias somebody's",
            ],
            &["ip -details link show br2"],
            &["ip link delete br2"],
        ),
        &["link br2", "environment 2"],
    ),
    (
        foreign(
            &["ip tuntap add vm1.2 mode tap"],
            &["ip -details link show vm1.2"],
            &["ip link delete vm1.2"],
        ),
        &["link vm1.2", "environment 1"],
    ),
    (
        foreign(
            &["ip tuntap add vm1.3 mode tap", "ip link set vm1.3 group 25966"],
            &["ip -details link show vm1.3"],
            &["ip link delete vm1.3"],
        ),
        &["link vm1.3", "environment 1"],
    ),
    (
        foreign(
            &["ip link add peer1-br2 type veth peer name other"],
            &["ip -details link show peer1-br2", "ip -details link show other"],
            &["ip link delete other"],
        ),
        &["link peer1-br2", "environment 2"],
    ),
    (
        foreign(
            &["ip link property add dev eth0 altname br1"],
            &["ip link show eth0"],
            &["ip link property del dev eth0 altname br1"],
        ),
        &["link eth0", "br1", " link property del", "environment 1"],
    ),
    (
        foreign(
            &[
                "ip link add other type bridge",
                "ip link property add dev other altname vm2.3",
            ],
            &["ip -details link show other"],
            &["ip link delete other"],
        ),
        &["link other", "vm2.3", "environment 2"],
    ),
];

/// Runs a command in a namespace and returns what it prints, without what changes by itself.
fn run(namespace: &Namespace, command: &str) -> Result<String> {
    let mut words = command.split_ascii_whitespace();
    let mut program = namespace.command(words.next().context("no command")?);
    let text = output(program.args(words))?;
    let mut words: Vec<&str> = Vec::new();
    for word in text.split_ascii_whitespace() {
        // A bridge's timers run, packets are counted.
        if words.last().is_some_and(|last| last.ends_with("_timer")) {
            words.pop();
        } else {
            words.push(word);
        }
    }
    Ok(words.join(" "))
}

fn run_all(namespace: &Namespace, commands: &[&str]) -> Result<Vec<String>> {
    commands.iter().map(|command| run(namespace, command)).collect()
}

impl Foreign {
    fn make(&self, lab: &Lab) -> Result<()> {
        run_all(lab.host(), self.make).map(drop)
    }

    fn remove(&self, lab: &Lab) -> Result<()> {
        run_all(lab.host(), self.remove).map(drop)
    }

    fn view(&self, lab: &Lab) -> Result<Vec<String>> {
        run_all(lab.host(), self.view)
    }

    /// Fails unless envnet works beside it and leaves it alone, whatever it does.
    fn check_lived_with(&self, lab: &Lab) -> Result<()> {
        self.make(lab)?;
        lived_with(lab, || self.view(lab))?;
        self.remove(lab)
    }
}

/// Attaches, attaches again, asks for the status and detaches, and fails unless everything works and `view` never changes.
fn lived_with<T: PartialEq + std::fmt::Debug>(lab: &Lab, view: impl Fn() -> Result<T>) -> Result<()> {
    let host = snapshot::of_host(lab)?;
    let before = view()?;
    let unchanged = |when: &str| -> Result<()> {
        let now = view()?;
        ensure!(now == before, "{when} changed {before:?}\nto {now:?}");
        Ok(())
    };
    lab.attach()?;
    unchanged("attach")?;
    let [dc, _] = ROLES;
    let guest = lab.guest(1, dc)?;
    ensure!(lab.ping(dc.external(1))?.is_some(), "no answer to the outside");
    ensure!(
        guest.ping(envnet_lab::addresses::UPSTREAM)?.is_some(),
        "no answer to the guest"
    );
    ensure!(
        lab.envnet().changes("attach")? == 0,
        "the second attach changed something"
    );
    unchanged("the second attach")?;
    let status = lab.status()?;
    let environments = status["environments"].as_array().context("no environments")?;
    ensure!(
        environments.iter().all(|environment| environment["intact"] == true),
        "something is damaged: {status}"
    );
    unchanged("status")?;
    drop(guest);
    lab.detach()?;
    unchanged("detach")?;
    let after = snapshot::of_host(lab)?;
    ensure!(
        host == after,
        "detach has left the host otherwise:\n{}",
        snapshot::difference(&host, &after)
    );
    Ok(())
}

/// Fails unless attach is refused with one line that holds the words, before the first change, and detach removes nothing.
fn refused(lab: &Lab, words: &[&str]) -> Result<()> {
    fixture::refused(lab, 1, words, || {
        // With --verbose, every change is a line.
        let outcome = lab.envnet().run("--verbose attach")?;
        lab.detach()?;
        Ok(outcome)
    })
}

#[test]
fn what_is_not_in_the_way_is_left_alone() -> Result<()> {
    detached(|lab| {
        for foreign in &LIVED_WITH {
            foreign
                .check_lived_with(lab)
                .with_context(|| format!("{:?}", foreign.make))?;
        }
        Ok(())
    })
}

#[test]
fn what_has_a_wanted_name_is_refused_and_left_alone() -> Result<()> {
    detached(|lab| {
        for (foreign, words) in &REFUSED {
            foreign.make(lab)?;
            let view = foreign.view(lab)?;
            refused(lab, words).with_context(|| format!("{:?}", foreign.make))?;
            ensure!(foreign.view(lab)? == view, "{:?} was changed", foreign.make);
            foreign.remove(lab)?;
        }
        Ok(())
    })
}

#[test]
fn what_has_the_name_of_a_port_of_the_uplink_bridge_is_refused() -> Result<()> {
    detached_with(Configuration::default().mode(Mode::Bridge), |lab| {
        lab.host().ip("link add peer2-gw1 type bridge")?;
        refused(lab, &["link peer2-gw1", "environment 1"])?;
        lab.host().ip("link delete peer2-gw1").map(drop)
    })
}

/// What is added while environments are there, and is in the way of the next one only.
#[test]
fn what_is_in_the_way_of_a_new_environment_leaves_the_others_attached() -> Result<()> {
    attached(|lab| {
        let [dc, _] = ROLES;
        let _guest = lab.guest(1, dc)?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "the guest is not up");
        lab.host().ip("link add br3 type bridge")?;
        lab.configure(Configuration::of(3))?;
        let outcome = lab.envnet().run("--verbose attach")?;
        ensure!(
            outcome.status == Some(1) && outcome.stderr.contains("br3"),
            "{outcome:?}"
        );
        ensure!(
            outcome.stderr.lines().count() == 1,
            "something was changed: {}",
            outcome.stderr
        );
        ensure!(
            lab.ping(dc.external(1))?.is_some(),
            "environment 1 does not answer any more"
        );
        lab.host().ip("link delete br3").map(drop)
    })
}

/// The kernel deletes whole groups; a foreign link in one of envnet's, even one that is a port of `brE`, has to survive.
#[test]
fn a_foreign_port_in_the_removal_group_survives() -> Result<()> {
    attached(|lab| {
        let host = lab.host();
        for group in [25966, 25967] {
            host.ip(&format!("link add other group {group} type veth peer name rehto"))?;
            host.ip("link set other master br1 up")?;
            lab.attach()?;
            ensure!(lab.envnet().changes("attach")? == 0, "attach again changed something");
            lab.detach()?;
            let link = host.ip("-details link show other").context("detach has removed it")?;
            // Its bridge is gone.
            ensure!(!link.contains("master"), "still a port: {link}");
            ensure!(link.contains(&format!("group {group}")), "another group: {link}");
            lab.attach()?;
            host.ip("link delete other")?;
        }
        Ok(())
    })
}

/// Pins and directories of others in the BPF filesystem, which envnet has mounted itself where nobody else had.
#[test]
fn pins_of_others_stay_and_keep_the_filesystem_mounted() -> Result<()> {
    attached(|lab| {
        let name = format!("foreign-{}", lab.host().name());
        let others = ["/sys/fs/bpf", "/sys/fs/bpf/envnet"].map(|directory| format!("{directory}/{name}"));
        for other in &others {
            fs::create_dir(other).with_context(|| other.clone())?;
        }
        lab.detach()?;
        for other in &others {
            ensure!(fs::exists(other)?, "detach has removed {other}");
            fs::remove_dir(other)?;
        }
        // Cleans up after this test: the detach that leaves nothing unmounts the filesystem.
        lab.attach().map(drop)
    })
}

/// Addresses that somebody gives to envnet's own links in the host go with the links, and not before.
#[test]
fn an_address_on_an_own_bridge_stays_until_the_bridge_goes() -> Result<()> {
    attached(|lab| {
        lab.host().ip("address add 10.0.0.250/24 dev br1")?;
        ensure!(lab.envnet().changes("attach")? == 0, "attach changed something");
        let addresses = lab.host().ip("-4 address show dev br1")?;
        ensure!(addresses.contains("10.0.0.250"), "it is gone: {addresses}");
        Ok(())
    })
}
