//! The programs and their maps: loaded once per instance, pinned, attached to every `gwE`.
//!
//! Pins live under [`bpffs::directory`]: `maps-vN/NAME`, where N is the layouts' version, `programs-HASH/NAME`, where HASH
//! identifies the object they come from, and, for tcx, `links/gwE-DIRECTION`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use aya::{
    EbpfLoader,
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
    },
    util::KernelVersion,
};
use envnet_common::{
    Address, DropReason,
    maps::{self, DropKey},
};

use super::{
    bpffs,
    netns::Netns,
    tables::{self, Tables},
};
use crate::{
    EBPF_OBJECT,
    desired::Place,
    names::{self, Instance},
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
    /// The better one of those this kernel has.
    #[must_use]
    pub fn best() -> Self {
        if has_tcx() { Self::Tcx } else { Self::Clsact }
    }
}

fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

/// Where one of the programs runs.
struct Role {
    program: &'static str,
    place: Place,
    direction: TcAttachType,
}

const ROLES: [Role; 3] = [
    Role {
        program: "router_ingress",
        place: Place::Router,
        direction: TcAttachType::Ingress,
    },
    Role {
        program: "router_egress",
        place: Place::Router,
        direction: TcAttachType::Egress,
    },
    Role {
        program: "bridge_ingress",
        place: Place::Host,
        direction: TcAttachType::Ingress,
    },
];

impl Role {
    /// Name of the pin of its tcx link; dots are not allowed in it.
    fn pin(&self, environment: u32) -> String {
        let direction = if self.direction == TcAttachType::Egress {
            "egress"
        } else {
            "ingress"
        };
        format!("{}-{direction}", attach_link(self.place, environment))
    }
}

/// The link in each namespace that programs run on: `gwE` in the router, `brE` in the host.
#[must_use]
pub fn attach_link(place: Place, environment: u32) -> String {
    match place {
        Place::Host => names::bridge(environment),
        Place::Router => names::gateway(environment),
    }
}

/// The clsact filters envnet sets: first in line, and always the same so that a replacement replaces.
const FILTER: NlOptions = NlOptions {
    priority: 1,
    handle: TcHandle::new(0, 1),
    classid: None,
};

/// The loaded programs of an instance.
#[derive(Debug)]
pub struct Programs {
    directory: PathBuf,
    /// In the order of [`ROLES`].
    classifiers: [SchedClassifier; ROLES.len()],
}

/// What is attached to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// Exactly this build's programs, once each.
    Current,
    /// Something else: nothing, another build's programs, or too many.
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
        let open = |role: &Role| {
            SchedClassifier::from_pin(pins.join(role.program))
                .with_context(|| format!("cannot open the pinned program {}", role.program))
        };
        let [ingress, egress, bridge] = &ROLES;
        Ok(Some(Self {
            classifiers: [open(ingress)?, open(egress)?, open(bridge)?],
            directory,
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
        for Role { program: name, .. } in &ROLES {
            let program = object
                .program_mut(name)
                .with_context(|| format!("no program {name} in the object"))?;
            let program: &mut SchedClassifier = program.try_into()?;
            program
                .load()
                .with_context(|| format!("the kernel refused the program {name}"))?;
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

    /// What is attached to the environment's link in one namespace, which must exist.
    ///
    /// `filters` are the numbers of the programs that clsact filters on it run.
    pub fn attached(
        &self,
        netns: &Netns,
        place: Place,
        environment: u32,
        hook: Hook,
        filters: &[u32],
    ) -> Result<Attached> {
        let link = attach_link(place, environment);
        let mut filters = filters.to_vec();
        for (role, program) in ROLES
            .iter()
            .zip(&self.classifiers)
            .filter(|(role, _)| role.place == place)
        {
            let own = program.info().context("cannot ask about a program")?.id();
            let tcx: Vec<u32> = if has_tcx() {
                // A link on its way out cannot be asked any more.
                let Ok((_, programs)) = netns.run(|| SchedClassifier::query_tcx(&link, role.direction))? else {
                    return Ok(Attached::Other);
                };
                programs.iter().map(aya::programs::ProgramInfo::id).collect()
            } else {
                Vec::new()
            };
            let right = match hook {
                Hook::Tcx => tcx == [own] && self.link_pin(role, environment).exists(),
                Hook::Clsact => {
                    let filter = filters.iter().position(|filter| *filter == own);
                    tcx.is_empty() && filter.map(|filter| filters.swap_remove(filter)).is_some()
                }
            };
            if !right {
                return Ok(Attached::Other);
            }
        }
        Ok(if filters.is_empty() {
            Attached::Current
        } else {
            Attached::Other
        })
    }

    /// Attaches the programs to the environment's link in one namespace. Programs that are there already are replaced
    /// atomically where the kernel can.
    ///
    /// Programs attached the other way have to be removed afterwards: [`unpin_links`] for tcx,
    /// [`Netlink::delete_clsact`](super::netlink::Netlink::delete_clsact) for filters. Until then the kernel runs only the
    /// tcx ones, because they never answer `TCX_NEXT`.
    pub fn attach(&mut self, netns: &Netns, place: Place, environment: u32, hook: Hook) -> Result<()> {
        let link = attach_link(place, environment);
        let links = self.directory.join("links");
        fs::create_dir_all(&links).with_context(|| format!("cannot create {}", links.display()))?;
        for (role, program) in ROLES
            .iter()
            .zip(&mut self.classifiers)
            .filter(|(role, _)| role.place == place)
        {
            match hook {
                Hook::Tcx => attach_tcx(
                    program,
                    netns,
                    &link,
                    role.direction,
                    &links.join(role.pin(environment)),
                ),
                Hook::Clsact => attach_clsact(program, netns, &link, role.direction),
            }
            .with_context(|| format!("cannot attach {} to {link}", role.program))?;
        }
        Ok(())
    }

    fn link_pin(&self, role: &Role, environment: u32) -> PathBuf {
        self.directory.join("links").join(role.pin(environment))
    }

    /// Number of a program by which the log of all of them is found.
    pub fn log_source(&self) -> Result<u32> {
        Ok(self.classifiers[0].info().context("cannot ask about a program")?.id())
    }
}

/// Removes the pins of the tcx links on one link of an environment; with its last pin, a tcx link is gone.
pub fn unpin_links(instance: &Instance, place: Place, environment: u32) -> Result<()> {
    for role in ROLES.iter().filter(|role| role.place == place) {
        let pin = bpffs::directory(instance).join("links").join(role.pin(environment));
        match fs::remove_file(&pin) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", pin.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn attach_tcx(
    program: &mut SchedClassifier,
    netns: &Netns,
    interface: &str,
    direction: TcAttachType,
    pin: &Path,
) -> Result<()> {
    if pin.exists() {
        let link: SchedClassifierLink = FdLink::from(PinnedLink::from_pin(pin)?).try_into()?;
        // A link whose interface is gone cannot be updated (ENOLINK); a new one takes its place.
        if let Ok(id) = program.attach_to_link(link) {
            drop(program.take_link(id)?);
            let (_, attached) = netns.run(|| SchedClassifier::query_tcx(interface, direction))??;
            let own = program.info()?.id();
            if attached.iter().any(|info| info.id() == own) {
                return Ok(());
            }
        }
        fs::remove_file(pin)?;
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = netns.run(|| program.attach_with_options(interface, direction, options))??;
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(pin)?;
    Ok(())
}

fn attach_clsact(program: &mut SchedClassifier, netns: &Netns, interface: &str, direction: TcAttachType) -> Result<()> {
    netns.run(|| -> Result<()> {
        match tc::qdisc_add_clsact(interface) {
            Err(tc::TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
            other => other?,
        }
        // Setting a filter with the same priority and handle replaces the one that is there in one step.
        let existing = SchedClassifierLink::attached(interface, direction, FILTER.priority, FILTER.handle, None)?;
        let id = match program.attach_to_link(existing) {
            Ok(id) => id,
            Err(_) => program.attach_with_options(interface, direction, TcAttachOptions::Netlink(FILTER))?,
        };
        // Dropping the link would take the filter away; it is meant to stay until the interface goes.
        std::mem::forget(program.take_link(id)?);
        Ok(())
    })?
}

fn programs_directory(directory: &Path) -> PathBuf {
    // FNV-1a, 64 bits: only has to tell builds apart.
    let hash = EBPF_OBJECT.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    directory.join(format!("programs-{hash:016x}"))
}
