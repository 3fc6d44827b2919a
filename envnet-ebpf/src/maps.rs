//! The maps; their layouts and what they are for are in [`envnet_common::maps`].
//!
//! The hash maps allocate entries as they are inserted: memory follows use, and a lookup never sees an entry that is
//! being reused for another key.

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
pub(crate) static COUNTERS: PerCpuHashMap<MappingKey, Counters> = PerCpuHashMap::with_max_entries(262_144, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static DROPS: PerCpuHashMap<DropKey, u64> = PerCpuHashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// The environment whose `gwE` has this index.
#[inline(always)]
pub(crate) fn environment(interface: u32) -> Option<&'static Environment> {
    // SAFETY: entries are not preallocated, so one that was found is not reused before the program ends.
    unsafe { ENVIRONMENTS.get(&interface) }
}

/// [`MAPPINGS`], as the decisions see it.
#[derive(Clone, Copy)]
pub(crate) struct MappingsMap;

impl Mappings for MappingsMap {
    #[inline(always)]
    fn find(&self, key: MappingKey) -> Option<Mapping> {
        // SAFETY: as above.
        unsafe { MAPPINGS.get(&key) }.copied()
    }
}
