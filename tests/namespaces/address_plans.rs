//! Address plans other than 10.0.0.0/24 in 172.16.0.0/16, and options that show in the kernel.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use envnet_lab::{
    Configuration, Lab,
    addresses::{REMOTE, ROLES, ROUTER, Role},
    configuration::Vm,
    guest::{Guest, Settings},
    process::output,
    tap::{self, Offload},
};

use crate::fixture::{attached_with, detached_with};

/// Attaches, and pings one guest from outside and back.
fn check(lab: &Lab, outside: &str, guest: Settings, external: Ipv4Addr) -> Result<()> {
    lab.outside().ip(&format!("address add {outside} dev eth0"))?;
    lab.attach()?;
    let guest = Guest::create(&format!("{}-guest", lab.host().name()), lab.host(), guest)?;
    ensure!(lab.ping(external)?.is_some(), "no answer from {external}");
    ensure!(guest.ping(REMOTE)?.is_some(), "no answer from outside");
    Ok(())
}

fn settings(tap: &str, role: Role, address: Ipv4Addr, prefix: u8) -> Settings {
    Settings {
        tap: tap.to_owned(),
        address,
        prefix,
        router: ROUTER,
        mac: role.mac.to_owned(),
        offload: Offload::Full,
    }
}

#[test]
fn pools_for_more_than_256_environments_work() -> Result<()> {
    let wide = Configuration::default().environments(300);
    detached_with(wide.addresses("10.0.0.0/24", ROUTER, "172.16.0.0/12"), |lab| {
        let guest = settings("vm300.2", ROLES[0], Ipv4Addr::new(10, 0, 0, 2), 24);
        check(lab, "172.31.255.254/12", guest, Ipv4Addr::new(172, 17, 44, 2))
    })
}

#[test]
fn larger_environments_work() -> Result<()> {
    let address = Ipv4Addr::new(10, 0, 1, 3);
    let wide = Configuration::default().environments(5).machine(Vm {
        address,
        ..ROLES[1].into()
    });
    detached_with(wide.addresses("10.0.0.0/23", ROUTER, "172.16.0.0/16"), |lab| {
        let guest = settings("vm5.259", ROLES[1], address, 23);
        check(lab, "172.16.255.254/16", guest, Ipv4Addr::new(172, 16, 11, 3))
    })
}

/// User and group of a tap; ip knows some by name.
fn owners(lab: &Lab) -> Result<Vec<String>> {
    let tap = ROLES[0].tap(1);
    // /sys shows the namespace it was mounted in; ip asks the kernel.
    let view = lab.host().ip(&format!("-json -details link show dev {tap}"))?;
    let view: serde_json::Value = serde_json::from_str(&view)?;
    let data = &view[0]["linkinfo"]["info_data"];
    Ok(["user", "group"]
        .map(|key| data[key].to_string().replace('"', ""))
        .to_vec())
}

#[test]
fn taps_belong_to_whom_the_configuration_says() -> Result<()> {
    attached_with(Configuration::of(1).tap_owner("65534", "65533"), |lab| {
        let owners = owners(lab)?;
        ensure!(owners == ["nobody", "65533"], "{owners:?}");
        Ok(())
    })
}

/// The kernel lets everybody open a tap that has neither user nor group.
#[test]
fn without_an_owner_taps_are_roots() -> Result<()> {
    attached_with(Configuration::of(1), |lab| {
        ensure!(owners(lab)?[0] == "root", "{:?}", owners(lab)?);
        // As an earlier version has left one: it gets its owner unless a machine has it open.
        let tap = ROLES[0].tap(1);
        lab.host().ip(&format!("link delete {tap}"))?;
        lab.host().ip(&format!("tuntap add dev {tap} mode tap vnet_hdr"))?;
        let alias = format!("envnet netns {} 1", lab.host().name());
        output(
            lab.host()
                .command("ip")
                .args(["link", "set", &tap, "group", "25966", "alias", &alias]),
        )?;
        let machine = tap::open(lab.host(), &tap, Offload::Full)?;
        lab.attach()?;
        ensure!(owners(lab)?[0] == "null", "{:?}", owners(lab)?);
        ensure!(lab.envnet().changes("attach")? == 0, "an open tap is left as it is");
        drop(machine);
        lab.attach()?;
        ensure!(owners(lab)?[0] == "root", "{:?}", owners(lab)?);
        Ok(())
    })
}
