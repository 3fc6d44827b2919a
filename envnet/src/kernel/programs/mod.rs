//! The programs and their maps: loaded once per instance, pinned, attached wherever [`AttachPoint`] says.
//!
//! Pins live under [`bpffs::directory`]: `maps-vN/NAME`, where N is the layouts' version, `programs-HASH/NAME`, where HASH
//! identifies the object they come from, and, for tcx and XDP, `links/LINK-HOOK`.

mod attach;
mod duplicates;
mod pinned;
mod shared;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use aya::{
    programs::{Program, ProgramInfo, SchedClassifier, TcAttachType, Xdp},
    util::KernelVersion,
};
use aya_obj::programs::XdpAttachType;
use envnet_common::{
    Address, DropReason,
    maps::{self, DropKey},
};

pub use self::{
    duplicates::remove_duplicates,
    pinned::{Pinned, StalePin, remove_stale_pins, stale_pins},
    shared::{Obstacle, find_obstacle, remove_filters, remove_ingress_qdisc},
};
use super::{
    Error, Explain as _, Result, bpffs, former,
    netlink::{Link, Netlink},
    netns::Netns,
    pinned_maps::{self, PinnedMaps},
    pins, sk_buff,
};
use crate::{
    EBPF_OBJECT,
    names::Instance,
    topology::{self, AttachPoint, PROGRAMS},
};

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
    pub fn of(site: AttachPoint, forced: Option<Self>) -> Self {
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
    instance: Instance,
    directory: PathBuf,
    classifiers: BTreeMap<&'static str, Classifier>,
    xdp: BTreeMap<&'static str, Driver>,
    loaded: duplicates::Loaded,
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
    /// This build's programs if they are pinned already, together with the maps they use.
    pub fn open(instance: &Instance) -> Result<Option<Self>> {
        let directory = bpffs::directory(instance);
        let pins = pins::programs_directory(&directory);
        if !PROGRAMS.iter().all(|role| pins.join(role.name).exists()) {
            return Ok(None);
        }
        let (mut classifiers, mut xdp, mut maps) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        for role in PROGRAMS {
            let pin = pins.join(role.name);
            let what = || format!("cannot open the pinned program {}", role.name);
            if role.direction.is_some() {
                let program = SchedClassifier::from_pin(pin).explain(what)?;
                let info = program.info().explain(what)?;
                maps.extend(info.map_ids().explain(what)?.unwrap_or_default());
                let id = info.id();
                classifiers.insert(role.name, Classifier { id, program });
            } else {
                let program = Xdp::from_pin(pin, XdpAttachType::Interface).explain(what)?;
                let info = program.info().explain(what)?;
                maps.extend(info.map_ids().explain(what)?.unwrap_or_default());
                let id = info.id();
                xdp.insert(role.name, Driver { id, program });
            }
        }
        if !pinned_maps::are_used(instance, &maps)? {
            return Ok(None);
        }
        Ok(Some(Self {
            instance: instance.clone(),
            directory,
            classifiers,
            xdp,
            loaded: duplicates::Loaded::default(),
        }))
    }

    /// No programs: what is attached anywhere is another build's, or nothing.
    #[must_use]
    pub fn none(instance: &Instance) -> Self {
        Self {
            instance: instance.clone(),
            directory: bpffs::directory(instance),
            classifiers: BTreeMap::new(),
            xdp: BTreeMap::new(),
            loaded: duplicates::Loaded::default(),
        }
    }

    /// Loads this build's programs over the instance's maps, which are made if they are not there, and pins everything.
    pub fn load(instance: &Instance) -> Result<Self> {
        bpffs::ensure_mounted()?;
        let directory = bpffs::directory(instance);
        let maps_directory = pinned_maps::directory(instance);
        let pins = pins::programs_directory(&directory);
        for folder in [&maps_directory, &pins, &directory.join("links")] {
            bpffs::create_directory(folder)?;
        }
        let mut loader = sk_buff::loader()?;
        for name in maps::ALL {
            loader.map_pin_path(name, former::map_pin(&maps_directory, name));
        }
        let mut object = loader
            .load(EBPF_OBJECT)
            .explain(|| "the kernel refused envnet's maps")?;
        // When it cannot find out what the kernel can do, the library makes maps for older kernels.
        if let Some(unfit) = pins::unfit_map(instance)? {
            return Err(Error::Unexpected(format!("{unfit}, although it was just made")));
        }
        // Where drops are counted when the table of drops is full. Before the programs are pinned, which is what tells the
        // next command that all of this has been done.
        let mut maps = PinnedMaps::open(instance)?.explain(|| "the maps just pinned are gone")?;
        for &reason in DropReason::ALL {
            maps.make_drop_counter(DropKey {
                environment: 0,
                internal: Address::UNSPECIFIED,
                reason: reason as u32,
            })?;
        }
        for (name, program) in object.programs_mut() {
            let refused = || format!("the kernel refused the program {name}");
            match program {
                Program::SchedClassifier(program) => program.load().explain(refused)?,
                Program::Xdp(program) => program.load().explain(refused)?,
                _ => {
                    return Err(Error::Unexpected(format!(
                        "the program {name} is of a type that nobody attaches"
                    )));
                }
            }
            let pin = pins.join(name);
            if pin.exists() {
                // Some of the programs: left over from a crash.
                fs::remove_file(&pin).explain(|| format!("cannot remove {}", pin.display()))?;
            }
            program.pin(&pin).explain(|| format!("cannot pin {}", pin.display()))?;
        }
        drop(object);
        Self::open(instance)?.explain(|| "the programs just pinned are gone")
    }

    /// Removes the pins of other builds' programs, and of maps that no program uses any more; renames those of maps that had
    /// another name.
    pub fn forget_others(instance: &Instance) -> Result<()> {
        let directory = bpffs::directory(instance);
        former::rename_map_pins(&pinned_maps::directory(instance))?;
        let own = pins::own_directories(instance);
        for entry in fs::read_dir(&directory).explain(|| format!("cannot read {}", directory.display()))? {
            let path = entry?.path();
            if !own.contains(&path) {
                fs::remove_dir_all(&path).explain(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// What is attached to a link as a site.
    pub async fn attached(
        &self,
        netns: &Netns,
        netlink: &Netlink,
        site: AttachPoint,
        link: &Link,
        forced: Option<Hook>,
    ) -> Result<Attached> {
        if let AttachPoint::UplinkDriver = site {
            let own = self.xdp.values().next().map(|driver| driver.id);
            let runs = link.xdp.is_some() && link.xdp == own;
            return Ok(match (runs, self.is_pinned(site, &link.name)) {
                (true, true) => Attached::Current,
                (false, false) => Attached::Nothing,
                _ => Attached::Other,
            });
        }
        let (mut filters, mut others) = (Vec::new(), Vec::new());
        for direction in shared::directions(site) {
            for filter in netlink.filters(link.index, direction).await? {
                let is_own = shared::is_own(&self.instance, site, &filter);
                let list = if is_own { &mut filters } else { &mut others };
                list.extend(filter.program);
            }
        }
        let hook = Hook::of(site, forced);
        netns.run(|| self.attached_here(hook, site, (&link.name, link.index), (filters, others)))
    }

    /// The same in the link's namespace, where envnet's filters run the former programs, and the others' the latter.
    fn attached_here(
        &self,
        hook: Hook,
        site: AttachPoint,
        (link, index): (&str, u32),
        (mut filters, mut others): (Vec<u32>, Vec<u32>),
    ) -> Attached {
        let mut current = true;
        let mut absent = filters.is_empty() && !shared::qdisc_mark(&self.directory, index).exists();
        for role in site.programs() {
            let Some(direction) = role.direction else { continue };
            let own = self.classifiers.get(role.name).map(|own| own.id);
            // A link on its way out cannot be asked any more.
            let Ok(tcx) = tcx_programs(link, direction) else {
                return Attached::Other;
            };
            // All that envnet has there is pinned; the others' programs are the others'.
            let pinned = pinned_program(&self.link_pin(role, link));
            absent &= pinned.is_none();
            others.extend(tcx.iter().filter(|program| Some(**program) != pinned));
            current &= match hook {
                Hook::Tcx => pinned == own && own.is_some_and(|own| tcx.contains(&own)),
                Hook::Clsact => {
                    let filter = filters.iter().position(|filter| Some(*filter) == own);
                    pinned.is_none() && filter.map(|filter| filters.swap_remove(filter)).is_some()
                }
            };
        }
        if self.loaded.has_any(&self.instance, &others) {
            Attached::Other
        } else if current && filters.is_empty() {
            Attached::Current
        } else if absent {
            Attached::Nothing
        } else {
            Attached::Other
        }
    }

    /// Attaches an attach point's programs to a link. Programs that are there already are replaced atomically where the kernel can.
    ///
    /// Programs attached the other way have to be removed afterwards: [`unpin_links`] for tcx, [`remove_filters`] and
    /// [`Netlink::delete_clsact`] for filters. Until then the kernel runs only the tcx ones where they never answer
    /// `TCX_NEXT`; elsewhere running twice changes nothing, because what one has done leaves nothing to do for the other.
    pub async fn attach(
        &mut self,
        netns: &Netns,
        netlink: &Netlink,
        site: AttachPoint,
        (link, index): (&str, u32),
        hook: Hook,
    ) -> Result<()> {
        // On envnet's own links it was made with the link, and is asked for only when it is missed.
        if hook == Hook::Clsact && !site.is_own() && site.directions().next().is_some() {
            shared::prepare_qdisc(netlink, &self.directory, site, index).await?;
        }
        adopt_pins(&self.instance, site, (link, index))?;
        for role in site.programs() {
            let pin = self.link_pin(role, link);
            let attached = if let Some(direction) = role.direction {
                let own = &mut self.classifiers.get_mut(role.name).explain(|| "not loaded")?.program;
                match hook {
                    Hook::Tcx => netns.run(|| attach::tcx(own, link, direction, &pin))?,
                    Hook::Clsact => {
                        let priority = shared::priority(site);
                        let name = self.instance.filter_name(role.name);
                        let fd = own.fd()?.as_fd();
                        let set = || netlink.set_filter(index, direction, priority, &name, fd);
                        match set().await {
                            Err(_) if site.is_own() => {
                                shared::prepare_qdisc(netlink, &self.directory, site, index).await?;
                                set().await
                            }
                            set => set,
                        }
                    }
                }
            } else {
                let own = &mut self.xdp.get_mut(role.name).explain(|| "not loaded")?.program;
                netns.run(|| attach::xdp(own, link, &pin))?
            };
            attached.explain(|| format!("cannot attach {} to {link}", role.name))?;
        }
        Ok(())
    }

    /// Whether an attach point's programs have pinned links on a link.
    #[must_use]
    pub fn is_pinned(&self, site: AttachPoint, link: &str) -> bool {
        site.programs().all(|role| self.link_pin(role, link).exists())
    }

    fn link_pin(&self, role: &topology::Program, link: &str) -> PathBuf {
        self.directory.join("links").join(role.pin(link))
    }

    /// Numbers of the programs. They share a log, which is found by any that ever says something.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.classifiers.values().map(|own| own.id)
    }
}

/// Lets the pins of an attach point's programs on one link be called after the name that it has now: what is not envnet's own may have
/// been renamed.
pub fn adopt_pins(instance: &Instance, site: AttachPoint, (link, index): (&str, u32)) -> Result<()> {
    if site.is_own() {
        return Ok(());
    }
    let directory = bpffs::directory(instance).join("links");
    let mut roles = site.programs();
    roles.try_for_each(|role| pinned::adopt(role, index, &directory.join(role.pin(link))))
}

/// Removes the pins of the links of an attach point's programs on one link; with its last pin, a tcx or XDP link is gone.
pub fn unpin_links(instance: &Instance, site: AttachPoint, link: &str) -> Result<()> {
    for role in site.programs() {
        let pin = bpffs::directory(instance).join("links").join(role.pin(link));
        match fs::remove_file(&pin) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).explain(|| format!("cannot remove {}", pin.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Number of the program of a pinned link, if there is the pin.
fn pinned_program(pin: &Path) -> Option<u32> {
    Pinned::at(pin).map(|pinned| pinned.program)
}

/// Numbers of the programs attached by tcx to an interface of the calling thread's namespace.
fn tcx_programs(interface: &str, direction: TcAttachType) -> Result<Vec<u32>> {
    if !has_tcx() {
        return Ok(Vec::new());
    }
    let (_, programs) = SchedClassifier::query_tcx(interface, direction)?;
    Ok(programs.iter().map(ProgramInfo::id).collect())
}
