//! What is not envnet's: links, addresses, routes and queueing disciplines of somebody else's.

use anyhow::{Context, Result};
use envnet_lab::{Lab, namespace::Namespace, process::output};

use super::tolerated;

/// Something of somebody else's in the host: how it is made, what shows it, and how it is taken away.
pub(super) struct Foreign {
    pub(super) make: &'static [&'static str],
    pub(super) view: &'static [&'static str],
    pub(super) remove: &'static [&'static str],
}

pub(super) const fn foreign(
    make: &'static [&'static str],
    view: &'static [&'static str],
    remove: &'static [&'static str],
) -> Foreign {
    Foreign { make, view, remove }
}

/// Names near envnet's, its groups, its uplink's neighbours, routes into its pool.
pub(super) const TOLERATED: [Foreign; 10] = [
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
pub(super) const REFUSED: [(Foreign, &[&str]); 8] = [
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
pub(super) fn run(namespace: &Namespace, command: &str) -> Result<String> {
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
    pub(super) fn make(&self, lab: &Lab) -> Result<()> {
        run_all(lab.host(), self.make).map(drop)
    }

    pub(super) fn remove(&self, lab: &Lab) -> Result<()> {
        run_all(lab.host(), self.remove).map(drop)
    }

    pub(super) fn view(&self, lab: &Lab) -> Result<Vec<String>> {
        run_all(lab.host(), self.view)
    }

    /// Fails unless envnet works beside it and leaves it alone, whatever it does.
    pub(super) fn check_tolerated(&self, lab: &Lab) -> Result<()> {
        self.make(lab)?;
        tolerated(lab, || self.view(lab))?;
        self.remove(lab)
    }
}
