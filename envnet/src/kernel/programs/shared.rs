//! Telling envnet's filters and queueing disciplines from those of others, and what of others is in the way.

use std::{fs, path::Path, path::PathBuf};

use aya::programs::TcAttachType;

use super::{Hook, attach, bpffs, pinned_program};
use crate::{
    kernel::{
        Explain as _, Result, former,
        netlink::{Filter, Link, Netlink},
    },
    names::Instance,
    topology::{AttachPoint, PROGRAMS},
};

/// What the name of a directory beside the pins begins with that says that envnet made a link's qdisc; its index follows.
const QDISC_MARK: &str = "clsact-";

/// Something of somebody else's on a link that envnet's programs cannot be beside.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// A filter where envnet's would be.
    #[error(
        "{0} has a tc filter of priority {priority} that is not envnet's; give it another priority, or use \
         uplink.accelerate = \"off\"",
        priority = attach::SHARED_PRIORITY
    )]
    Filter(String),
    /// A queueing discipline for filters on the way in only.
    #[error(
        "{0} has an ingress qdisc, which takes no filters on the way out; replace it by clsact (`tc qdisc del dev {0} \
         ingress`, `tc qdisc add dev {0} clsact`), or use uplink.accelerate = \"off\""
    )]
    IngressQdisc(String),
    /// A program in the driver, which takes only one.
    #[error("{0} has an XDP program that is not envnet's; use uplink.accelerate = \"tc\", or remove it")]
    Driver(String),
}

/// Looks for what is in the way of an attach point's programs on a link that is not envnet's own.
pub async fn find_obstacle(
    netlink: &Netlink,
    instance: &Instance,
    site: AttachPoint,
    link: &Link,
    hook: Hook,
) -> Result<Option<Obstacle>> {
    let name = link.name.clone();
    if site == AttachPoint::UplinkDriver {
        let directory = bpffs::directory(instance).join("links");
        // Under whatever name the link had when it was pinned.
        let pins = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
        let mut pins = pins.filter(|pin| {
            let mut roles = site.programs();
            roles.any(|role| pin.file_name().to_string_lossy().ends_with(&role.pin("")))
        });
        let mut is_own = |program| pins.any(|pin| pinned_program(&pin.path()) == Some(program));
        let foreign = link.xdp.is_some_and(|program| !is_own(program));
        return Ok(foreign.then_some(Obstacle::Driver(name)));
    }
    if site.is_own() || hook == Hook::Tcx {
        return Ok(None);
    }
    for direction in site.directions() {
        let filters = netlink.filters(link.index, direction).await?;
        let is_in_the_way = |filter: &Filter| filter.priority == priority(site) && !is_own(instance, site, filter);
        if filters.iter().any(is_in_the_way) {
            return Ok(Some(Obstacle::Filter(name)));
        }
    }
    if has_ingress_qdisc(netlink, site, link.index).await? {
        return Ok(Some(Obstacle::IngressQdisc(name)));
    }
    Ok(None)
}

/// The directions in which an attach point's filters are looked for. What an ingress qdisc runs on the way in it lists for both: a
/// filter for the way out is then found twice.
pub(super) fn directions(site: AttachPoint) -> Vec<TcAttachType> {
    let mut directions: Vec<_> = site.directions().collect();
    if site.is_own() && directions == [TcAttachType::Egress] {
        directions.push(TcAttachType::Ingress);
    }
    directions
}

/// Whether a link has an ingress qdisc where a site has programs on the way out, too.
pub(super) async fn has_ingress_qdisc(netlink: &Netlink, site: AttachPoint, index: u32) -> Result<bool> {
    let outwards = site.directions().any(|direction| direction == TcAttachType::Egress);
    Ok(outwards && netlink.filter_qdisc(index).await?.as_deref() == Some("ingress"))
}

/// Takes the ingress qdisc away that somebody has put in the place of the clsact qdisc of a link of envnet's own.
pub async fn remove_ingress_qdisc(netlink: &Netlink, site: AttachPoint, index: u32) -> Result<()> {
    if site.is_own() && has_ingress_qdisc(netlink, site, index).await? {
        netlink.delete_clsact(index).await?;
    }
    Ok(())
}

/// Gives a link the clsact qdisc that filters are in. What was there before is somebody else's and stays when envnet goes.
pub(super) async fn prepare_qdisc(netlink: &Netlink, directory: &Path, site: AttachPoint, index: u32) -> Result<()> {
    if !site.is_own() && netlink.filter_qdisc(index).await?.is_none() {
        let mark = qdisc_mark(directory, index);
        bpffs::create_directory(&mark)?;
    }
    netlink.add_clsact(index).await
}

/// Removes the clsact filters of an attach point's programs from one link, which others may have filters on, too, and the qdisc if
/// it was envnet that made it and nothing is left in it.
pub async fn remove_filters(netlink: &Netlink, instance: &Instance, site: AttachPoint, index: u32) -> Result<()> {
    let mark = qdisc_mark(&bpffs::directory(instance), index);
    let made = mark.exists();
    let (mut others, mut own) = (false, Vec::new());
    for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
        for filter in netlink.filters(index, direction).await? {
            if is_own(instance, site, &filter) {
                own.push((direction, filter));
            } else {
                others = true;
            }
        }
    }
    // On a link of envnet's own the qdisc stays as long as the link: a qdisc less costs the packets that the link is about to
    // send.
    if !others && made {
        // Somebody may have been faster.
        if netlink.filter_qdisc(index).await?.as_deref() == Some("clsact") {
            netlink.delete_clsact(index).await?;
        }
    } else {
        for (direction, filter) in own {
            netlink.delete_filter(index, direction, &filter).await?;
        }
    }
    if made {
        fs::remove_dir(&mark).explain(|| format!("cannot remove {}", mark.display()))?;
    }
    Ok(())
}

/// Whether a filter where an attach point's would be is the instance's.
pub(super) fn is_own(instance: &Instance, site: AttachPoint, filter: &Filter) -> bool {
    filter.priority == priority(site) && is_own_name(instance, &filter.name)
}

/// Whether this is or was the name of a filter of the instance.
fn is_own_name(instance: &Instance, name: &str) -> bool {
    let mut programs = PROGRAMS.iter().map(|program| program.name).chain(former::PROGRAMS);
    programs.any(|program| instance.filter_name(program) == name)
}

pub(super) fn priority(site: AttachPoint) -> u16 {
    attach::priority(site.is_exclusive())
}

/// The interface's index, if a name is that of such a directory.
pub(super) fn qdisc_of(name: &str) -> Option<u32> {
    name.strip_prefix(QDISC_MARK)?.parse().ok()
}

/// A qdisc carries no mark of its own, so that a directory beside the pins says that envnet made that of the link with this
/// index.
pub(super) fn qdisc_mark(directory: &Path, index: u32) -> PathBuf {
    directory.join("links").join(format!("{QDISC_MARK}{index}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_known_by_the_present_and_the_former_name_of_its_program() {
        let instance = Instance::Host;
        for program in ["wan_port_egress", "gateway_port_egress"] {
            assert!(is_own_name(&instance, &instance.filter_name(program)), "{program}");
            assert!(!is_own_name(&instance, program), "{program}, without envnet's mark");
        }
        assert!(!is_own_name(&instance, &instance.filter_name("other")));
    }
}
