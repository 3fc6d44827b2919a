//! A host, its uplink and the outside, each a namespace of its own, with `envnet` managing the host.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use serde_json::Value;

use crate::{
    addresses::{INTERNAL, INTERNAL_PREFIX, REMOTE, ROUTER, Role, UPSTREAM},
    capture::Capture,
    configuration::{Configuration, Mode},
    directory::Directory,
    envnet::Envnet,
    guest::{Guest, PATIENCE, Settings},
    interrupt,
    namespace::{self, Namespace},
    ping::ping,
    process::output,
    qemu::{Accelerator, Image, Machine, Start},
    remains::{self, PREFIX},
    tap::Offload,
};

/// The configuration's name in the laboratory's folder.
const FILE: &str = "envnet.toml";
/// The uplink's Ethernet address. As with most cards it is lower than those of envnet's links; a random one might not be,
/// and a bridge takes the lowest of its ports' for its own.
const UPLINK_MAC: &str = "02:00:00:00:0e:00";

/// The laboratory; dropping it detaches envnet and removes every trace.
#[derive(Debug)]
pub struct Lab {
    envnet: Envnet,
    capture: Capture,
    outside: Namespace,
    host: Namespace,
    directory: Directory,
    uplink_mac: String,
    configuration: Mutex<Configuration>,
}

impl Lab {
    /// Builds host, uplink and outside, and writes the configuration.
    pub fn new(configuration: Configuration) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        ensure!(
            geteuid().is_root(),
            "the laboratory makes network namespaces and must be root; run it with sudo"
        );
        interrupt::install();
        interrupt::check()?;
        let name = match NEXT.fetch_add(1, Ordering::Relaxed) {
            0 => format!("{PREFIX}{}", process::id()),
            further => format!("{PREFIX}{}-{further}", process::id()),
        };
        remains::clear().context("what an earlier laboratory left")?;
        let directory = Directory::create(&name)?;
        let host = Namespace::create(&name)?;
        let outside = Namespace::create(&format!("{name}-out"))?;
        // The outside is an ordinary router without IPv6, so that all IPv6 seen there comes from the host's side.
        outside.set_sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        outside.set_sysctl("net/ipv4/ip_forward", "1")?;
        host.ip(&format!(
            "link add eth0 address {UPLINK_MAC} type veth peer name eth0 netns {}",
            outside.name()
        ))?;
        outside.ip(&format!("address add {UPSTREAM}/16 dev eth0"))?;
        outside.ip(&format!("address add {REMOTE}/32 dev lo"))?;
        outside.ip("link set eth0 up")?;
        let capture = Capture::start(&outside, "eth0")?;
        if configuration.chosen_mode() == Mode::Bridge {
            host.ip("link add br0 type bridge")?;
            host.ip("link set eth0 master br0")?;
            host.ip("link set br0 up")?;
        }
        host.ip("link set eth0 up")?;
        let uplink_mac = host.mac("eth0")?;
        let file = directory.path().join(FILE);
        let lab = Self {
            envnet: Envnet::find(&name, &file, configuration.chosen_hook())?,
            capture,
            outside,
            host,
            directory,
            uplink_mac,
            configuration: Mutex::new(configuration.clone()),
        };
        if lab.has_xdp() {
            lab.finish_checksums(true)?;
        }
        lab.configure(configuration)?;
        Ok(lab)
    }

    /// Whether the outside finishes its checksums. Across a veth, frames of its own stack otherwise come with unfinished
    /// ones, which XDP cannot know of.
    pub fn finish_checksums(&self, finish: bool) -> Result<()> {
        let mut ethtool = self.outside.command("ethtool");
        let offload = if finish { "off" } else { "on" };
        output(ethtool.args(["--features", "eth0", "tx-checksumming", offload])).map(drop)
    }

    /// From now on the command is that program, another build for example.
    pub fn set_program(&mut self, program: &Path) {
        self.envnet = self.envnet.with_program(program);
    }

    /// Whether there is a fast path.
    #[must_use]
    pub fn is_accelerated(&self) -> bool {
        self.configuration().chosen_fast_path() != Some("off")
    }

    /// Whether the fast path is XDP, which wants finished checksums from the outside.
    #[must_use]
    pub fn has_xdp(&self) -> bool {
        self.configuration().chosen_fast_path() == Some("xdp")
    }

    /// The configuration that was written last.
    #[must_use]
    pub fn configuration(&self) -> Configuration {
        self.configuration
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Writes another configuration.
    pub fn configure(&self, configuration: Configuration) -> Result<()> {
        self.write_configuration(&configuration.to_string())?;
        *self.configuration.lock().unwrap_or_else(PoisonError::into_inner) = configuration;
        Ok(())
    }

    /// Writes another configuration and attaches it.
    pub fn attach_as(&self, configuration: Configuration) -> Result<String> {
        self.configure(configuration)?;
        self.attach()
    }

    /// Writes any text as the configuration file: one with a mistake.
    pub fn write_configuration(&self, text: &str) -> Result<()> {
        let path = self.configuration_file();
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Where the configuration file is.
    #[must_use]
    pub fn configuration_file(&self) -> PathBuf {
        self.directory.path().join(FILE)
    }

    /// Builds the environments.
    pub fn attach(&self) -> Result<String> {
        self.envnet.succeed("attach")
    }

    /// Removes the environments.
    pub fn detach(&self) -> Result<String> {
        self.envnet.succeed("detach")
    }

    /// What envnet says about its environments.
    pub fn status(&self) -> Result<Value> {
        let text = self.envnet.succeed("--json status")?;
        serde_json::from_str(&text).with_context(|| format!("`envnet status --json` is no JSON: {text}"))
    }

    /// The command, to run with any arguments.
    #[must_use]
    pub fn envnet(&self) -> &Envnet {
        &self.envnet
    }

    /// The namespace that plays the host.
    #[must_use]
    pub fn host(&self) -> &Namespace {
        &self.host
    }

    /// The namespace at the other end of the uplink.
    #[must_use]
    pub fn outside(&self) -> &Namespace {
        &self.outside
    }

    /// The router namespace of an environment.
    pub fn router(&self, environment: u8) -> Result<Namespace> {
        Namespace::open(&format!("{}-ns{environment}", self.host.name()))
    }

    /// What passed the uplink since the laboratory was built.
    #[must_use]
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    /// A folder that is removed with the laboratory.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Fails if an internal address, or anything but ARP and IPv4 from envnet's own interfaces, ever left the uplink.
    pub fn check_no_leak(&self) -> Result<usize> {
        self.capture.check_no_leak(INTERNAL, INTERNAL_PREFIX, &self.uplink_mac)
    }

    /// The same about what has left it since the last time, while traffic goes on.
    pub fn check_no_leak_so_far(&self) -> Result<usize> {
        self.capture
            .check_no_leak_so_far(INTERNAL, INTERNAL_PREFIX, &self.uplink_mac)
    }

    /// Starts a namespace guest of that role on its tap.
    pub fn guest(&self, environment: u8, role: Role) -> Result<Guest> {
        self.guest_with(environment, role, Offload::Full)
    }

    /// Starts a namespace guest whose interface can do only that much.
    pub fn guest_with(&self, environment: u8, role: Role, offload: Offload) -> Result<Guest> {
        self.guest_on(role.tap(environment), environment, role, offload)
    }

    /// Starts a namespace guest on any tap of the host, which is made for it if there is none.
    pub fn guest_on(&self, tap: String, environment: u8, role: Role, offload: Offload) -> Result<Guest> {
        let name = format!("{}-{environment}.{}", self.host.name(), role.number);
        let settings = Settings {
            tap,
            address: role.internal(),
            prefix: INTERNAL_PREFIX,
            router: ROUTER,
            mac: role.mac.to_owned(),
            offload,
        };
        Guest::create(&name, &self.host, settings)
    }

    /// Boots a virtual machine of that role on its tap.
    pub fn boot(&self, environment: u8, role: Role, image: &Image, accelerator: Accelerator) -> Result<Machine> {
        let start = Start {
            image: image.clone(),
            accelerator,
            role: role.name.to_owned(),
            address: role.internal(),
            prefix: INTERNAL_PREFIX,
            router: ROUTER,
            mac: role.mac.to_owned(),
        };
        Machine::boot(&self.host, &role.tap(environment), start)
    }

    /// One echo request from outside; the round-trip time if it was answered.
    pub fn ping(&self, target: Ipv4Addr) -> Result<Option<Duration>> {
        ping(&self.outside, target, 56, PATIENCE)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The configuration is not needed for it; it finds what is there.
        if let Err(error) = self.detach() {
            eprintln!("{error:#}");
        }
        // Whatever became of that, no name of this laboratory may stay.
        let routers = format!("{}-ns", self.host.name());
        for name in namespace::names().unwrap_or_default() {
            if name.starts_with(&routers) {
                eprintln!("detach left the network namespace {name}");
                namespace::remove(&name);
            }
        }
    }
}
