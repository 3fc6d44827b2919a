//! Where which program runs.

use aya::programs::TcAttachType;

use crate::{kernel::netns::NetnsKind, names};

/// A kind of link that programs run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttachPoint {
    /// `gwE` in the router: the border.
    RouterWan,
    /// `brE` itself: what guests say to the host.
    Bridge,
    /// `brE`'s port towards the router.
    RouterPort,
    /// A tap of envnet's, which is a port of `brE` that a guest is behind.
    GuestPort,
    /// A port of `brE` that somebody else has plugged in.
    ForeignPort,
    /// The uplink bridge's port towards `gwE`.
    UplinkPort,
    /// The uplink, when it carries macvlans.
    Uplink,
    /// The uplink's driver.
    UplinkDriver,
}

/// A program and where it runs.
pub(crate) struct Program {
    pub(crate) point: AttachPoint,
    pub(crate) name: &'static str,
    /// None for XDP.
    pub(crate) direction: Option<TcAttachType>,
}

const fn program(point: AttachPoint, name: &'static str, direction: Option<TcAttachType>) -> Program {
    Program { point, name, direction }
}

pub(crate) const PROGRAMS: &[Program] = &[
    program(AttachPoint::RouterWan, "router_ingress", Some(TcAttachType::Ingress)),
    program(AttachPoint::RouterWan, "router_egress", Some(TcAttachType::Egress)),
    program(AttachPoint::Bridge, "bridge_ingress", Some(TcAttachType::Ingress)),
    program(
        AttachPoint::RouterPort,
        "router_port_ingress",
        Some(TcAttachType::Ingress),
    ),
    program(
        AttachPoint::RouterPort,
        "router_port_egress",
        Some(TcAttachType::Egress),
    ),
    program(AttachPoint::GuestPort, "guest_ingress", Some(TcAttachType::Ingress)),
    program(AttachPoint::ForeignPort, "guest_ingress", Some(TcAttachType::Ingress)),
    program(AttachPoint::UplinkPort, "wan_port_egress", Some(TcAttachType::Egress)),
    program(AttachPoint::Uplink, "uplink_ingress", Some(TcAttachType::Ingress)),
    program(AttachPoint::Uplink, "uplink_egress", Some(TcAttachType::Egress)),
    program(AttachPoint::UplinkDriver, "uplink_xdp", None),
];

impl AttachPoint {
    /// The namespace its links are in.
    #[must_use]
    pub const fn netns(self) -> NetnsKind {
        match self {
            Self::RouterWan => NetnsKind::Router,
            _ => NetnsKind::Host,
        }
    }

    /// Whether the programs have the last word on the link. Elsewhere they leave alone what they do not know, and other
    /// people's programs may be there, too.
    #[must_use]
    pub const fn is_exclusive(self) -> bool {
        matches!(self, Self::RouterWan | Self::Bridge)
    }

    /// Whether the links are envnet's own. Filters on them go when they go, and not before.
    #[must_use]
    pub const fn is_own(self) -> bool {
        !matches!(self, Self::ForeignPort | Self::Uplink | Self::UplinkDriver)
    }

    /// Whether programs run there that are told of the port.
    #[must_use]
    pub const fn is_told(self) -> bool {
        matches!(
            self,
            Self::RouterPort | Self::GuestPort | Self::ForeignPort | Self::UplinkPort
        )
    }

    /// The directions in which filters may be.
    pub fn directions(self) -> impl Iterator<Item = TcAttachType> {
        self.programs().filter_map(|program| program.direction)
    }

    pub(crate) fn programs(self) -> impl Iterator<Item = &'static Program> {
        PROGRAMS.iter().filter(move |program| program.point == self)
    }
}

impl Program {
    /// Name of the pin of its link: the BPF filesystem refuses dots, which interface names may have.
    pub(crate) fn pin(&self, link: &str) -> String {
        format!("{}-{}", names::without_dots(link), self.hook())
    }

    /// Name of the pin of a link whose name is not known, which no link's name leads to.
    pub(crate) fn pin_without_name(&self, index: u32) -> String {
        format!("%if{index}-{}", self.hook())
    }

    /// Whether a pin of this name can be the program's.
    pub(crate) fn is_pin(&self, name: &str) -> bool {
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
