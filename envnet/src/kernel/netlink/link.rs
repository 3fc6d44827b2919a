//! Links as the kernel reports them.

use envnet_common::Mac;
use rtnetlink::{
    packet_core::Nla,
    packet_route::link::{
        InfoBridgePort, InfoData, InfoKind, InfoMacVlan, InfoPortData, InfoTun, LinkAttribute, LinkFlags, LinkInfo,
        LinkLayerType, LinkMessage, LinkXdp, MacVlanMode, Prop,
    },
};

use crate::names::Instance;

/// A link as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Ethernet address; zero for what has none.
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
    /// Index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Administratively up.
    pub up: bool,
    /// Whether the other side is there: for a tap, that a process has it open (`tun_attach` in the kernel).
    pub carrier: bool,
    /// The ifalias; empty when there is none.
    pub alias: String,
    /// The link group; 0 when nobody set one.
    pub group: u32,
    /// Other names that the kernel finds it by.
    pub altnames: Vec<String>,
    /// Which link-local groups (01:80:c2:00:00:0X, a bit each) it forwards as the port of a bridge.
    pub group_forwarding: u16,
    /// Number of the XDP program on it.
    pub xdp: Option<u32>,
}

impl Link {
    /// The environment the link was made for, if it was made by that instance.
    #[must_use]
    pub fn owner(&self, instance: &Instance) -> Option<u32> {
        instance.owner(&self.name, &self.alias, self.group)
    }
}

/// What a link is, as far as envnet cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bridge.
    Bridge,
    /// One end of a veth pair.
    Veth,
    /// A macvlan on the interface with this index (of the parent's namespace).
    Macvlan {
        /// Index of the parent.
        parent: u32,
        /// Whether it is in bridge mode.
        bridge_mode: bool,
    },
    /// A tap with its owner and group, if it has any.
    Tap {
        /// User number.
        user: Option<u32>,
        /// Group number.
        group: Option<u32>,
    },
    /// Some other Ethernet interface.
    Ethernet,
    /// Not Ethernet at all: the loopback, a tunnel.
    Other,
}

pub(super) fn link(message: &LinkMessage) -> Link {
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: if ethernet { Kind::Ethernet } else { Kind::Other },
        mac: Mac::default(),
        mtu: 0,
        master: None,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: false,
        alias: String::new(),
        group: 0,
        altnames: Vec::new(),
        group_forwarding: 0,
        xdp: None,
    };
    let (mut kind, mut data, mut parent) = (None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
            LinkAttribute::Address(bytes) => link.mac = <[u8; 6]>::try_from(&bytes[..]).map_or(Mac::default(), Mac),
            LinkAttribute::PropList(properties) => {
                link.altnames
                    .extend(properties.iter().filter_map(|property| match property {
                        Prop::AltIfName(name) => Some(name.clone()),
                        _ => None,
                    }));
            }
            LinkAttribute::Xdp(infos) => {
                link.xdp = infos.iter().find_map(|info| match info {
                    LinkXdp::ProgId(id) => Some(*id),
                    _ => None,
                });
            }
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            // The flag of the same meaning is not set while the link is down.
            LinkAttribute::Carrier(carrier) => link.carrier = *carrier != 0,
            LinkAttribute::Controller(index) if *index != 0 => link.master = Some(*index),
            LinkAttribute::Link(index) => parent = *index,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(value) => kind = Some(value),
                        LinkInfo::Data(value) => data = Some(value),
                        LinkInfo::PortData(InfoPortData::BridgePort(infos)) => {
                            link.group_forwarding = group_forwarding(infos);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    match (kind, data) {
        (Some(InfoKind::Bridge), _) => link.kind = Kind::Bridge,
        (Some(InfoKind::Veth), _) => link.kind = Kind::Veth,
        (Some(InfoKind::MacVlan), data) => {
            let bridge_mode = matches!(data, Some(InfoData::MacVlan(infos))
                if infos.contains(&InfoMacVlan::Mode(MacVlanMode::Bridge)));
            link.kind = Kind::Macvlan { parent, bridge_mode };
        }
        (Some(InfoKind::Tun), Some(InfoData::Tun(infos))) if ethernet => {
            link.kind = Kind::Tap {
                user: tun_number(infos, IFLA_TUN_OWNER),
                group: tun_number(infos, IFLA_TUN_GROUP),
            };
        }
        _ => {}
    }
    link
}

fn group_forwarding(infos: &[InfoBridgePort]) -> u16 {
    let mask = infos.iter().find_map(|info| match info {
        InfoBridgePort::GroupFwdMask(mask) => Some(*mask),
        _ => None,
    });
    mask.unwrap_or_default()
}

/// Attributes of a tun device (`linux/if_link.h`).
const IFLA_TUN_OWNER: u16 = 1;
const IFLA_TUN_GROUP: u16 = 2;

fn tun_number(infos: &[InfoTun], attribute: u16) -> Option<u32> {
    infos.iter().find_map(|info| match info {
        InfoTun::Other(nla) if nla.kind() == attribute && nla.value_len() == 4 => {
            let mut bytes = [0; 4];
            nla.emit_value(&mut bytes);
            Some(u32::from_ne_bytes(bytes))
        }
        _ => None,
    })
}
