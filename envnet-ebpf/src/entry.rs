//! The places where a packet enters the fast path from outside, and what differs between them.

use envnet_common::{Verdict, apply::Write};

use crate::neighbours::ProbeMode;

/// Where a packet enters the fast path.
#[derive(Clone, Copy)]
pub(crate) enum EntryPoint {
    /// XDP of the uplink.
    Driver,
    /// TC ingress of the uplink: frames for every environment.
    Uplink,
    /// TC egress of the uplink: frames that the host itself sends.
    Host,
    /// TC egress of the uplink bridge's port towards one environment. A bridge that floods also hands out frames for
    /// other environments there.
    WanPort {
        /// The environment's number.
        environment: u32,
    },
}

impl EntryPoint {
    /// Whether an environment can be reached by this way.
    #[inline(always)]
    pub(crate) const fn leads_to(self, number: u32) -> bool {
        match self {
            Self::WanPort { environment } => environment == number,
            Self::Driver | Self::Uplink | Self::Host => true,
        }
    }

    /// Who probes a doubtful entry: TC sees a frame after XDP, and directly before the router.
    #[inline(always)]
    pub(crate) const fn probe_mode(self) -> ProbeMode {
        match self {
            Self::Driver => ProbeMode::Defer,
            Self::Uplink | Self::Host | Self::WanPort { .. } => ProbeMode::Send,
        }
    }

    /// The verdict that sends a frame back to its sender.
    #[inline(always)]
    pub(crate) const fn send_back(self) -> Verdict {
        match self {
            Self::Driver | Self::Uplink => Verdict::RedirectSelf,
            Self::Host | Self::WanPort { .. } => Verdict::RedirectSelfIngress,
        }
    }
}

/// A packet that an entry point can send to a guest's port.
pub(crate) trait Forwardable: Write {
    /// Whether the packet can leave by an interface whose link has this MTU.
    fn can_leave_by(&self, interface: u32, mtu: u32) -> bool;
}
