//! Interfaces that are not envnet's get other names while environments are attached: their programs stay, and are known
//! under the new ones.

use anyhow::{Result, ensure};
use envnet_lab::{Configuration, Lab, addresses::ROLES, fixture::detached_each, process};

/// Gives a link another name; as udev does, it may keep the old one as an alternative.
fn rename(lab: &Lab, from: &str, to: &str, keep: bool) -> Result<()> {
    lab.host().ip(&format!("link set {from} down"))?;
    lab.host().ip(&format!("link set {from} name {to}"))?;
    if keep {
        lab.host().ip(&format!("link property add dev {to} altname {from}"))?;
    }
    lab.host().ip(&format!("link set {to} up")).map(drop)
}

fn plug(lab: &Lab, port: &str) -> Result<()> {
    lab.host().ip(&format!("tuntap add {port} mode tap"))?;
    lab.host().ip(&format!("link set {port} master br1 up")).map(drop)
}

/// Runs a test with each way of attaching programs to what is not envnet's.
fn each_way(test: impl Fn(&Lab) -> Result<()>) -> Result<()> {
    let [tc, xdp] = ["tc", "xdp"].map(|accelerate| Configuration::default().accelerate(accelerate));
    detached_each([tc.clone(), xdp, tc.hook("clsact")], test)
}

#[test]
fn a_renamed_uplink_keeps_its_programs() -> Result<()> {
    each_way(|lab| {
        for keep in [false, true] {
            let [dc, _] = ROLES;
            lab.attach()?;
            rename(lab, "eth0", "wan.0", keep)?;
            lab.configure(lab.configuration().uplink("wan.0"))?;
            lab.attach()?;
            ensure!(
                lab.envnet().changes("attach")? == 0,
                "a second attach changes something"
            );
            let _guest = lab.guest(1, dc)?;
            ensure!(lab.ping(dc.external(1))?.is_some(), "no answer");
            lab.detach()?;
            let qdiscs = process::output(lab.host().command("tc").args(["qdisc", "show", "dev", "wan.0"]))?;
            ensure!(!qdiscs.contains("clsact"), "envnet left its qdisc: {qdiscs}");
            if keep {
                lab.host().ip("link property del dev wan.0 altname eth0")?;
            }
            rename(lab, "wan.0", "eth0", false)?;
            lab.configure(lab.configuration().uplink("eth0"))?;
        }
        Ok(())
    })
}

/// The one that is looked at first has the name that was the other's.
#[test]
fn names_that_change_hands_are_no_obstacle_to_an_upgrade() -> Result<()> {
    each_way(|lab| {
        let other = lab.envnet().another_build(&lab.directory().path().join("envnet-2"))?;
        lab.attach()?;
        plug(lab, "vnet5")?;
        plug(lab, "vnet6")?;
        lab.attach()?;
        rename(lab, "vnet5", "vnet9", false)?;
        rename(lab, "vnet6", "vnet5", true)?;
        plug(lab, "vnet7")?;
        rename(lab, "eth0", "wan0", true)?;
        lab.configure(lab.configuration().uplink("wan0"))?;
        other.succeed("attach")?;
        ensure!(other.changes("attach")? == 0, "a second attach changes something");
        lab.attach()?;
        ensure!(
            lab.envnet().changes("attach")? == 0,
            "a second attach of the first build changes something"
        );
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "no answer");
        drop(guest);
        // Renamed once more, each is found where it is.
        rename(lab, "vnet9", "vnet4", false)?;
        lab.host().ip("link set vnet5 nomaster")?;
        lab.attach()?;
        ensure!(
            lab.envnet().changes("attach")? == 0,
            "attach changes something after a port has gone"
        );
        rename(lab, "vnet4", "vnet8", false)?;
        lab.detach()?;
        for port in ["vnet5", "vnet7", "vnet8"] {
            lab.host().ip(&format!("link delete {port}"))?;
        }
        lab.host().ip("link property del dev wan0 altname eth0")?;
        rename(lab, "wan0", "eth0", false)
    })
}
