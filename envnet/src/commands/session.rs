//! What every command that looks at the kernel does first: privileges, namespace, lock, survey.

use std::{
    collections::BTreeMap,
    io,
    os::{linux::net::SocketAddrExt as _, unix::net},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

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

/// Held while a command changes things; released by the kernel however the command ends.
pub(super) struct Lock(#[expect(dead_code, reason = "held, never used")] net::UnixListener);

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

    /// Waits until no other command changes this host.
    ///
    /// The lock is an abstract socket in the managed namespace: one per host, no file, gone with the process.
    pub(super) fn lock(&self) -> Result<Lock> {
        const PATIENCE: Duration = Duration::from_secs(30);
        let address = net::SocketAddr::from_abstract_name("envnet")?;
        let start = Instant::now();
        loop {
            match self.host.run(|| net::UnixListener::bind_addr(&address))? {
                Ok(listener) => return Ok(Lock(listener)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(50));
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    bail!(
                        "another envnet command has been changing this host for {PATIENCE:?}; wait for it and run this again"
                    )
                }
                Err(error) => return Err(error).context("cannot take the lock"),
            }
        }
    }

    /// Says what a configuration wants of this host, and what is there.
    pub(super) async fn survey(&self, config: &Config) -> Result<(BTreeMap<u32, Environment>, Observed)> {
        let netlink = Netlink::open(&self.host)?;
        let links = netlink.links().await?;
        let own = |index: u32| {
            links
                .iter()
                .any(|link| link.index == index && self.instance.environment_of_alias(&link.alias).is_some())
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
