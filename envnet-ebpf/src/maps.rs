//! The maps. [`envnet_common::maps`] documents their layouts and purposes.
//!
//! The hash maps allocate entries as they are inserted, so that memory follows use.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, DevMapHash, HashMap, LruHashMap, PerCpuHashMap},
};
use envnet_common::{
    Address, Mac,
    limit::{Bucket, BucketKey, ContactKey, SourceKey},
    lookup::Mappings,
    maps::{
        Counters, DropKey, Endpoint, Environment, FdbEntry, FdbKey, MAX_ENVIRONMENTS, MAX_MAPPINGS, MAX_PORTS,
        MAX_TAPS, Mapping, MappingKey, NextHop, Port, RouterWanKey, Settings, Uplink,
    },
};

/// First byte of the Ethernet address of every router's WAN port. Most of the host's own traffic is sorted out by it,
/// without a look-up.
pub(crate) const ROUTER_WAN_PREFIX: u8 = 0xfe;

#[map]
pub(crate) static ENVIRONMENTS: HashMap<u32, Environment> =
    HashMap::with_max_entries(MAX_ENVIRONMENTS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static MAPPINGS: HashMap<MappingKey, Mapping> = HashMap::with_max_entries(MAX_MAPPINGS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static COUNTERS: PerCpuHashMap<MappingKey, Counters> =
    PerCpuHashMap::with_max_entries(MAX_MAPPINGS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static DROPS: PerCpuHashMap<DropKey, u64> = PerCpuHashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static UPLINK: Array<Uplink> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static ROUTER_WANS: HashMap<RouterWanKey, u32> =
    HashMap::with_max_entries(MAX_ENVIRONMENTS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static PORTS: HashMap<u32, Port> = HashMap::with_max_entries(MAX_PORTS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static TAPS: DevMapHash = DevMapHash::with_max_entries(MAX_TAPS, 0);
#[map]
pub(crate) static ENDPOINTS: HashMap<Address, Endpoint> = HashMap::with_max_entries(MAX_MAPPINGS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static GUEST_MACS: HashMap<FdbKey, Address> = HashMap::with_max_entries(MAX_MAPPINGS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static FDB: LruHashMap<FdbKey, FdbEntry> = LruHashMap::with_max_entries(65_536, 0);
#[map]
pub(crate) static BUCKETS: LruHashMap<BucketKey, Bucket> = LruHashMap::with_max_entries(16_384, 0);
#[map]
pub(crate) static CONTACTS: LruHashMap<ContactKey, u64> = LruHashMap::with_max_entries(16_384, 0);
#[map]
pub(crate) static SOURCES: LruHashMap<SourceKey, u64> = LruHashMap::with_max_entries(16_384, 0);
#[map]
pub(crate) static NEXT_HOPS: LruHashMap<Address, NextHop> = LruHashMap::with_max_entries(16_384, 0);

/// The environment whose `gwE` has this index.
#[inline(always)]
pub(crate) fn environment(interface: u32) -> Option<Environment> {
    // SAFETY: an entry stays readable until the program ends, even when it is removed meanwhile. But it may then be used
    // for another key at once, so its value is copied instead of kept by reference.
    unsafe { ENVIRONMENTS.get(interface) }.copied()
}

/// [`MAPPINGS`] behind the trait that decisions use.
#[derive(Clone, Copy)]
pub(crate) struct MappingsMap;

impl Mappings for MappingsMap {
    #[inline(always)]
    fn find(&self, key: MappingKey) -> Option<Mapping> {
        // SAFETY: as above.
        unsafe { MAPPINGS.get(key) }.copied()
    }
}

/// The port with this index.
#[inline(always)]
pub(crate) fn port(interface: u32) -> Option<Port> {
    // SAFETY: as above.
    unsafe { PORTS.get(interface) }.copied()
}

/// The entry of an external address. It stays readable until the program ends. If it is removed meanwhile and reused for
/// another mapping, [`Location::environment`](envnet_common::maps::Location) shows that a late write is not the mapping's.
#[inline(always)]
pub(crate) fn endpoint(external: Address) -> Option<&'static mut Endpoint> {
    let endpoint = ENDPOINTS.get_ptr_mut(external)?;
    // SAFETY: the entry is plain data of this size and alignment. Other CPUs may write to it at the same time, which the
    // kernel's memory model allows; `Location` documents the effect.
    Some(unsafe { &mut *endpoint })
}

/// The guest that an Ethernet address is promised to, by its internal address.
#[inline(always)]
pub(crate) fn guest_with(environment: u32, mac: Mac) -> Option<Address> {
    // SAFETY: as above.
    unsafe { GUEST_MACS.get(FdbKey::new(environment, mac)) }.copied()
}

/// Whether an Ethernet address is that of a router's WAN port.
#[inline(always)]
pub(crate) fn is_router_wan(mac: Mac) -> bool {
    // SAFETY: only the existence of the entry is used.
    unsafe { ROUTER_WANS.get(RouterWanKey::from(mac)) }.is_some()
}
