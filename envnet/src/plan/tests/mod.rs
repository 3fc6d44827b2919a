//! Plans over a model of the kernel: applying a plan to it must leave nothing to plan.

mod converge;
mod maps;
mod model;
mod selection;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use envnet_common::{
    Mac,
    maps::{Endpoint, Location},
};
use ipnet::Ipv4Net;

use self::model::Model;
use super::*;
use crate::{
    config::Config,
    desired::{self, HostFacts, Link, LinkKind},
    kernel::{
        netlink::{Kind, Link as KernelLink, Route as KernelRoute},
        netns::NetnsKind,
        pins::OtherBuilds,
        programs::{Attached, StalePin},
    },
    observe::{Fast, MapState, PinState, Pins, Router},
    topology::{AttachPoint, classic},
};

const UPLINK: u32 = 2;

fn config(environments: &str, mode: &str, machines: &[u8]) -> Config {
    let text = text(environments, mode, machines);
    Config::parse(&text, Path::new("test.toml")).expect("a good configuration")
}

fn text(environments: &str, mode: &str, machines: &[u8]) -> String {
    let mut text = format!(
        "environments = \"{environments}\"\n[uplink]\ninterface = \"up0\"\nmode = \"{mode}\"\ngateway = \"172.16.0.1\"\n\
         [addresses]\ninternal = \"10.0.0.0/24\"\nrouter = \"10.0.0.1\"\nexternal = \"172.16.0.0/16\"\n"
    );
    for machine in machines {
        let _infallible = writeln!(text, "[[vm]]\nname = \"m{machine}\"\naddress = \"10.0.0.{machine}\"");
    }
    text
}

/// A configuration in which something else is different.
fn changed(environments: &str, (from, to): (&str, &str)) -> Config {
    let text = text(environments, "macvlan", &[2, 3]);
    assert!(text.contains(from), "{from} is not in the configuration");
    Config::parse(&text.replace(from, to), Path::new("test.toml")).expect("a good configuration")
}

fn desired(config: &Config) -> Desired {
    let facts = HostFacts {
        identity: "host".into(),
        uplink: UPLINK,
        uplink_mac: Mac([2, 0, 0, 0, 0, 9]),
        mtu: 1500,
        tap_user: Some(64),
        tap_group: None,
    };
    desired::desired(config, &Instance::Host, &facts)
}

fn kernel_link(index: u32, name: &str, kind: Kind) -> KernelLink {
    KernelLink {
        index,
        name: name.to_owned(),
        kind,
        mac: Mac([2, 0, 0, 0, 0, 9]),
        mtu: 1500,
        master: None,
        up: false,
        carrier: false,
        alias: String::new(),
        group: 0,
        altnames: Vec::new(),
        group_forwarding: 0,
        xdp: None,
    }
}

fn nothing_left(model: &mut Model, config: &Config) {
    let again = model.attach(config);
    assert!(again.is_empty(), "the second plan is not empty: {again:#?}");
}

fn assert_clean(model: &Model) {
    let links: Vec<&String> = model.observed.links.keys().collect();
    assert_eq!(links, ["up0"]);
    assert!(model.observed.routers.is_empty() && !model.observed.pins.is_present());
    assert!(model.observed.environments.is_empty() && model.observed.mappings.is_empty());
    assert_eq!(model.observed.fast, Fast::default());
    assert!(model.observed.attached.is_empty(), "{:?}", model.observed.attached);
}
