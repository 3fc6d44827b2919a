//! Applies one change after another, of one environment after another.

use crate::{
    desired::Route,
    kernel::{
        Explain as _, Result, bpffs,
        netlink::{self, Netlink},
        netns::{self, Netns, NetnsKind},
        pinned_maps::PinnedMaps,
        programs::{self, Hook, Programs},
        sysctl::Sysctls,
    },
    names::Instance,
    plan::{Action, Change},
    topology::AttachPoint,
};

/// The loopback's index in every namespace.
const LOOPBACK: u32 = 1;

/// What one thread applies changes with; opened when it is needed.
pub(super) struct Worker<'a> {
    pub(super) host: &'a Netns,
    pub(super) instance: &'a Instance,
    pub(super) hook: Option<Hook>,
    netlink: Option<Netlink>,
    sysctls: Option<Sysctls>,
    /// The router namespace of the environment at work.
    router: Option<Router>,
    programs: Option<Programs>,
    maps: Option<PinnedMaps>,
}

struct Router {
    environment: u32,
    netns: Netns,
    netlink: Netlink,
    sysctls: Option<Sysctls>,
}

impl<'a> Worker<'a> {
    pub(super) const fn new(host: &'a Netns, instance: &'a Instance, hook: Option<Hook>) -> Self {
        Self {
            host,
            instance,
            hook,
            netlink: None,
            sysctls: None,
            router: None,
            programs: None,
            maps: None,
        }
    }

    /// Applies a change. Must be called inside a tokio runtime, and always the same.
    pub(super) async fn apply(&mut self, change: &Change) -> Result<()> {
        let environment = change.environment.unwrap_or_default();
        match &change.action {
            Action::LoadPrograms { .. } => self.programs = Some(Programs::load(self.instance)?),
            Action::ForgetOtherPrograms => Programs::forget_others(self.instance)?,
            Action::RemoveStalePins(stale) => programs::remove_stale_pins(self.instance, stale)?,
            Action::RemovePins => {
                (self.programs, self.maps) = (None, None);
                bpffs::remove(self.instance)?;
            }
            Action::CreateNamespace { name } => self.create_namespace(environment, name).await?,
            Action::DeleteNamespace { name } => self.delete_namespace(environment, name).await?,
            Action::CreateLink(link) => self.create_link(environment, link).await?,
            Action::DeleteLink { place, name } => self.delete_link(environment, *place, name).await?,
            Action::DeleteLinks(links) => self.delete_links(links).await?,
            Action::SetLink { place, name, new, .. } => self.set_link(environment, *place, name, new).await?,
            Action::SetSysctl { sysctl, .. } => {
                self.sysctls(environment, sysctl.place)?
                    .write(&sysctl.key, &sysctl.value)?;
            }
            Action::Put { new, old } => self.put(new, old.as_ref()).await?,
            Action::Delete(keys) => self.delete(keys)?,
            Action::AttachPrograms { point, link, undo } => {
                self.attach_programs(environment, *point, link, *undo).await?;
            }
            Action::DetachPrograms { point, link } => self.detach_programs(*point, link).await?,
            Action::AddAddress { link, address } => {
                let (netlink, index) = self.in_router(environment, link)?;
                netlink.add_address(index, *address).await?;
            }
            Action::DeleteAddress { link, address } => {
                let (netlink, index) = self.in_router(environment, link)?;
                netlink.delete_address(index, *address).await?;
            }
            Action::AddRoute(route) => {
                let (netlink, index) = self.in_router(environment, &route.interface)?;
                netlink.add_route(&kernel_route(route, index)).await?;
            }
            Action::DeleteRoute(route) => {
                let (netlink, index) = self.in_router(environment, &route.interface)?;
                netlink.delete_route(&kernel_route(route, index)).await?;
            }
        }
        Ok(())
    }

    async fn create_namespace(&mut self, environment: u32, name: &str) -> Result<()> {
        let netns = Netns::create()?;
        let netlink = Netlink::open(&netns)?;
        // The mark comes before the name, so that there is never a namespace of that name without it.
        let alias = self.instance.alias(environment);
        netlink.set_link(LOOPBACK, |link| link.alias(alias).up()).await?;
        netns.bind(name)?;
        self.router = Some(Router {
            environment,
            netns,
            netlink,
            sysctls: None,
        });
        Ok(())
    }

    async fn delete_namespace(&mut self, environment: u32, name: &str) -> Result<()> {
        if netns::exists(name) {
            let own = {
                let loopback = self.router(environment)?.netlink.link("lo").await?;
                loopback.is_some_and(|loopback| loopback.alias == self.instance.alias(environment))
            };
            if own {
                netns::unbind(name)?;
            }
        } else if netns::is_left_over(name) {
            netns::unbind(name)?;
        }
        self.router = None;
        Ok(())
    }

    /// Where nothing was before (`first`), nothing has to go.
    async fn attach_programs(&mut self, environment: u32, point: AttachPoint, name: &str, first: bool) -> Result<()> {
        let hook = Hook::of(point, self.hook);
        let netns = self.netns(environment, point.netns())?;
        let netlink = self.netlink(environment, point.netns())?.clone();
        let index = netns.index(name)?.explain(|| format!("{name} is gone"))?;
        if !point.is_own() {
            let link = netlink.link(name).await?.explain(|| format!("{name} is gone"))?;
            if let Some(obstacle) = programs::find_obstacle(&netlink, self.instance, point, &link, hook).await? {
                return Err(obstacle.into());
            }
        }
        if hook == Hook::Clsact {
            programs::remove_ingress_qdisc(&netlink, point, index).await?;
        }
        self.programs()?
            .attach(&netns, &netlink, point, (name, index), hook)
            .await?;
        if !first {
            programs::remove_duplicates(&netns, &netlink, self.instance, point, (name, index)).await?;
        }
        // What was attached the other way is only let go once the new way is at work.
        match hook {
            Hook::Clsact if point == AttachPoint::UplinkDriver => Ok(()),
            Hook::Clsact => programs::unpin_links(self.instance, point, name),
            Hook::Tcx => programs::remove_filters(&netlink, self.instance, point, index).await,
        }
    }

    async fn detach_programs(&mut self, point: AttachPoint, name: &str) -> Result<()> {
        // In a router, and on a bridge of envnet's, filters go with the link.
        let index = if point.is_exclusive() {
            None
        } else {
            self.host.index(name)?
        };
        let (host, instance) = (self.host, self.instance);
        if let Some(index) = index {
            programs::adopt_pins(instance, point, (name, index))?;
            programs::remove_duplicates(host, self.host_netlink()?, instance, point, (name, index)).await?;
        }
        programs::unpin_links(instance, point, name)?;
        match index {
            Some(index) => programs::remove_filters(self.host_netlink()?, instance, point, index).await,
            None => Ok(()),
        }
    }

    pub(super) fn netns(&mut self, environment: u32, netns: NetnsKind) -> Result<Netns> {
        match netns {
            NetnsKind::Host => Ok(self.host.clone()),
            NetnsKind::Router => Ok(self.router(environment)?.netns.clone()),
        }
    }

    pub(super) fn netlink(&mut self, environment: u32, netns: NetnsKind) -> Result<&Netlink> {
        match netns {
            NetnsKind::Host => self.host_netlink(),
            NetnsKind::Router => Ok(&self.router(environment)?.netlink),
        }
    }

    pub(super) fn host_netlink(&mut self) -> Result<&Netlink> {
        let known = self.netlink.take().filter(Netlink::is_intact);
        Ok(self.netlink.insert(match known {
            Some(netlink) => netlink,
            None => Netlink::open(self.host)?,
        }))
    }

    fn sysctls(&mut self, environment: u32, place: NetnsKind) -> Result<&Sysctls> {
        let (netns, sysctls) = match place {
            NetnsKind::Host => (self.host, &mut self.sysctls),
            NetnsKind::Router => {
                let router = self.router(environment)?;
                (&router.netns, &mut router.sysctls)
            }
        };
        match sysctls {
            Some(sysctls) => Ok(sysctls),
            none => Ok(none.insert(Sysctls::open(netns)?)),
        }
    }

    fn in_router(&mut self, environment: u32, link: &str) -> Result<(Netlink, u32)> {
        let router = self.router(environment)?;
        let index = router.netns.index(link)?.explain(|| format!("{link} is gone"))?;
        Ok((router.netlink.clone(), index))
    }

    fn router(&mut self, environment: u32) -> Result<&mut Router> {
        let known = self.router.take();
        let known = known.filter(|router| router.environment == environment && router.netlink.is_intact());
        let router = if let Some(router) = known {
            router
        } else {
            let netns = Netns::open(&self.instance.router_namespace(environment))?;
            let netlink = Netlink::open(&netns)?;
            Router {
                environment,
                netns,
                netlink,
                sysctls: None,
            }
        };
        Ok(self.router.insert(router))
    }

    fn programs(&mut self) -> Result<&mut Programs> {
        if self.programs.is_none() {
            self.programs = Programs::open(self.instance)?;
        }
        self.programs.as_mut().explain(|| "the programs are not loaded")
    }

    pub(super) fn maps(&mut self) -> Result<&mut PinnedMaps> {
        if self.maps.is_none() {
            self.maps = PinnedMaps::open(self.instance)?;
        }
        self.maps.as_mut().explain(|| "the maps are not pinned")
    }
}

fn kernel_route(route: &Route, interface: u32) -> netlink::Route {
    netlink::Route {
        destination: route.destination,
        gateway: route.gateway,
        interface,
        source: Some(route.source),
        metric: route.metric,
    }
}
