//! The programs and their maps: loaded once per instance, pinned, attached wherever [`Site`] says.
//!
//! Pins live under [`bpffs::directory`]: `maps-vN/NAME`, where N is the layouts' version, `programs-HASH/NAME`, where HASH
//! identifies the object they come from, and, for tcx and XDP, `links/LINK-HOOK`.

mod attach;
mod site;

use std::{
    collections::BTreeMap,
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use anyhow::{Context, Result};
use aya::{
    EbpfLoader,
    programs::{Program, SchedClassifier, TcAttachType, Xdp},
    util::KernelVersion,
};
use aya_obj::programs::XdpAttachType;
use envnet_common::{
    Address, DropReason,
    maps::{self, DropKey},
};

pub use self::site::Site;
use self::{
    attach::SHARED_PRIORITY,
    site::{ROLES, Role},
};
use super::{
    bpffs,
    netlink::{Filter, Link, Netlink},
    netns::Netns,
    tables::{self, Tables},
};
use crate::{EBPF_OBJECT, names::Instance};

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Hook {
    /// tcx links, which the kernel has since 6.6.
    Tcx,
    /// Filters of a clsact qdisc, which every kernel has.
    Clsact,
}

impl Hook {
    /// The way for a site: `forced` if it is said, or else the better one of those this kernel has.
    ///
    /// Where others may have programs, that is tcx, which has an order of its own. On envnet's own links it is a filter:
    /// it lasts as long as the link, whatever becomes of the pins, and setting it does not stop all other changes of the
    /// network for some milliseconds, which is what matters with a thousand environments.
    #[must_use]
    pub fn of(site: Site, forced: Option<Self>) -> Self {
        forced.unwrap_or(if site.is_own() || !has_tcx() {
            Self::Clsact
        } else {
            Self::Tcx
        })
    }
}

fn has_tcx() -> bool {
    static HAS_TCX: LazyLock<bool> =
        LazyLock::new(|| KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0)));
    *HAS_TCX
}

/// The loaded programs of an instance.
#[derive(Debug)]
pub struct Programs {
    directory: PathBuf,
    classifiers: BTreeMap<&'static str, Classifier>,
    xdp: BTreeMap<&'static str, Driver>,
}

#[derive(Debug)]
struct Classifier {
    id: u32,
    program: SchedClassifier,
}

#[derive(Debug)]
struct Driver {
    id: u32,
    program: Xdp,
}

/// What is attached to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// Exactly this build's programs, once each.
    Current,
    /// None of envnet's.
    Nothing,
    /// Something else: another build's programs, too many, or not all.
    Other,
}

impl Programs {
    /// This build's programs if they are pinned already.
    pub fn open(instance: &Instance) -> Result<Option<Self>> {
        let directory = bpffs::directory(instance);
        let pins = programs_directory(&directory);
        if !ROLES.iter().all(|role| pins.join(role.program).exists()) {
            return Ok(None);
        }
        let (mut classifiers, mut xdp) = (BTreeMap::new(), BTreeMap::new());
        for role in ROLES {
            let pin = pins.join(role.program);
            let what = || format!("cannot open the pinned program {}", role.program);
            if role.direction.is_some() {
                let program = SchedClassifier::from_pin(pin).with_context(what)?;
                let id = program.info().with_context(what)?.id();
                classifiers.insert(role.program, Classifier { id, program });
            } else {
                let program = Xdp::from_pin(pin, XdpAttachType::Interface).with_context(what)?;
                let id = program.info().with_context(what)?.id();
                xdp.insert(role.program, Driver { id, program });
            }
        }
        Ok(Some(Self {
            directory,
            classifiers,
            xdp,
        }))
    }

    /// Loads this build's programs over the instance's maps, which are made if they are not there, and pins everything.
    pub fn load(instance: &Instance) -> Result<Self> {
        bpffs::ensure_mounted()?;
        let directory = bpffs::directory(instance);
        let maps_directory = tables::directory(instance);
        let pins = programs_directory(&directory);
        for folder in [&maps_directory, &pins, &directory.join("links")] {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let mut loader = EbpfLoader::new();
        for name in maps::ALL {
            loader.map_pin_path(name, maps_directory.join(name));
        }
        let mut object = loader.load(EBPF_OBJECT).context("the kernel refused envnet's maps")?;
        for (name, program) in object.programs_mut() {
            let refused = || format!("the kernel refused the program {name}");
            match program {
                Program::SchedClassifier(program) => program.load().with_context(refused)?,
                Program::Xdp(program) => program.load().with_context(refused)?,
                _ => anyhow::bail!("the program {name} is of a type that nobody attaches"),
            }
            let pin = pins.join(name);
            if pin.exists() {
                // Some of the programs: left over from a crash.
                fs::remove_file(&pin).with_context(|| format!("cannot remove {}", pin.display()))?;
            }
            program
                .pin(&pin)
                .with_context(|| format!("cannot pin {}", pin.display()))?;
        }
        // Where drops are counted when the table of drops is full.
        let mut tables = Tables::open(instance)?.context("the maps just pinned are gone")?;
        for &reason in DropReason::ALL {
            tables.make_drop_counter(DropKey {
                environment: 0,
                internal: Address::UNSPECIFIED,
                reason: reason as u32,
            })?;
        }
        drop(object);
        Self::open(instance)?.context("the programs just pinned are gone")
    }

    /// Removes the pins of other builds' programs, and of maps that no program uses any more.
    pub fn forget_others(instance: &Instance) -> Result<()> {
        let directory = bpffs::directory(instance);
        let own = [
            programs_directory(&directory),
            tables::directory(instance),
            directory.join("links"),
        ];
        for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
            let path = entry?.path();
            if !own.contains(&path) {
                fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// What is attached to a link as a site.
    pub async fn attached(
        &self,
        netns: &Netns,
        netlink: &Netlink,
        site: Site,
        link: &Link,
        forced: Option<Hook>,
    ) -> Result<Attached> {
        if let Site::UplinkDriver = site {
            let own = self.xdp.values().next().map(|driver| driver.id);
            return Ok(match (link.xdp == own, self.is_pinned(site, &link.name)) {
                (true, true) => Attached::Current,
                (false, false) => Attached::Nothing,
                _ => Attached::Other,
            });
        }
        let mut filters = Vec::new();
        for direction in site.directions() {
            let present = netlink.filters(link.index, direction).await?.into_iter();
            let own = present.filter(|filter| site.is_exclusive() || is_own_filter(filter));
            filters.extend(own.map(|filter| filter.program));
        }
        let hook = Hook::of(site, forced);
        netns.run(|| self.attached_here(hook, site, &link.name, filters))
    }

    fn attached_here(&self, hook: Hook, site: Site, link: &str, mut filters: Vec<u32>) -> Attached {
        let (mut current, mut absent) = (true, filters.is_empty());
        for role in site.roles() {
            let (Some(direction), Some(own)) = (role.direction, self.classifiers.get(role.program)) else {
                continue;
            };
            // A link on its way out cannot be asked any more.
            let Ok(tcx) = tcx_programs(link, direction) else {
                return Attached::Other;
            };
            let tcx: Vec<u32> = tcx
                .into_iter()
                .filter(|(_, name)| site.is_exclusive() || is_named(role.program, name))
                .map(|(id, _)| id)
                .collect();
            absent &= tcx.is_empty();
            current &= match hook {
                Hook::Tcx => tcx == [own.id] && self.link_pin(role, link).exists(),
                Hook::Clsact => {
                    let filter = filters.iter().position(|filter| *filter == own.id);
                    tcx.is_empty() && filter.map(|filter| filters.swap_remove(filter)).is_some()
                }
            };
        }
        if current && filters.is_empty() {
            Attached::Current
        } else if absent {
            Attached::Nothing
        } else {
            Attached::Other
        }
    }

    /// Attaches a site's programs to a link. Programs that are there already are replaced atomically where the kernel can.
    ///
    /// Programs attached the other way have to be removed afterwards: [`unpin_links`] for tcx, [`remove_filters`] and
    /// [`Netlink::delete_clsact`] for filters. Until then the kernel runs only the tcx ones where they never answer
    /// `TCX_NEXT`; elsewhere running twice changes nothing, because what one has done leaves nothing to do for the other.
    pub async fn attach(
        &mut self,
        netns: &Netns,
        netlink: &Netlink,
        site: Site,
        (link, index): (&str, u32),
        hook: Hook,
    ) -> Result<()> {
        if hook == Hook::Clsact && site.directions().next().is_some() {
            netlink.add_clsact(index).await?;
        }
        for role in site.roles() {
            let pin = self.link_pin(role, link);
            let attached = if let Some(direction) = role.direction {
                let own = &mut self.classifiers.get_mut(role.program).context("not loaded")?.program;
                match hook {
                    Hook::Tcx => netns.run(|| attach::tcx(own, link, direction, &pin))?,
                    Hook::Clsact => {
                        let priority = attach::priority(site.is_exclusive());
                        let program = own.fd()?.as_fd();
                        netlink
                            .set_filter(index, direction, priority, role.program, program)
                            .await
                    }
                }
            } else {
                let own = &mut self.xdp.get_mut(role.program).context("not loaded")?.program;
                netns.run(|| attach::xdp(own, link, &pin))?
            };
            attached.with_context(|| format!("cannot attach {} to {link}", role.program))?;
        }
        Ok(())
    }

    /// Whether a site's programs have pinned links on a link.
    #[must_use]
    pub fn is_pinned(&self, site: Site, link: &str) -> bool {
        site.roles().all(|role| self.link_pin(role, link).exists())
    }

    fn link_pin(&self, role: &Role, link: &str) -> PathBuf {
        self.directory.join("links").join(role.pin(link))
    }

    /// Number of a program by which the log of all of them is found.
    #[must_use]
    pub fn log_source(&self) -> Option<u32> {
        self.classifiers.values().next().map(|own| own.id)
    }
}

/// Removes the pins of the links of a site's programs on one link; with its last pin, a tcx or XDP link is gone.
pub fn unpin_links(instance: &Instance, site: Site, link: &str) -> Result<()> {
    for role in site.roles() {
        let pin = bpffs::directory(instance).join("links").join(role.pin(link));
        match fs::remove_file(&pin) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", pin.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a filter on a link shared with others is envnet's.
#[must_use]
pub fn is_own_filter(filter: &Filter) -> bool {
    filter.priority == SHARED_PRIORITY
}

/// Removes the clsact filters of a site's programs from one link, which others may have filters on, too, and the qdisc
/// when nothing is left in it.
pub async fn remove_filters(netlink: &Netlink, site: Site, index: u32) -> Result<()> {
    let (mut others, mut own) = (false, Vec::new());
    for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
        for filter in netlink.filters(index, direction).await? {
            if site.is_exclusive() || (is_own_filter(&filter) && site.directions().any(|own| own == direction)) {
                own.push(direction);
            } else {
                others = true;
            }
        }
    }
    if own.is_empty() {
        return Ok(());
    }
    if !others {
        return netlink.delete_clsact(index).await;
    }
    for direction in own {
        netlink.delete_filter(index, direction, SHARED_PRIORITY).await?;
    }
    Ok(())
}

/// Number and name of the programs attached by tcx to an interface of the calling thread's namespace.
fn tcx_programs(interface: &str, direction: TcAttachType) -> Result<Vec<(u32, String)>> {
    if !has_tcx() {
        return Ok(Vec::new());
    }
    let (_, programs) = SchedClassifier::query_tcx(interface, direction)?;
    Ok(programs
        .iter()
        .map(|info| (info.id(), info.name_as_str().unwrap_or_default().to_owned()))
        .collect())
}

/// Whether `name` is what the kernel keeps of `program`'s: the first 15 bytes.
fn is_named(program: &str, name: &str) -> bool {
    const KEPT: usize = 15;
    program.get(..KEPT).unwrap_or(program) == name
}

fn programs_directory(directory: &Path) -> PathBuf {
    // FNV-1a, 64 bits: only has to tell builds apart.
    let hash = EBPF_OBJECT.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    directory.join(format!("programs-{hash:016x}"))
}
