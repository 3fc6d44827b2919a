//! envnet itself, as its users run it: the released program with a configuration file.

use std::{
    fs,
    time::{Duration, Instant},
};

use ::envnet::{kernel::pinned_maps::PinnedMaps, names::Instance};
use anyhow::{Context, Result, bail};
use envnet_common::maps::{Mapping, MappingKey};
use envnet_lab::{Configuration, addresses::ROLES, directory::Directory, envnet as command, interrupt};

use super::{ENVIRONMENTS, Method, Standing};
use crate::{flood::index, testbed::Testbed};

/// How long the kernel may have no memory for an entry.
const PATIENCE: Duration = Duration::from_secs(2);
/// Not one of a testbed's.
const UNUSED_ENVIRONMENT: u32 = 1000;

/// The method, with one of its ways for packets.
pub(super) struct Envnet {
    name: &'static str,
    description: &'static str,
    accelerate: &'static str,
}

impl Envnet {
    pub(super) const SLOW: Self = Self {
        name: "envnet-slow",
        description: "envnet with `accelerate = \"off\"`: eBPF translates at the router, the kernel forwards",
        accelerate: "off",
    };
    pub(super) const TC: Self = Self {
        name: "envnet-tc",
        description: "envnet with `accelerate = \"tc\"`: translated and redirected between uplink and guest by TC programs",
        accelerate: "tc",
    };
    pub(super) const XDP: Self = Self {
        name: "envnet-xdp",
        description: "envnet with `accelerate = \"xdp\"`: the same by XDP, before the kernel makes a packet of the frame",
        accelerate: "xdp",
    };
}

impl Method for Envnet {
    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> &'static str {
        self.description
    }

    fn set_up(&self, testbed: &Testbed) -> Result<Box<dyn Standing>> {
        let directory = Directory::create(testbed.host.name())?;
        let file = directory.path().join("envnet.toml");
        let configuration = Configuration::of(ENVIRONMENTS);
        fs::write(&file, configuration.clone().accelerate(self.accelerate).to_string())?;
        let command = command::Envnet::find(testbed.host.name(), &file, None)?;
        if command.run("check")?.status != Some(0) {
            // A program that knows no other way needs no key for it.
            if self.accelerate != "off" {
                bail!("this envnet does not know `accelerate = \"{}\"`", self.accelerate);
            }
            fs::write(&file, configuration.to_string())?;
        }
        command.succeed("attach")?;
        Ok(Box::new(Attached {
            command,
            _directory: directory,
        }))
    }
}

struct Attached {
    command: command::Envnet,
    _directory: Directory,
}

impl Attached {
    fn maps(testbed: &Testbed) -> Result<PinnedMaps> {
        PinnedMaps::open(&Instance::Named(testbed.host.name().to_owned()))?.context("envnet has pinned no maps")
    }
}

impl Standing for Attached {
    /// The guests' ports are not envnet's own taps: it looks for such when it is run.
    fn plugged(&mut self, _testbed: &Testbed) -> Result<()> {
        self.command.succeed("attach").map(drop)
    }

    /// Nobody who uses envnet can do this: it would lose frames where the other end of a veth has no NAPI.
    fn take_as_tap(&self, testbed: &Testbed, interface: &str, is_tap: bool) -> Result<()> {
        let index = index(&testbed.host, interface)?;
        let mut maps = Self::maps(testbed)?;
        if is_tap {
            // The kernel looks for the device in the caller's namespace.
            testbed.host.run(|| Ok(maps.taps.insert(index, index, None, 0)?))
        } else {
            Ok(maps.taps.remove(index)?)
        }
    }

    /// Through the pinned maps: a guest in the configuration has a tap, and nobody wants 100,000 of them here.
    fn fill(&mut self, testbed: &Testbed, mappings: usize) -> Result<bool> {
        let mut maps = Self::maps(testbed)?;
        let already = ROLES.len() * usize::from(ENVIRONMENTS);
        for (internal, external) in super::unused(mappings.saturating_sub(already)) {
            let key = MappingKey {
                environment: UNUSED_ENVIRONMENT,
                internal: internal.into(),
            };
            let mapping = Mapping {
                external: external.into(),
            };
            insert(&mut maps, key, mapping)?;
        }
        Ok(true)
    }
}

/// Inserts until the kernel has memory for it: what each processor has of its own it takes from pages that are prepared
/// aside, and thousands of entries at once are faster than that on a busy machine.
fn insert(maps: &mut PinnedMaps, key: MappingKey, mapping: Mapping) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match maps.insert_mapping(key, mapping) {
            Err(_) if Instant::now() < end => interrupt::sleep(Duration::from_millis(5))?,
            inserted => return Ok(inserted?),
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Err(error) = self.command.succeed("detach") {
            eprintln!("{error:#}");
        }
    }
}
