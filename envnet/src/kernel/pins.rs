//! Where this build keeps its pins, and what else is pinned for an instance: other builds' programs and maps, and maps that are
//! not what this build's programs expect under their names.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use aya::maps::MapInfo;
use aya_obj::Object;
use envnet_common::maps;

use super::{Explain as _, Result, bpffs, former, pinned_maps};
use crate::{EBPF_OBJECT, fnv::fnv1a, names::Instance};

/// Where this build of envnet keeps an instance's pins.
#[must_use]
pub fn own_directories(instance: &Instance) -> [PathBuf; 3] {
    let directory = bpffs::directory(instance);
    [
        programs_directory(&directory),
        pinned_maps::directory(instance),
        directory.join("links"),
    ]
}

/// Where this build keeps its programs, below an instance's directory.
#[must_use]
pub fn programs_directory(directory: &Path) -> PathBuf {
    // It only has to tell builds apart.
    let hash = fnv1a(EBPF_OBJECT.iter().copied());
    directory.join(format!("programs-{hash:016x}"))
}

/// What other builds of envnet have pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherBuilds {
    /// The versions of their maps' layouts that are not this build's.
    pub layouts: BTreeSet<u32>,
}

/// Looks for pins of other builds; none when there are none.
pub fn other_builds(instance: &Instance) -> Result<Option<OtherBuilds>> {
    let directory = bpffs::directory(instance);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.explain(|| format!("cannot read {}", directory.display()))?,
    };
    let own = own_directories(instance);
    let mut others = former::has_map_pins(&pinned_maps::directory(instance)).then(OtherBuilds::default);
    for entry in entries {
        let entry = entry.explain(|| format!("cannot read {}", directory.display()))?;
        if !own.contains(&entry.path()) {
            let others = others.get_or_insert_with(OtherBuilds::default);
            let name = entry.file_name().to_string_lossy().into_owned();
            others.layouts.extend(pinned_maps::layout_of(&name));
        }
    }
    Ok(others)
}

/// What the kernel is to know of a map.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
}

/// The pinned map that is not of the shape that this build's programs expect, and why; none when all are, or are not there.
pub fn unfit_map(instance: &Instance) -> Result<Option<String>> {
    static OBJECT: LazyLock<Option<Object>> = LazyLock::new(|| Object::parse(EBPF_OBJECT).ok());
    let object = OBJECT.as_ref().explain(|| "envnet's own programs cannot be read")?;
    for name in maps::ALL {
        let pin = former::map_pin(&pinned_maps::directory(instance), name);
        if !pin.exists() {
            continue;
        }
        let present = match MapInfo::from_pin(&pin) {
            Ok(present) => present,
            Err(error) => return Ok(Some(format!("{} cannot be used as a map: {error}", pin.display()))),
        };
        let expected = shape(object, name)?;
        let present = Shape {
            kind: present.map_type().map_or(0, |kind| kind as u32),
            key: present.key_size(),
            value: present.value_size(),
            entries: present.max_entries(),
        };
        if present != expected {
            return Ok(Some(format!(
                "the pinned map {} is not of this build's layout: it has {present}, where {expected} are expected",
                pin.display()
            )));
        }
    }
    Ok(None)
}

/// The shape that the programs in an object expect of a map.
fn shape(object: &Object, name: &str) -> Result<Shape> {
    let map = object.maps.get(name).explain(|| format!("there is no map {name}"))?;
    Ok(Shape {
        kind: map.map_type(),
        key: map.key_size(),
        value: map.value_size(),
        entries: map.max_entries(),
    })
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            key,
            value,
            entries,
        } = self;
        write!(
            f,
            "type {kind}, {key}-byte keys, {value}-byte values and room for {entries}"
        )
    }
}

#[cfg(test)]
mod tests {
    use envnet_common::maps::LAYOUT_VERSION;

    use super::*;

    /// The maps of the present version: kind, key, value, entries. A build finds what another one of the same version has
    /// pinned, so that nothing here may change without [`LAYOUT_VERSION`].
    const LAYOUT: (u32, [(&str, [u32; 4]); 16]) = (
        2,
        [
            (maps::ENVIRONMENTS, [1, 4, 24, 65_536]),
            (maps::MAPPINGS, [1, 8, 4, 262_144]),
            (maps::COUNTERS, [5, 8, 40, 262_144]),
            (maps::DROPS, [5, 12, 8, 65_536]),
            (maps::SETTINGS, [2, 4, 4, 1]),
            (maps::UPLINK, [2, 4, 28, 1]),
            (maps::ROUTER_WANS, [1, 8, 4, 65_536]),
            (maps::PORTS, [1, 4, 40, 262_144]),
            (maps::TAPS, [25, 4, 8, 65_536]),
            (maps::ENDPOINTS, [1, 4, 80, 262_144]),
            (maps::GUEST_MACS, [1, 12, 4, 262_144]),
            (maps::FDB, [9, 12, 16, 65_536]),
            (maps::NEXT_HOPS, [9, 4, 24, 16_384]),
            (maps::BUCKETS, [9, 8, 8, 16_384]),
            (maps::CONTACTS, [9, 8, 8, 16_384]),
            (maps::SOURCES, [9, 12, 8, 16_384]),
        ],
    );

    #[test]
    fn a_map_of_another_shape_is_another_layout() {
        let object = Object::parse(EBPF_OBJECT).expect("an object");
        let shapes = maps::ALL.map(|name| {
            let Shape {
                kind,
                key,
                value,
                entries,
            } = shape(&object, name).expect(name);
            (name, [kind, key, value, entries])
        });
        assert_eq!(
            (LAYOUT_VERSION, shapes),
            LAYOUT,
            "raise LAYOUT_VERSION, and note the new shapes here"
        );
    }
}
