//! envnet itself, as its users run it: the released program with a configuration file.

use std::fs;

use ::envnet::{kernel::tables::Tables, names::Instance};
use anyhow::{Context, Result, bail};
use envnet_common::maps::{Mapping, MappingKey};
use envnet_lab::{
    directory::Directory,
    envnet as command,
    plan::{self, Mode, ROLES},
};

use super::{ENVIRONMENTS, Method, Standing};
use crate::site::Site;

/// Not one of a site's.
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

    fn set_up(&self, site: &Site) -> Result<Box<dyn Standing>> {
        let directory = Directory::create(site.host.name())?;
        let file = directory.path().join("envnet.toml");
        let text = plan::configuration(ENVIRONMENTS, Mode::Macvlan);
        fs::write(&file, accelerated(&text, self.accelerate))?;
        let command = command::Envnet::find(site.host.name(), &file, None)?;
        if command.run("check")?.status != Some(0) {
            // A program that knows no other way needs no key for it.
            if self.accelerate != "off" {
                bail!("this envnet does not know `accelerate = \"{}\"`", self.accelerate);
            }
            fs::write(&file, &text)?;
        }
        command.succeed("attach")?;
        Ok(Box::new(Attached {
            command,
            _directory: directory,
        }))
    }
}

/// The configuration with a line more in the section of the uplink.
pub(crate) fn accelerated(configuration: &str, way: &str) -> String {
    configuration.replacen("[uplink]\n", &format!("[uplink]\naccelerate = \"{way}\"\n"), 1)
}

struct Attached {
    command: command::Envnet,
    _directory: Directory,
}

impl Standing for Attached {
    /// The guests' ports are not envnet's own taps: it looks for such when it is run.
    fn plugged(&mut self, _site: &Site) -> Result<()> {
        self.command.succeed("attach").map(drop)
    }

    /// Through the pinned maps: a guest in the configuration has a tap, and nobody wants 100,000 of them here.
    fn fill(&mut self, site: &Site, mappings: usize) -> Result<bool> {
        let instance = Instance::Named(site.host.name().to_owned());
        let mut tables = Tables::open(&instance)?.context("envnet has pinned no maps")?;
        let already = ROLES.len() * usize::from(ENVIRONMENTS);
        for (internal, external) in super::unused(mappings.saturating_sub(already)) {
            let key = MappingKey {
                environment: UNUSED_ENVIRONMENT,
                internal: internal.into(),
            };
            tables.insert_mapping(
                key,
                Mapping {
                    external: external.into(),
                },
            )?;
        }
        Ok(true)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Err(error) = self.command.succeed("detach") {
            eprintln!("{error:#}");
        }
    }
}
