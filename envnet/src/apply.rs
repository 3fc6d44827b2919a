//! Carries a plan out, and takes it back when a step fails.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    desired::{Link, LinkKind, Place, Port},
    kernel::{
        bpffs,
        netlink::{self, Netlink, NewLink},
        netns::{self, Netns},
        programs::{self, Hook, Programs, Site},
        sysctl,
        tables::Tables,
        tap,
    },
    names::{self, Instance},
    plan::{Action, Attribute, Change},
};

/// What changes are applied to.
pub struct Applier<'a> {
    host: &'a Netns,
    instance: &'a Instance,
    hook: Hook,
    netlink: Netlink,
    routers: HashMap<u32, (Netns, Netlink)>,
    programs: Option<Programs>,
    tables: Option<Tables>,
}

impl<'a> Applier<'a> {
    /// Prepares to change a host. Must be called inside a tokio runtime.
    pub fn new(host: &'a Netns, instance: &'a Instance, hook: Hook) -> Result<Self> {
        let netlink = Netlink::open(host)?;
        Ok(Self {
            host,
            instance,
            hook,
            netlink,
            routers: HashMap::new(),
            programs: None,
            tables: None,
        })
    }

    /// Applies changes in order. When one fails, those before it are taken back, last first, and the error says what
    /// could not be.
    pub async fn apply_all(&mut self, changes: &[Change]) -> Result<()> {
        for (done, change) in changes.iter().enumerate() {
            log::debug!("{change}");
            if let Err(error) = self.apply(change).await.with_context(|| describe(change)) {
                // A link or namespace may be there although making it failed half-way.
                let begun = matches!(
                    change.action,
                    Action::CreateLink(_) | Action::CreateNamespace { .. } | Action::LoadPrograms { first: true }
                );
                let left = self.take_back(&changes[..done + usize::from(begun)]).await;
                return match left.len() {
                    0 => Err(anyhow!("{error:#}; everything before it was taken back")),
                    _ => Err(anyhow!(
                        "{error:#}; not everything could be taken back:\n{}",
                        left.join("\n")
                    )),
                };
            }
        }
        Ok(())
    }

    /// Applies every change that can be, and reports every error.
    pub async fn apply_through(&mut self, changes: &[Change]) -> Result<()> {
        let mut errors = Vec::new();
        for change in changes {
            log::debug!("{change}");
            if let Err(error) = self.apply(change).await {
                errors.push(format!("{}: {error:#}", describe(change)));
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        bail!(
            "{} of {} steps failed:\n{}",
            errors.len(),
            changes.len(),
            errors.join("\n")
        )
    }

    async fn take_back(&mut self, done: &[Change]) -> Vec<String> {
        let mut left = Vec::new();
        for change in done.iter().rev() {
            let Some(inverse) = change.inverse() else {
                // A sysctl of something new, or a release: gone with it, or without effect on packets.
                let lost = matches!(
                    change.action,
                    Action::DeleteLink { .. } | Action::DeleteNamespace { .. }
                );
                if lost {
                    left.push(describe(change));
                }
                continue;
            };
            log::debug!("taking back: {inverse}");
            if let Err(error) = self.apply(&inverse).await {
                left.push(format!("{}: {error:#}", describe(&inverse)));
            }
        }
        left
    }

    async fn apply(&mut self, change: &Change) -> Result<()> {
        let environment = change.environment.unwrap_or_default();
        match &change.action {
            Action::LoadPrograms { .. } => self.programs = Some(Programs::load(self.instance)?),
            Action::ForgetOtherPrograms => Programs::forget_others(self.instance)?,
            Action::RemovePins => {
                (self.programs, self.tables) = (None, None);
                bpffs::remove(self.instance)?;
            }
            Action::CreateNamespace { name } => self.create_namespace(environment, name).await?,
            Action::DeleteNamespace { name } => {
                self.routers.remove(&environment);
                if self.is_own_namespace(environment, name).await? {
                    netns::unbind(name)?;
                }
            }
            Action::CreateLink(link) => self.create_link(environment, link).await?,
            Action::DeleteLink { place, name } => {
                let netlink = self.netlink(environment, *place)?.clone();
                // A link may have gone with its other end or its namespace; and what has the name by now, or had it when
                // making ours failed, may be somebody else's. In the router there is nobody else.
                let own =
                    |link: &netlink::Link| *place == Place::Router || link.owner(self.instance) == Some(environment);
                if let Some(link) = netlink.link(name).await?.filter(own) {
                    netlink.delete_link(link.index).await?;
                }
            }
            Action::SetLink { place, name, new, .. } => self.set_link(environment, *place, name, new).await?,
            Action::SetSysctl { sysctl, .. } => {
                let netns = self.netns(environment, sysctl.place)?;
                sysctl::write(&netns, &sysctl.key, &sysctl.value)?;
            }
            Action::InsertEnvironment { index, new, .. } => self.tables()?.insert_environment(*index, *new)?,
            Action::RemoveEnvironment { index } => self.tables()?.remove_environment(*index, environment)?,
            Action::InsertMapping { key, new, .. } => self.tables()?.insert_mapping(*key, *new)?,
            Action::RemoveMappings(keys) => self.tables()?.remove_mappings(keys)?,
            Action::SetUplink { new, .. } => self.tables()?.uplink.set(0, *new, 0)?,
            Action::InsertEndpoint { external, new, .. } => self.tables()?.endpoints.insert(external, new, 0)?,
            Action::RemoveEndpoints(external) => self.tables()?.remove_endpoints(external)?,
            Action::InsertPort { port, .. } => self.insert_port(port).await?,
            Action::RemovePort { link } => {
                if let Some(link) = self.netlink.link(link).await? {
                    self.tables()?.remove_port(link.index)?;
                }
            }
            Action::RemovePorts(indices) => {
                let tables = self.tables()?;
                indices.iter().try_for_each(|index| tables.remove_port(*index))?;
            }
            Action::AttachPrograms { site, link, .. } => self.attach_programs(environment, *site, link).await?,
            Action::DetachPrograms { site, link } => self.detach_programs(*site, link).await?,
            Action::AddAddress { link, address } => {
                let (netlink, link) = self.in_router(environment, link).await?;
                netlink.add_address(link.index, *address).await?;
            }
            Action::DeleteAddress { link, address } => {
                let (netlink, link) = self.in_router(environment, link).await?;
                netlink.delete_address(link.index, *address).await?;
            }
            Action::AddRoute(route) => {
                let (netlink, link) = self.in_router(environment, &route.interface).await?;
                netlink.add_route(&kernel_route(route, link.index)).await?;
            }
            Action::DeleteRoute(route) => {
                let (netlink, link) = self.in_router(environment, &route.interface).await?;
                netlink.delete_route(&kernel_route(route, link.index)).await?;
            }
        }
        Ok(())
    }

    async fn create_namespace(&mut self, environment: u32, name: &str) -> Result<()> {
        let netns = Netns::create()?;
        let netlink = Netlink::open(&netns)?;
        let loopback = netlink.link("lo").await?.context("a new namespace has no loopback")?;
        // The mark comes before the name, so that there is never a namespace of that name without it.
        let alias = self.instance.alias(environment);
        netlink.set_link(loopback.index, |link| link.alias(alias).up()).await?;
        netns.bind(name)?;
        self.routers.insert(environment, (netns, netlink));
        Ok(())
    }

    /// Whether a namespace carries the environment's mark.
    async fn is_own_namespace(&self, environment: u32, name: &str) -> Result<bool> {
        if !netns::names()?.iter().any(|existing| existing == name) {
            return Ok(false);
        }
        let loopback = Netlink::open(&Netns::open(name)?)?.link("lo").await?;
        Ok(loopback.is_some_and(|loopback| loopback.alias == self.instance.alias(environment)))
    }

    async fn create_link(&mut self, environment: u32, link: &Link) -> Result<()> {
        let host = self.netlink.clone();
        let mac = link.mac.unwrap_or_default();
        match &link.kind {
            LinkKind::Bridge => host.create_link(&link.name, mac, link.mtu, &NewLink::Bridge).await?,
            LinkKind::Veth {
                peer,
                peer_mac,
                peer_index,
            } => {
                // Made from the router's side, because only that end can ask for an index.
                let router = self.router(environment)?.1.clone();
                let new = NewLink::Veth {
                    peer: &link.name,
                    peer_mac: mac,
                    netns: self.host,
                    index: *peer_index,
                };
                router.create_link(peer, *peer_mac, link.mtu, &new).await?;
                self.mark(&router, environment, peer).await?;
            }
            LinkKind::VethPeer => bail!("{} is the other end of nothing", link.name),
            LinkKind::Macvlan { parent, index } => {
                let netns = self.router(environment)?.0.clone();
                let parent = host
                    .link(parent)
                    .await?
                    .with_context(|| format!("{parent} is gone"))?
                    .index;
                let new = NewLink::Macvlan {
                    parent,
                    netns: &netns,
                    index: *index,
                };
                host.create_link(&link.name, mac, link.mtu, &new).await?;
            }
            LinkKind::Tap { user, group } => {
                let tap = tap::create(self.host, &link.name)?;
                tap.set_owner(*user, *group)?;
                self.mark(&host, environment, &link.name).await?;
                tap.persist()?;
                let made = host.link(&link.name).await?.context("the tap just made is gone")?;
                host.set_link(made.index, |message| message.mtu(link.mtu)).await?;
            }
        }
        let netlink = self.netlink(environment, link.place)?.clone();
        if !matches!(link.kind, LinkKind::Tap { .. }) {
            self.mark(&netlink, environment, &link.name).await?;
        }
        if link.master.is_some() {
            let master = Attribute::Master(link.master.clone());
            self.set_link(environment, link.place, &link.name, &master).await?;
        }
        if link.group_forwarding != 0 {
            let groups = Attribute::GroupForwarding(link.group_forwarding);
            self.set_link(environment, link.place, &link.name, &groups).await?;
        }
        Ok(())
    }

    async fn insert_port(&mut self, port: &Port) -> Result<()> {
        let mut links = HashMap::new();
        for name in [
            port.link.clone(),
            names::router_port(port.environment.number),
            port.exit.clone(),
        ] {
            let link = self.netlink.link(&name).await?;
            links.insert(name.clone(), link.with_context(|| format!("{name} is gone"))?);
        }
        let (index, entry) = port
            .entry(|name| links.get(name).map(|link| link.index))
            .context("the port's links are gone")?;
        // Not every kind takes frames from XDP: a veth loses them without a word unless its other end has XDP or GRO, too.
        let is_tap = matches!(links[&port.link].kind, netlink::Kind::Tap { .. });
        let host = self.host;
        self.tables()?.insert_port(host, index, entry, is_tap)
    }

    async fn attach_programs(&mut self, environment: u32, site: Site, name: &str) -> Result<()> {
        let hook = self.hook;
        let netns = self.netns(environment, site.place())?;
        let netlink = self.netlink(environment, site.place())?.clone();
        let link = netlink.link(name).await?.with_context(|| format!("{name} is gone"))?;
        if site == Site::UplinkDriver && link.xdp.is_some() && !self.programs()?.is_pinned(site, name) {
            bail!("{name} has an XDP program that is not envnet's; use uplink.accelerate = \"tc\", or remove it");
        }
        self.programs()?.attach(&netns, site, name, hook)?;
        // What was attached the other way is only let go once the new way is at work.
        match hook {
            Hook::Clsact if site == Site::UplinkDriver => Ok(()),
            Hook::Clsact => programs::unpin_links(self.instance, site, name),
            Hook::Tcx => self.remove_filters(&netns, &netlink, site, &link).await,
        }
    }

    /// Takes away what clsact filters a site's programs have on a link, and the qdisc when nothing is left in it.
    async fn remove_filters(&self, netns: &Netns, netlink: &Netlink, site: Site, link: &netlink::Link) -> Result<()> {
        let filters = netlink.filters(link.index).await?;
        if filters.is_empty() {
            return Ok(());
        }
        if !site.is_exclusive() {
            if !filters.iter().any(programs::is_own_filter) {
                return Ok(());
            }
            programs::remove_filters(netns, site, &link.name)?;
            if !netlink.filters(link.index).await?.is_empty() {
                return Ok(());
            }
        }
        netlink.delete_clsact(link.index).await
    }

    async fn detach_programs(&mut self, site: Site, name: &str) -> Result<()> {
        programs::unpin_links(self.instance, site, name)?;
        // In a router, and on a bridge of envnet's, filters go with the link.
        if site.is_exclusive() {
            return Ok(());
        }
        let host = self.host;
        match self.netlink.link(name).await? {
            Some(link) => self.remove_filters(host, &self.netlink, site, &link).await,
            None => Ok(()),
        }
    }

    /// Gives a new link the environment's ifalias, which the kernel does not take at creation.
    async fn mark(&self, netlink: &Netlink, environment: u32, name: &str) -> Result<()> {
        let link = netlink.link(name).await?.with_context(|| format!("{name} is gone"))?;
        let alias = self.instance.alias(environment);
        netlink
            .set_link(link.index, |message| message.alias(alias))
            .await
            .context("cannot set the ifalias")
    }

    async fn set_link(&mut self, environment: u32, place: Place, name: &str, new: &Attribute) -> Result<()> {
        let netlink = self.netlink(environment, place)?.clone();
        let link = netlink.link(name).await?.with_context(|| format!("{name} is gone"))?;
        let master = match new {
            Attribute::Master(Some(master)) => Some(
                netlink
                    .link(master)
                    .await?
                    .with_context(|| format!("{master} is gone"))?
                    .index,
            ),
            _ => None,
        };
        if let Attribute::Owner(user, group) = new {
            return tap::open(self.host, name)
                .context("is a virtual machine using it?")?
                .set_owner(*user, *group);
        }
        if let Attribute::GroupForwarding(mask) = new {
            return netlink.set_group_forwarding(link.index, *mask).await;
        }
        netlink
            .set_link(link.index, |message| match new {
                Attribute::Mtu(mtu) => message.mtu(*mtu),
                Attribute::Mac(mac) => message.address(mac.0.to_vec()),
                Attribute::Master(_) => message.controller(master.unwrap_or_default()),
                Attribute::Up(true) => message.up(),
                Attribute::Up(false) => message.down(),
                Attribute::Alias(alias) => message.alias(alias.clone()),
                Attribute::Owner(..) | Attribute::GroupForwarding(_) => message,
            })
            .await
    }

    fn netns(&mut self, environment: u32, place: Place) -> Result<Netns> {
        match place {
            Place::Host => Ok(self.host.clone()),
            Place::Router => Ok(self.router(environment)?.0.clone()),
        }
    }

    fn netlink(&mut self, environment: u32, place: Place) -> Result<&Netlink> {
        match place {
            Place::Host => Ok(&self.netlink),
            Place::Router => Ok(&self.router(environment)?.1),
        }
    }

    async fn in_router(&mut self, environment: u32, link: &str) -> Result<(Netlink, netlink::Link)> {
        let netlink = self.router(environment)?.1.clone();
        let link = netlink.link(link).await?.with_context(|| format!("{link} is gone"))?;
        Ok((netlink, link))
    }

    fn router(&mut self, environment: u32) -> Result<&(Netns, Netlink)> {
        use std::collections::hash_map::Entry;
        match self.routers.entry(environment) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let netns = Netns::open(&self.instance.router_namespace(environment))?;
                let netlink = Netlink::open(&netns)?;
                Ok(entry.insert((netns, netlink)))
            }
        }
    }

    fn programs(&mut self) -> Result<&mut Programs> {
        if self.programs.is_none() {
            self.programs = Programs::open(self.instance)?;
        }
        self.programs.as_mut().context("the programs are not loaded")
    }

    fn tables(&mut self) -> Result<&mut Tables> {
        if self.tables.is_none() {
            self.tables = Tables::open(self.instance)?;
        }
        self.tables.as_mut().context("the maps are not pinned")
    }
}

fn kernel_route(route: &crate::desired::Route, interface: u32) -> netlink::Route {
    netlink::Route {
        destination: route.destination,
        gateway: route.gateway,
        interface,
        source: Some(route.source),
        metric: route.metric,
    }
}

fn describe(change: &Change) -> String {
    match change.environment {
        Some(environment) => format!("environment {environment}: {change}"),
        None => change.to_string(),
    }
}
