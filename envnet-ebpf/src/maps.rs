//! The maps; their layouts and what they are for are in [`envnet_common::maps`].
//!
//! The hash maps allocate entries as they are inserted, so that memory follows use.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, PerCpuHashMap},
};
use envnet_common::{
    lookup::Mappings,
    maps::{Counters, DropKey, Environment, Mapping, MappingKey, Settings},
};

#[map]
pub(crate) static ENVIRONMENTS: HashMap<u32, Environment> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static MAPPINGS: HashMap<MappingKey, Mapping> = HashMap::with_max_entries(262_144, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static COUNTERS: PerCpuHashMap<MappingKey, Counters> =
    PerCpuHashMap::with_max_entries(262_144, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static DROPS: PerCpuHashMap<DropKey, u64> = PerCpuHashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// The environment whose `gwE` has this index.
#[inline(always)]
pub(crate) fn environment(interface: u32) -> Option<Environment> {
    // SAFETY: an entry stays readable until the program ends, even when it is removed meanwhile. But it may then be used
    // for another key at once, so its value is copied instead of kept by reference.
    unsafe { ENVIRONMENTS.get(interface) }.copied()
}

/// [`MAPPINGS`], as the decisions see it.
#[derive(Clone, Copy)]
pub(crate) struct MappingsMap;

impl Mappings for MappingsMap {
    #[inline(always)]
    fn find(&self, key: MappingKey) -> Option<Mapping> {
        // SAFETY: as above.
        unsafe { MAPPINGS.get(key) }.copied()
    }
}
