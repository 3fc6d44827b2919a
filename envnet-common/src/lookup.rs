//! Asks the mappings of one environment for the other address.
//!
//! One hash map serves both directions: the prefixes differ and the host bits are kept, so the internal address that an
//! external one would have is known without a map, and the entry found there confirms or refutes it.

use crate::{
    Address,
    maps::{Environment, Mapping, MappingKey},
};

/// The mappings of all environments.
pub trait Mappings {
    /// The entry with this key.
    fn find(&self, key: MappingKey) -> Option<Mapping>;
}

/// The mappings of one environment.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a, M> {
    /// The environment.
    pub environment: &'a Environment,
    /// Everybody's mappings.
    pub mappings: &'a M,
}

impl<M: Mappings> Lookup<'_, M> {
    /// The external address of `internal`, when it is mapped.
    #[must_use]
    #[inline(always)]
    pub fn external(&self, internal: Address) -> Option<Address> {
        let key = MappingKey {
            environment: self.environment.number,
            internal,
        };
        self.mappings.find(key).map(|mapping| mapping.external)
    }

    /// The internal address of `external`, when it is mapped in this environment.
    #[must_use]
    #[inline(always)]
    pub fn internal(&self, external: Address) -> Option<Address> {
        let internal = external.rebase(self.environment.internal, self.environment.mask);
        (self.external(internal) == Some(external)).then_some(internal)
    }
}
