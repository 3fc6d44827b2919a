//! A guest on a veth instead of a tap: the generator and the sink in the kernel need an interface that takes and gives
//! frames there, which a tap only does with a process.

use std::net::Ipv4Addr;

use anyhow::Result;
use envnet_lab::{
    addresses::{self, Role},
    namespace::Namespace,
};

use crate::testbed::{batch, coalesce};

/// The guest's own interface.
pub(crate) const INTERFACE: &str = "eth0";

/// A guest's namespace, connected to a port of its environment's bridge.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) namespace: Namespace,
}

impl Guest {
    /// Plugs a guest with the role's Ethernet address into the environment.
    pub(crate) fn plug(
        host: &Namespace,
        environment: u8,
        role: Role,
        address: Ipv4Addr,
        router: Ipv4Addr,
    ) -> Result<Self> {
        let namespace = Namespace::create(&format!("{}-{environment}.{}", host.name(), role.number))?;
        namespace.set_sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        namespace.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        let port = name(environment, role);
        batch(
            host,
            &format!(
                "link add {port} type veth peer name {INTERFACE} address {} netns {}",
                role.mac,
                namespace.name()
            ),
        )?;
        // Before they are up: only then does the kernel see that frames may be redirected to the other end.
        coalesce(host, &port)?;
        coalesce(&namespace, INTERFACE)?;
        batch(host, &format!("link set {port} master br{environment} up"))?;
        batch(
            &namespace,
            &format!(
                "address add {address}/{} dev {INTERFACE}\n\
                 link set {INTERFACE} up\n\
                 route add default via {router}",
                addresses::INTERNAL_PREFIX
            ),
        )?;
        Ok(Self { namespace })
    }
}

/// The bridge's port that the guest is plugged into. Its tap, which envnet or the script makes, stays empty beside it.
pub(crate) fn name(environment: u8, role: Role) -> String {
    format!("port{environment}.{}", role.number)
}
