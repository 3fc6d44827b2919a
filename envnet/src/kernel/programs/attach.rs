//! The ways a program is attached to an interface so that it stays when the command ends.
//!
//! All functions must be called by a thread in the interface's namespace.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use aya::programs::{
    LinkOrder, SchedClassifier, TcAttachType, Xdp,
    links::{FdLink, PinnedLink},
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
    xdp::{XdpLink, XdpMode},
};

/// The clsact filters envnet sets where it is alone: first in line, and always the same so that a replacement replaces.
const FILTER: NlOptions = NlOptions {
    priority: 1,
    handle: TcHandle::new(0, 1),
    classid: None,
};

/// Priority of the filters where others may have some: a number that nobody else chooses, and by which they are known.
pub(super) const SHARED_PRIORITY: u16 = 25_966;

fn filter(exclusive: bool) -> NlOptions {
    NlOptions {
        priority: if exclusive { FILTER.priority } else { SHARED_PRIORITY },
        ..FILTER
    }
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
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(pin)?;
    Ok(())
}

pub(super) fn clsact(
    program: &mut SchedClassifier,
    interface: &str,
    direction: TcAttachType,
    exclusive: bool,
) -> Result<()> {
    match tc::qdisc_add_clsact(interface) {
        Err(tc::TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        other => other?,
    }
    let filter = filter(exclusive);
    // Setting a filter with the same priority and handle replaces the one that is there in one step.
    let existing = SchedClassifierLink::attached(interface, direction, filter.priority, filter.handle, None)?;
    let id = match program.attach_to_link(existing) {
        Ok(id) => id,
        Err(_) => program.attach_with_options(interface, direction, TcAttachOptions::Netlink(filter))?,
    };
    // Dropping the link would take the filter away; it is meant to stay until the interface goes.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Takes away the filter that [`clsact`] set on an interface shared with others; no error when it is not there.
pub(super) fn remove_filter(interface: &str, direction: TcAttachType) {
    let filter = filter(false);
    // Dropping a link detaches it.
    drop(SchedClassifierLink::attached(
        interface,
        direction,
        filter.priority,
        filter.handle,
        None,
    ));
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
    let id = program.attach(interface, XdpMode::Driver).with_context(|| {
        format!(
            "the driver of {interface} takes no XDP program, or another one is there; use uplink.accelerate = \"tc\""
        )
    })?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(pin)?;
    Ok(())
}
