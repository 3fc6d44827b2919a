//! How links are made, changed and deleted.

use std::{
    hash::{BuildHasher, RandomState},
    thread,
    time::{Duration, Instant},
};

use super::worker::Worker;
use crate::{
    desired::{Link, LinkKind},
    kernel::{
        Error, Explain as _, Result,
        netlink::{self, NewLink},
        netns::NetnsKind,
        programs::Hook,
        tap,
    },
    names::{LINK_GROUP, REMOVAL_GROUPS},
    plan::{Attribute, OwnLink},
};

/// How long the kernel may take to remove a namespace that has no name any more.
const LETTING_GO: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Worker<'_> {
    /// Makes a link with everything it has. The kernel takes an ifalias, and what a port forwards, only afterwards.
    pub(super) async fn create_link(&mut self, environment: u32, link: &Link) -> Result<()> {
        let alias = self.instance.alias(environment);
        let host = self.host_netlink()?.clone();
        let mac = link.mac.unwrap_or_default();
        let master = match &link.master {
            Some(master) => Some(self.index(environment, link.place, master)?),
            None => None,
        };
        match &link.kind {
            LinkKind::Bridge => {
                let new = NewLink::Bridge;
                host.create_link(&link.name, mac, link.mtu, master, &new).await?;
            }
            LinkKind::Veth {
                peer,
                peer_mac,
                peer_index,
            } => {
                let (netns, router) = (
                    self.netns(environment, NetnsKind::Router)?,
                    self.netlink(environment, NetnsKind::Router)?.clone(),
                );
                if *peer_index == 0 {
                    let new = NewLink::Veth {
                        peer,
                        peer_mac: *peer_mac,
                        netns: &netns,
                        index: 0,
                    };
                    host.create_link(&link.name, mac, link.mtu, master, &new).await?;
                } else {
                    // Made from the router's side, because only that end can ask for an index.
                    let new = NewLink::Veth {
                        peer: &link.name,
                        peer_mac: mac,
                        netns: self.host,
                        index: *peer_index,
                    };
                    router.create_link(peer, *peer_mac, link.mtu, None, &new).await?;
                }
                let index = self.index(environment, NetnsKind::Router, peer)?;
                router.set_link(index, |message| message.alias(alias.clone())).await?;
                if *peer_index != 0 {
                    self.prepare_programs(environment, NetnsKind::Router, index).await?;
                }
            }
            LinkKind::VethPeer => {
                return Err(Error::Unexpected(format!("{} is the other end of nothing", link.name)));
            }
            LinkKind::Macvlan { parent, index } => {
                let parent = self.index(environment, NetnsKind::Host, parent)?;
                let netns = self.netns(environment, NetnsKind::Router)?;
                let new = NewLink::Macvlan {
                    parent,
                    netns: &netns,
                    index: *index,
                };
                host.create_link(&link.name, mac, link.mtu, master, &new).await?;
            }
            LinkKind::Tap { user, group } => {
                let tap = tap::create(self.host, &link.name)?;
                tap.set_owner(*user, *group)?;
                let index = self.index(environment, NetnsKind::Host, &link.name)?;
                let marked = host.set_link(index, |message| {
                    let message = message.alias(alias.clone()).link_group(LINK_GROUP).mtu(link.mtu);
                    match master {
                        Some(master) => message.controller(master),
                        None => message,
                    }
                });
                marked.await.explain(|| "cannot set ifalias and bridge")?;
                tap.persist()?;
                return self.complete(environment, link, index).await;
            }
        }
        let index = self.index(environment, link.place, &link.name)?;
        let netlink = self.netlink(environment, link.place)?;
        let set = netlink.set_link(index, |message| {
            let message = message.alias(alias);
            match master {
                Some(master) => message.controller(master),
                None => message,
            }
        });
        set.await.explain(|| "cannot set ifalias and bridge")?;
        self.complete(environment, link, index).await
    }

    async fn complete(&mut self, environment: u32, link: &Link, index: u32) -> Result<()> {
        if link.group_forwarding != 0 {
            let netlink = self.netlink(environment, link.place)?;
            netlink.set_group_forwarding(index, link.group_forwarding).await?;
        }
        if link.programs {
            self.prepare_programs(environment, link.place, index).await?;
        }
        Ok(())
    }

    /// Makes the qdisc that filters will be in. A filter set right after it would have to wait until every processor has
    /// forgotten that there was none.
    async fn prepare_programs(&mut self, environment: u32, netns: NetnsKind, index: u32) -> Result<()> {
        if self.hook == Some(Hook::Tcx) {
            return Ok(());
        }
        self.netlink(environment, netns)?.add_clsact(index).await
    }

    pub(super) async fn delete_link(&mut self, environment: u32, netns: NetnsKind, name: &str) -> Result<()> {
        let instance = self.instance;
        let netlink = self.netlink(environment, netns)?;
        // A link may have gone with its other end or its namespace; and what has the name by now, or had it when making
        // ours failed, may be somebody else's. In the router there is nobody else.
        let own = |link: &netlink::Link| netns == NetnsKind::Router || link.owner(instance) == Some(environment);
        match netlink.link(name).await?.filter(own) {
            Some(link) => netlink.delete_link(link.index).await,
            None => Ok(()),
        }
    }

    /// Deletes links of the host. Each deletion waits for the kernel to be done with the link's packets, so that it is
    /// much faster to delete them as a group.
    pub(super) async fn delete_links(&mut self, links: &[OwnLink]) -> Result<()> {
        let instance = self.instance;
        let netlink = self.host_netlink()?;
        let mut own = Vec::new();
        for OwnLink { environment, name } in links {
            let link = netlink.link(name).await?;
            let link = link.filter(|link| link.owner(instance) == Some(*environment));
            own.extend(link.map(|link| (link, *environment)));
        }
        if let [(link, _)] = &own[..] {
            return netlink.delete_link(link.index).await;
        }
        if own.is_empty() {
            return Ok(());
        }
        let group = removal_group();
        for (link, environment) in &own {
            // One that has no alias yet is known by the group that it now loses.
            let alias = instance.alias(*environment);
            netlink
                .set_link(link.index, |message| message.alias(alias).link_group(group))
                .await
                .explain(|| format!("cannot set the group of {}", link.name))?;
        }
        netlink.delete_group(group).await.explain(|| "cannot delete links")
    }

    pub(super) async fn set_link(
        &mut self,
        environment: u32,
        netns: NetnsKind,
        name: &str,
        new: &Attribute,
    ) -> Result<()> {
        let index = self.index(environment, netns, name)?;
        let master = match new {
            Attribute::Master(Some(master)) => self.index(environment, netns, master)?,
            _ => 0,
        };
        let netlink = self.netlink(environment, netns)?;
        if let Attribute::GroupForwarding(mask) = new {
            return netlink.set_group_forwarding(index, *mask).await;
        }
        if let Attribute::Owner(user, group) = new {
            return tap::open(self.host, name)
                .explain(|| "is a virtual machine using it?")?
                .set_owner(*user, *group);
        }
        let start = Instant::now();
        loop {
            let set = netlink.set_link(index, |message| match new {
                Attribute::Mtu(mtu) => message.mtu(*mtu),
                Attribute::Mac(mac) => message.address(mac.0.to_vec()),
                Attribute::Master(_) => message.controller(master),
                Attribute::Up(true) => message.up(),
                Attribute::Up(false) => message.down(),
                Attribute::Alias(alias) => message.alias(alias.clone()),
                Attribute::Group(group) => message.link_group(*group),
                Attribute::Owner(..) | Attribute::GroupForwarding(_) => message,
            });
            match set.await {
                // A namespace whose name was removed lives on until the kernel gets round to it, or a process leaves it,
                // and so does the macvlan in it, with the same Ethernet address.
                Err(error) if is_address_in_use(&error) => {
                    if start.elapsed() >= LETTING_GO {
                        return Err(error).explain(|| {
                            format!(
                                "another link of the uplink has the Ethernet address of {name}; is a process still in a \
                                 namespace that was removed by hand?"
                            )
                        });
                    }
                    thread::sleep(LOOK_AGAIN);
                }
                set => return set,
            }
        }
    }

    fn index(&mut self, environment: u32, netns: NetnsKind, name: &str) -> Result<u32> {
        let index = self.netns(environment, netns)?.index(name)?;
        index.explain(|| format!("{name} is gone"))
    }
}

/// A link group that nobody else's link is in. Looking would not make that sure, because a link can be put into a group at
/// any time; chance does, with a thousand million to choose from.
fn removal_group() -> u32 {
    // A hasher's keys are random.
    let [a, b, c, d, ..] = RandomState::new().hash_one(()).to_ne_bytes();
    REMOVAL_GROUPS | (u32::from_ne_bytes([a, b, c, d]) % REMOVAL_GROUPS)
}

fn is_address_in_use(error: &Error) -> bool {
    error.errno() == Some(libc::EADDRINUSE)
}
