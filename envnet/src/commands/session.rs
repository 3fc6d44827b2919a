//! What every command that looks at the kernel does first: privileges, namespace, lock, survey.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::{
    cli::Cli,
    config::Config,
    desired::{self, Environment},
    host,
    kernel::{netlink::Netlink, netns::Netns, programs::Hook},
    names::Instance,
    observe::{self, Observed},
};

/// A command at work on one host.
pub(super) struct Session {
    pub(super) instance: Instance,
    pub(super) host: Netns,
    pub(super) hook: Hook,
}

impl Session {
    pub(super) fn open(cli: &Cli) -> Result<Self> {
        host::check_privileges()?;
        let release = nix::sys::utsname::uname().context("cannot ask for the kernel's release")?;
        host::check_kernel(&release.release().to_string_lossy())?;
        let (instance, host) = match &cli.netns {
            None => (Instance::Host, Netns::current()?),
            Some(name) => (Instance::Named(name.clone()), Netns::open(name)?),
        };
        Ok(Self {
            instance,
            host,
            hook: cli.hook.unwrap_or_else(Hook::best),
        })
    }

    /// Says what a configuration wants of this host, and what is there.
    pub(super) async fn survey(&self, config: &Config) -> Result<(BTreeMap<u32, Environment>, Observed)> {
        let netlink = Netlink::open(&self.host)?;
        let links = netlink.links().await?;
        let own = |index: u32| {
            links
                .iter()
                .any(|link| link.index == index && link.owner(&self.instance).is_some())
        };
        let name = |index: u32| {
            links
                .iter()
                .find(|link| link.index == index)
                .map(|link| link.name.clone())
        };
        let addresses: Vec<_> = netlink
            .addresses()
            .await?
            .into_iter()
            .filter(|(index, _)| !own(*index))
            .filter_map(|(index, address)| Some((name(index)?, address)))
            .collect();
        let facts = host::check(config, &links, &addresses)?;
        let wanted = desired::environments(config, &self.instance, &facts);
        let observed = observe::observe(&self.host, &self.instance, &wanted, self.hook).await?;
        Ok((wanted, observed))
    }

    /// Looks at what is there, whatever the configuration says.
    pub(super) async fn observe(&self) -> Result<Observed> {
        observe::observe(&self.host, &self.instance, &BTreeMap::new(), self.hook).await
    }
}
