//! Where which program runs.

use aya::programs::TcAttachType;

use crate::{kernel::netns::Place, names};

/// A kind of link that programs run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// `gwE` in the router: the border.
    Gateway,
    /// `brE` itself: what guests say to the host.
    Bridge,
    /// `brE`'s port towards the router.
    RouterPort,
    /// A tap of envnet's, which is a port of `brE` that a guest is behind.
    GuestPort,
    /// A port of `brE` that somebody else has plugged in.
    ForeignPort,
    /// The uplink bridge's port towards `gwE`.
    GatewayPort,
    /// The uplink, when it carries macvlans.
    Uplink,
    /// The uplink's driver.
    UplinkDriver,
}

/// One of a site's programs.
pub(super) struct Role {
    pub(super) site: Site,
    pub(super) program: &'static str,
    /// None for XDP.
    pub(super) direction: Option<TcAttachType>,
}

const fn role(site: Site, program: &'static str, direction: Option<TcAttachType>) -> Role {
    Role {
        site,
        program,
        direction,
    }
}

pub(super) const ROLES: &[Role] = &[
    role(Site::Gateway, "router_ingress", Some(TcAttachType::Ingress)),
    role(Site::Gateway, "router_egress", Some(TcAttachType::Egress)),
    role(Site::Bridge, "bridge_ingress", Some(TcAttachType::Ingress)),
    role(Site::RouterPort, "router_port_ingress", Some(TcAttachType::Ingress)),
    role(Site::RouterPort, "router_port_egress", Some(TcAttachType::Egress)),
    role(Site::GuestPort, "guest_ingress", Some(TcAttachType::Ingress)),
    role(Site::ForeignPort, "guest_ingress", Some(TcAttachType::Ingress)),
    role(Site::GatewayPort, "wan_port_egress", Some(TcAttachType::Egress)),
    role(Site::Uplink, "uplink_ingress", Some(TcAttachType::Ingress)),
    role(Site::Uplink, "uplink_egress", Some(TcAttachType::Egress)),
    role(Site::UplinkDriver, "uplink_xdp", None),
];

/// What the name of a directory beside the pins begins with that says that envnet made a link's qdisc; its index follows.
pub(super) const QDISC_MARK: &str = "clsact-";

impl Site {
    /// The namespace its links are in.
    #[must_use]
    pub const fn place(self) -> Place {
        match self {
            Self::Gateway => Place::Router,
            _ => Place::Host,
        }
    }

    /// Whether the programs have the last word on the link. Elsewhere they leave alone what they do not know, and other
    /// people's programs may be there, too.
    #[must_use]
    pub const fn is_exclusive(self) -> bool {
        matches!(self, Self::Gateway | Self::Bridge)
    }

    /// Whether the links are envnet's own. Filters on them go when they go, and not before.
    #[must_use]
    pub const fn is_own(self) -> bool {
        !matches!(self, Self::ForeignPort | Self::Uplink | Self::UplinkDriver)
    }

    /// The directions in which filters may be.
    pub fn directions(self) -> impl Iterator<Item = TcAttachType> {
        self.roles().filter_map(|role| role.direction)
    }

    /// The link of that kind that an environment has, if it has just one.
    #[must_use]
    pub fn link(self, environment: u32) -> Option<String> {
        match self {
            Self::Gateway => Some(names::gateway(environment)),
            Self::Bridge => Some(names::bridge(environment)),
            Self::RouterPort => Some(names::router_port(environment)),
            Self::GatewayPort => Some(names::gateway_port(environment)),
            Self::GuestPort | Self::ForeignPort | Self::Uplink | Self::UplinkDriver => None,
        }
    }

    pub(super) fn roles(self) -> impl Iterator<Item = &'static Role> {
        ROLES.iter().filter(move |role| role.site == self)
    }
}

impl Role {
    /// Name of the pin of its link: the BPF filesystem refuses dots, which interface names may have.
    pub(super) fn pin(&self, link: &str) -> String {
        format!("{}-{}", names::without_dots(link), self.hook())
    }

    /// Name of the pin of a link whose name is not known, which no link's name leads to.
    pub(super) fn pin_without_name(&self, index: u32) -> String {
        format!("%if{index}-{}", self.hook())
    }

    /// Whether a pin of this name can be the role's.
    pub(super) fn is_pin(&self, name: &str) -> bool {
        name.strip_suffix(self.hook()).is_some_and(|rest| rest.ends_with('-'))
    }

    const fn hook(&self) -> &'static str {
        match self.direction {
            Some(TcAttachType::Egress) => "egress",
            Some(_) => "ingress",
            None => "xdp",
        }
    }
}
