//! The limit: frames go from the uplink to the guest and back with nothing looked up and nothing written. It translates
//! nothing, so what is measured is the least that any program at that place can cost.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    programs::{SchedClassifier, TcAttachType, XdpMode},
};
use envnet_lab::addresses::{ROLES, Role};

use super::{Method, Standing, classic::Classic, routing::Routing};
use crate::{
    OBJECT,
    flood::{index, program},
    port,
    testbed::{Testbed, UPLINK},
};

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    Tc,
    Xdp,
}

/// The method.
pub(super) struct Redirect(Hook);

impl Redirect {
    pub(super) const TC: Self = Self(Hook::Tc);
    pub(super) const XDP: Self = Self(Hook::Xdp);
}

impl Method for Redirect {
    fn name(&self) -> &'static str {
        match self.0 {
            Hook::Tc => "limit-tc",
            Hook::Xdp => "limit-xdp",
        }
    }

    fn description(&self) -> &'static str {
        match self.0 {
            Hook::Tc => {
                "a bare TC redirect between uplink and guest, nothing translated: the least a TC program can cost"
            }
            Hook::Xdp => {
                "a bare XDP redirect between uplink and guest, nothing translated: the least any program can cost"
            }
        }
    }

    fn set_up(&self, testbed: &Testbed) -> Result<Box<dyn Standing>> {
        Ok(Box::new(Redirected {
            hook: self.0,
            programs: Vec::new(),
            _classic: Classic::build(testbed, None)?,
        }))
    }

    fn internal(&self, environment: u8, role: Role) -> Ipv4Addr {
        Routing.internal(environment, role)
    }

    fn router(&self, environment: u8) -> Ipv4Addr {
        Routing.router(environment)
    }

    fn is_limit(&self) -> bool {
        true
    }
}

struct Redirected {
    hook: Hook,
    /// Each holds its link.
    programs: Vec<Ebpf>,
    /// For ARP and everything else that is not measured.
    _classic: Classic,
}

impl Standing for Redirected {
    fn plugged(&mut self, testbed: &Testbed) -> Result<()> {
        let [dc, member] = ROLES;
        let of = |interface: &str| index(&testbed.host, interface);
        let own = port::name(1, dc);
        let ways = [
            (UPLINK, dc.external(1), [of(&own)?, of(&member.tap(1))?]),
            (own.as_str(), dc.external(2), [of(&port::name(2, dc))?, of(UPLINK)?]),
        ];
        for (interface, first, targets) in ways {
            let first = u32::from_ne_bytes(first.octets());
            let mut object = EbpfLoader::new()
                .override_global("FIRST", &first, true)
                .override_global("TARGETS", &targets, true)
                .load(OBJECT)
                .context("the redirect cannot be loaded")?;
            testbed.host.run(|| attach(&mut object, self.hook, interface))?;
            self.programs.push(object);
        }
        Ok(())
    }
}

fn attach(object: &mut Ebpf, hook: Hook, interface: &str) -> Result<()> {
    match hook {
        Hook::Tc => {
            let classifier: &mut SchedClassifier =
                object.program_mut("redirect_tc").context("no program")?.try_into()?;
            classifier.load()?;
            classifier.attach(interface, TcAttachType::Ingress)?;
        }
        Hook::Xdp => {
            let program = program(object, "redirect_xdp")?;
            program.load()?;
            program.attach(interface, XdpMode::Driver)?;
        }
    }
    Ok(())
}
