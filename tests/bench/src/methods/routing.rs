//! Plain routing: every guest has an address of its own, and nothing is translated.

use std::net::Ipv4Addr;

use anyhow::Result;
use envnet_lab::addresses::{Role, external};

use super::{Method, Standing, classic::Classic};
use crate::testbed::Testbed;

/// The method.
pub(super) struct Routing;

impl Method for Routing {
    fn name(&self) -> &'static str {
        "routing"
    }

    fn description(&self) -> &'static str {
        "the same topology without any translation: every guest has an address of its own, so it is no solution, but it shows what the way alone costs"
    }

    fn set_up(&self, testbed: &Testbed) -> Result<Box<dyn Standing>> {
        Ok(Box::new(Classic::build(testbed, None)?))
    }

    fn internal(&self, environment: u8, role: Role) -> Ipv4Addr {
        role.external(environment)
    }

    fn router(&self, environment: u8) -> Ipv4Addr {
        external(environment, 1)
    }
}
