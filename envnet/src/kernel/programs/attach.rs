//! The ways by pinned links in which a program is attached to an interface so that it stays when the command ends; the
//! way by a clsact filter is a matter of netlink.
//!
//! All functions must be called by a thread in the interface's namespace.

use std::{fs, path::Path};

use aya::programs::{
    LinkOrder, SchedClassifier, TcAttachType, Xdp,
    links::{FdLink, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
    xdp::{XdpLink, XdpMode},
};

use crate::kernel::{Explain as _, Result, bpffs};

/// Priority of the clsact filters envnet sets where it is alone: first in line.
const FIRST: u16 = 1;

/// Priority of the filters where others may have some: a number that nobody else chooses, and by which they are known.
pub(super) const SHARED_PRIORITY: u16 = 25_966;

/// The priority of filters, always the same so that a replacement replaces.
pub(super) fn priority(exclusive: bool) -> u16 {
    if exclusive { FIRST } else { SHARED_PRIORITY }
}

pub(super) fn tcx(program: &mut SchedClassifier, interface: &str, direction: TcAttachType, pin: &Path) -> Result<()> {
    if pin.exists() {
        let link: SchedClassifierLink = FdLink::from(PinnedLink::from_pin(pin)?).try_into()?;
        // A link whose interface is gone cannot be updated (ENOLINK); a new one takes its place.
        if let Ok(id) = program.attach_to_link(link) {
            drop(program.take_link(id)?);
            let (_, attached) = SchedClassifier::query_tcx(interface, direction)?;
            let own = program.info()?.id();
            if attached.iter().any(|info| info.id() == own) {
                return Ok(());
            }
        }
        fs::remove_file(pin)?;
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(interface, direction, options)?;
    keep(program.take_link(id)?.try_into()?, pin)
}

pub(super) fn xdp(program: &mut Xdp, interface: &str, pin: &Path) -> Result<()> {
    if pin.exists() {
        let link: XdpLink = FdLink::from(PinnedLink::from_pin(pin)?).try_into()?;
        if let Ok(id) = program.attach_to_link(link) {
            drop(program.take_link(id)?);
            return Ok(());
        }
        fs::remove_file(pin)?;
    }
    let id = program.attach(interface, XdpMode::Driver).explain(|| {
        format!(
            "the driver of {interface} takes no XDP program, or another one is there; use uplink.accelerate = \"tc\""
        )
    })?;
    keep(program.take_link(id)?.try_into()?, pin)
}

fn keep(link: FdLink, pin: &Path) -> Result<()> {
    if let Some(folder) = pin.parent() {
        bpffs::create_directory(folder)?;
    }
    link.pin(pin)?;
    Ok(())
}
