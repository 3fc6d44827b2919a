//! The first look at the host, which checks and observation share.

use ipnet::Ipv4Net;

use crate::kernel::{
    Result,
    netlink::{Link, Netlink},
};

/// The links and IPv4 addresses of the host, dumped once for all that look at them.
#[derive(Debug)]
pub struct HostLinks {
    /// The links.
    pub links: Vec<Link>,
    /// The addresses with the indices of their interfaces.
    pub addresses: Vec<(u32, Ipv4Net)>,
}

impl HostLinks {
    /// Dumps them.
    pub async fn inspect(netlink: &Netlink) -> Result<Self> {
        Ok(Self {
            links: netlink.links().await?,
            addresses: netlink.addresses().await?,
        })
    }
}
