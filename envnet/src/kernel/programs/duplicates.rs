//! An instance's programs where envnet has not put them: planted by hand a second time, or by a build that went about it
//! otherwise. They would do everything twice, or go on with what is no longer so.

use std::{
    collections::BTreeSet,
    fs,
    os::fd::AsFd as _,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use aya::{
    maps::MapInfo,
    programs::{ProgramInfo, TcAttachType, loaded_programs},
};

use super::{bpffs, pinned_program, shared, tcx_programs};
use crate::{
    kernel::{Explain as _, Result, bpf, former, netlink::Netlink, netns::Netns, pinned_maps},
    names::Instance,
    topology::{AttachPoint, PROGRAMS},
};

/// How long the kernel may take to let go of a link after its last pin: it does so when it gets round to it.
const LETTING_GO: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Numbers of all loaded programs of an instance, whichever build's; looked up when somebody asks.
#[derive(Debug, Default)]
pub(super) struct Loaded(OnceLock<BTreeSet<u32>>);

impl Loaded {
    /// Whether one of these programs is the instance's.
    pub(super) fn has_any(&self, instance: &Instance, programs: &[u32]) -> bool {
        if programs.is_empty() {
            return false;
        }
        let own = self.0.get_or_init(|| own_programs(instance).unwrap_or_default());
        programs.iter().any(|program| own.contains(program))
    }
}

/// The programs that have a name of envnet's and use the instance's maps.
fn own_programs(instance: &Instance) -> Result<BTreeSet<u32>> {
    let mut maps = BTreeSet::new();
    for directory in fs::read_dir(bpffs::directory(instance))? {
        let directory = directory?;
        if pinned_maps::layout_of(&directory.file_name().to_string_lossy()).is_some() {
            for pin in fs::read_dir(directory.path())? {
                maps.extend(MapInfo::from_pin(pin?.path()).ok().map(|map| map.id()));
            }
        }
    }
    // One may go between being listed and being asked.
    let loaded = loaded_programs().filter_map(Result::ok);
    let is_own = |program: &ProgramInfo| {
        let uses = program.map_ids().ok().flatten().unwrap_or_default();
        let is_named = program.name_as_str().is_some_and(is_kept_name);
        is_named && uses.iter().any(|map| maps.contains(map))
    };
    Ok(loaded.filter(is_own).map(|program| program.id()).collect())
}

/// Whether the kernel shows a program of envnet's under this name: it keeps the first 15 bytes.
fn is_kept_name(name: &str) -> bool {
    const KEPT: usize = 15;
    let mut programs = PROGRAMS.iter().map(|program| program.name).chain(former::PROGRAMS);
    programs.any(|program| program.get(..KEPT).unwrap_or(program) == name)
}

/// Removes what is at an attach point's hooks of one link besides what envnet has put there.
pub async fn remove_duplicates(
    netns: &Netns,
    netlink: &Netlink,
    instance: &Instance,
    site: AttachPoint,
    (link, index): (&str, u32),
) -> Result<()> {
    let own = Loaded::default();
    for direction in site.directions() {
        for filter in netlink.filters(index, direction).await? {
            let programs: Vec<u32> = filter.program.into_iter().collect();
            if !shared::is_own(instance, site, &filter) && own.has_any(instance, &programs) {
                netlink.delete_filter(index, direction, &filter).await?;
            }
        }
        let pinned = site.programs().filter(|role| role.direction == Some(direction));
        let links = bpffs::directory(instance).join("links");
        let pinned: Vec<u32> = pinned
            .filter_map(|role| pinned_program(&links.join(role.pin(link))))
            .collect();
        for program in netns.run(|| tcx_programs(link, direction))?? {
            if !pinned.contains(&program) && own.has_any(instance, &[program]) {
                let removed = netns.run(|| detach_tcx(index, direction, program))?;
                // One whose pin was removed a moment ago goes by itself.
                let start = Instant::now();
                let mut there = true;
                while there && start.elapsed() < LETTING_GO {
                    thread::sleep(LOOK_AGAIN);
                    there = netns.run(|| tcx_programs(link, direction))??.contains(&program);
                }
                if !there {
                    continue;
                }
                removed.explain(|| {
                    format!(
                        "{link} has the program {program} of envnet's twice, and whoever put it there holds it; find it with \
                         `bpftool link show` and remove it"
                    )
                })?;
            }
        }
    }
    Ok(())
}

/// Takes a program from a tcx hook that no link holds there; aya only knows links. To be called in the interface's namespace.
fn detach_tcx(interface: u32, direction: TcAttachType, program: u32) -> Result<()> {
    let mut loaded = loaded_programs().filter_map(Result::ok);
    let Some(info) = loaded.find(|info| info.id() == program) else {
        return Ok(());
    };
    let program = info.fd()?;
    bpf::detach_tcx(interface, direction, program.as_fd()).explain(|| "BPF_PROG_DETACH")
}
