//! Routing netlink: what is there, and the requests that change it.
//!
//! A socket belongs to the namespace it was opened in, so a [`Netlink`] is opened by a thread in that namespace and then
//! used from anywhere.

mod filter;
mod link;
mod route;

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use envnet_common::Mac;
use futures_util::{Stream, StreamExt, TryStreamExt};
use ipnet::Ipv4Net;
use rtnetlink::{
    LinkBridgePort, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder,
    packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::AddressAttribute,
        link::{InfoBridge, InfoData, InfoKind, InfoMacVlan, InfoVeth, LinkAttribute, LinkMessage, MacVlanMode},
        neighbour::{NeighbourAddress, NeighbourAttribute},
    },
};
use tokio::runtime;

pub use self::{
    filter::Filter,
    link::{Kind, Link},
    route::Route,
};
use self::{
    link::link,
    route::{new_route, old_route, route},
};
use super::{Error, Explain as _, Result, netns::Netns};
use crate::names::LINK_GROUP;

/// A connection to one namespace's routing netlink.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
    /// Set when sending or receiving has failed. The library then ends every answer early, as if it were complete.
    broken: Arc<AtomicBool>,
}

/// How a new link comes into being.
#[derive(Debug)]
pub enum NewLink<'a> {
    /// A bridge in the namespace of the socket.
    Bridge,
    /// A macvlan in bridge mode, put into `netns` at creation.
    Macvlan {
        /// Index of the parent in the socket's namespace.
        parent: u32,
        /// Where it goes.
        netns: &'a Netns,
        /// The index it asks for.
        index: u32,
    },
    /// A veth pair whose other end is put into `netns` at creation.
    Veth {
        /// The other end's name.
        peer: &'a str,
        /// The other end's Ethernet address.
        peer_mac: Mac,
        /// Where the other end goes.
        netns: &'a Netns,
        /// The index this end asks for; 0 for any. The kernel would ignore one asked for by the other end alone.
        index: u32,
    },
}

impl Netlink {
    /// Opens a connection to a namespace. Must be called inside a tokio runtime.
    pub fn open(netns: &Netns) -> Result<Self> {
        let runtime = runtime::Handle::current();
        let (connection, handle, _) = netns
            .run(|| {
                let _inside = runtime.enter();
                rtnetlink::new_connection()
            })?
            .explain(|| "cannot open a netlink socket")?;
        let broken = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&broken);
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            connection.as_mut().await;
            // Before the connection is dropped, which ends the answers.
            ended.store(true, Ordering::Release);
        });
        Ok(Self { handle, broken })
    }

    /// Whether the connection can be used any more.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        !self.broken.load(Ordering::Acquire)
    }

    /// Waits for a request's answer, all of it.
    async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> Result<T, rtnetlink::Error> {
        let answer = answer.await?;
        if self.is_intact() {
            Ok(answer)
        } else {
            Err(rtnetlink::Error::RequestFailed)
        }
    }

    /// Makes a change.
    async fn change(&self, request: impl Future<Output = Result<(), rtnetlink::Error>>) -> Result<()> {
        self.answer(request).await.map_err(plain)
    }

    /// Makes a list of an answer.
    async fn list<M, T>(
        &self,
        stream: impl Stream<Item = Result<M, rtnetlink::Error>>,
        what: &str,
        parse: impl Fn(M) -> Option<T>,
    ) -> Result<Vec<T>> {
        let list = stream
            .map(|message| message.map(&parse))
            .try_filter_map(async |parsed| Ok(parsed))
            .try_collect();
        let list = self.answer(list).await.map_err(plain);
        list.explain(|| format!("cannot list {what}"))
    }

    /// Sends a request that the library has no builder for, and waits until it is done; returns what came back.
    async fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, rtnetlink::Error> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut response = self.handle.clone().request(message)?;
        let answer = async {
            let mut answers = Vec::new();
            while let Some(message) = response.next().await {
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    // An acknowledgement is an error without a number.
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(rtnetlink::Error::NetlinkError(error));
                    }
                    NetlinkPayload::Error(_) => break,
                    _ => {}
                }
            }
            Ok(answers)
        };
        self.answer(answer).await
    }

    /// All links.
    pub async fn links(&self) -> Result<Vec<Link>> {
        self.list(self.handle.link().get().execute(), "links", |message| {
            Some(link(&message))
        })
        .await
    }

    /// The link of that name, if there is one.
    pub async fn link(&self, name: &str) -> Result<Option<Link>> {
        let mut stream = pin!(self.handle.link().get().match_name(name).execute());
        match self.answer(stream.try_next()).await {
            // The kernel finds a link by its alternative names, too; that is somebody else's link.
            Ok(message) => Ok(message.as_ref().map(link).filter(|link| link.name == name)),
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => Ok(None),
            Err(error) => Err(plain(error)).explain(|| format!("cannot look up link {name}")),
        }
    }

    /// The IPv4 addresses with their interfaces' indices.
    pub async fn addresses(&self) -> Result<Vec<(u32, Ipv4Net)>> {
        let mut request = self.handle.address().get();
        request.message_mut().header.family = AddressFamily::Inet;
        self.list(request.execute(), "addresses", |message| {
            let length = message.header.prefix_len;
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(std::net::IpAddr::V4(address)) => Some(*address),
                _ => None,
            })?;
            Some((message.header.index, Ipv4Net::new(address, length).ok()?))
        })
        .await
    }

    /// The unicast IPv4 routes of the main table, without those that the kernel made from addresses.
    pub async fn routes(&self) -> Result<Vec<Route>> {
        let request = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build());
        self.list(request.execute(), "routes", |message| route(&message)).await
    }

    /// The link-layer addresses the IPv4 neighbour table holds, with the interface's index.
    pub async fn neighbours(&self) -> Result<Vec<(u32, Ipv4Addr, Mac)>> {
        let request = self.handle.neighbours().get().set_address_family(AddressFamily::Inet);
        self.list(request.execute(), "neighbours", |message| {
            let (mut address, mut mac) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(destination)) => {
                        address = Some(*destination);
                    }
                    NeighbourAttribute::LinkLayerAddress(bytes) => mac = <[u8; 6]>::try_from(&bytes[..]).ok().map(Mac),
                    _ => {}
                }
            }
            Some((message.header.ifindex, address?, mac?))
        })
        .await
    }

    /// Creates a link, which is down at first; `master` is the bridge it becomes a port of.
    pub async fn create_link(
        &self,
        name: &str,
        mac: Mac,
        mtu: u32,
        master: Option<u32>,
        new: &NewLink<'_>,
    ) -> Result<()> {
        let builder = match new {
            // Snooping would make the host itself join groups and speak IGMP to the guests.
            NewLink::Bridge => LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Bridge)
                .set_info_data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
            NewLink::Macvlan { parent, netns, index } => {
                LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::MacVlan)
                    .set_info_data(InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)]))
                    .link(*parent)
                    .setns_by_fd(netns.as_fd().as_raw_fd())
                    .index(*index)
            }
            NewLink::Veth {
                peer,
                peer_mac,
                netns,
                index,
            } => {
                let peer = LinkUnspec::new_with_name(peer)
                    .address(peer_mac.0.to_vec())
                    .mtu(mtu)
                    .link_group(LINK_GROUP)
                    .setns_by_fd(netns.as_fd().as_raw_fd())
                    .build();
                LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
                    .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
                    .index(*index)
            }
        };
        let builder = match master {
            Some(master) => builder.controller(master),
            None => builder,
        };
        let message = builder
            .name(name)
            .address(mac.0.to_vec())
            .mtu(mtu)
            .link_group(LINK_GROUP)
            .build();
        self.change(self.handle.link().add(message).execute())
            .await
            .explain(|| format!("cannot create link {name}"))
    }

    /// Changes attributes of a link.
    pub async fn set_link(
        &self,
        index: u32,
        what: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<()> {
        let message = what(LinkUnspec::new_with_index(index)).build();
        self.change(self.handle.link().set(message).execute()).await
    }

    /// Says which link-local groups the port of a bridge forwards.
    pub async fn set_group_forwarding(&self, index: u32, mask: u16) -> Result<()> {
        let message = LinkBridgePort::new(index).group_fwd_mask(mask).build();
        self.change(self.handle.link().set_port(message).execute()).await
    }

    /// Deletes a link.
    pub async fn delete_link(&self, index: u32) -> Result<()> {
        self.change(self.handle.link().del(index).execute()).await
    }

    /// Deletes all links of a group at once, which costs little more than deleting one.
    pub async fn delete_group(&self, group: u32) -> Result<()> {
        let mut request = self.handle.link().del(0);
        *request.message_mut() = LinkMessage::default();
        request.message_mut().attributes.push(LinkAttribute::Group(group));
        self.change(request.execute()).await
    }

    /// Adds an address.
    pub async fn add_address(&self, index: u32, address: Ipv4Net) -> Result<()> {
        let addresses = self.handle.address();
        let request = addresses.add(index, address.addr().into(), address.prefix_len());
        self.change(request.execute()).await
    }

    /// Deletes an address.
    pub async fn delete_address(&self, index: u32, address: Ipv4Net) -> Result<()> {
        let mut request = self
            .handle
            .address()
            .add(index, address.addr().into(), address.prefix_len());
        let message = request.message_mut().clone();
        self.change(self.handle.address().del(message).execute()).await
    }

    /// Adds a route.
    pub async fn add_route(&self, route: &Route) -> Result<()> {
        self.change(self.handle.route().add(new_route(route)).execute()).await
    }

    /// Deletes a route.
    pub async fn delete_route(&self, route: &Route) -> Result<()> {
        self.change(self.handle.route().del(old_route(route)).execute()).await
    }
}

/// The kernel's own word for what went wrong, without the library's wrapping.
fn plain(error: rtnetlink::Error) -> Error {
    match error {
        rtnetlink::Error::NetlinkError(error) => error.to_io().into(),
        rtnetlink::Error::RequestFailed => {
            Error::Unexpected("the netlink connection to the kernel broke before there was an answer".to_owned())
        }
        error => error.into(),
    }
}
