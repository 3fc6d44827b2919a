//! What every command that looks at the kernel does first: privileges, mounts and namespace, then a look at the host.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};

use crate::{
    cli::Cli,
    config::Config,
    desired::{self, Desired},
    host,
    inspect::HostLinks,
    kernel::{bpffs, netlink::Netlink, netns::Netns, programs::Hook},
    names::Instance,
    observe::{self, Depth, Observed},
};

/// A command at work on one host.
pub(super) struct HostContext {
    pub(super) instance: Instance,
    pub(super) host: Netns,
    /// How programs are attached, if it is said.
    pub(super) hook: Option<Hook>,
}

impl HostContext {
    pub(super) fn open(cli: &Cli) -> Result<Self> {
        host::check_privileges(cli.command.name())?;
        let release = nix::sys::utsname::uname().context("cannot ask for the kernel's release")?;
        host::check_kernel(&release.release().to_string_lossy())?;
        check_mounts()?;
        let (instance, host) = match &cli.netns {
            None => (Instance::Host, Netns::current()?),
            Some(name) => {
                let instance = Instance::Named(name.clone());
                let host = Netns::open(name);
                let host = if host.is_err() && bpffs::directory(&instance).exists() {
                    host.with_context(|| {
                        format!(
                            "what was attached in {name} is left; `ip netns add {name}`, then `envnet --netns {name} detach` \
                             removes it"
                        )
                    })?
                } else {
                    host?
                };
                (instance, host)
            }
        };
        Ok(Self {
            instance,
            host,
            hook: cli.hook,
        })
    }

    /// What a configuration asks of this host, and what is there: inspects the host, checks it, says what is desired, and
    /// observes the rest.
    pub(super) async fn compare(&self, config: &Config) -> Result<(Desired, Observed)> {
        let netlink = Netlink::open(&self.host)?;
        let inspected = HostLinks::inspect(&netlink).await?;
        let facts = host::check(config, &self.instance, &inspected)?;
        let desired = desired::desired(config, &self.instance, &facts);
        host::check_programs(&netlink, &self.instance, &desired.uplink, &inspected.links, self.hook).await?;
        let (environments, depth) = (&desired.environments, Depth::Everything);
        let observed = observe::observe(&self.host, &self.instance, inspected, environments, self.hook, depth)?;
        Ok((desired, observed))
    }

    /// Looks at what is there, whatever the configuration says.
    pub(super) async fn observe(&self, depth: Depth) -> Result<Observed> {
        let inspected = HostLinks::inspect(&Netlink::open(&self.host)?).await?;
        let nothing = BTreeMap::new();
        let observed = observe::observe(&self.host, &self.instance, inspected, &nothing, self.hook, depth)?;
        Ok(observed)
    }
}

/// Refuses to work where mounts do not reach the rest of the machine: the names of namespaces and the BPF filesystem are
/// mounts, and would vanish with this process (`ip netns exec`, or a service with private mounts).
fn check_mounts() -> Result<()> {
    let [own, first] = ["/proc/self/ns/mnt", "/proc/1/ns/mnt"].map(fs::read_link);
    // Where the first process cannot be looked at, the mount that the names are under has to tell.
    let private = match (own, first) {
        (Ok(own), Ok(first)) => own != first,
        _ => is_slave(&fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?),
    };
    ensure!(
        !private,
        "this is a private mount namespace, in which nothing envnet makes would last; run it outside of `ip netns exec` (with \
         --netns NAME) and of services with private mounts"
    );
    Ok(())
}

/// Whether the mount that `/run/netns` is under only receives what is mounted elsewhere (proc(5), `mountinfo`).
fn is_slave(mountinfo: &str) -> bool {
    let mounts = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(4);
        let point = fields.next()?;
        let tags: Vec<&str> = fields.skip(1).take_while(|field| *field != "-").collect();
        Path::new("/run/netns")
            .starts_with(point)
            .then_some((point.len(), tags))
    });
    // The last one of the same length is on top.
    mounts
        .max_by_key(|(length, _)| *length)
        .is_some_and(|(_, tags)| tags.iter().any(|tag| tag.starts_with("master:")))
}

#[cfg(test)]
mod tests {
    use super::is_slave;

    #[test]
    fn only_a_slave_mount_is_private() {
        let root = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw";
        let names = |tags| format!("{root}\n99 21 8:1 /run/netns /run/netns rw{tags} - ext4 /dev/sda1 rw\n");
        assert!(!is_slave(root));
        assert!(!is_slave(&names(" shared:7")));
        assert!(!is_slave(&names("")));
        assert!(is_slave(&names(" master:7")));
        assert!(!is_slave(&format!(
            "{root}\n98 21 0:5 / /sys rw master:3 - sysfs sysfs rw"
        )));
    }
}
