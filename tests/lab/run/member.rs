//! One guest of one environment, whatever it is made of.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;

use crate::{Lab, addresses::Role, guest::Guest, http, qemu::Machine};

/// How long a guest may take to fetch its sibling's page.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Member {
    pub(super) environment: u8,
    pub(super) role: Role,
    /// What only this guest and the laboratory know.
    pub(super) token: String,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Machine(Box<Machine>),
    // The server before the guest whose namespace it is in.
    Namespace {
        _server: http::Server,
        page: Arc<Mutex<Page>>,
        guest: Guest,
    },
}

#[derive(Debug, Default)]
struct Page {
    token: String,
    sibling: String,
}

impl Member {
    pub(super) fn machine(environment: u8, role: Role, token: String, machine: Machine) -> Self {
        Self {
            environment,
            role,
            token,
            body: Body::Machine(Box::new(machine)),
        }
    }

    pub(super) fn namespace(lab: &Lab, environment: u8, role: Role, token: String) -> Result<Self> {
        let guest = lab.guest(environment, role)?;
        let page = Arc::new(Mutex::new(Page::default()));
        let (source, address) = (Arc::clone(&page), guest.address());
        let server = http::Server::start(guest.namespace(), move || {
            let Page { token, sibling } = &*source.lock().unwrap_or_else(PoisonError::into_inner);
            text(token, &role, address, sibling)
        })?;
        Ok(Self {
            environment,
            role,
            token,
            body: Body::Namespace {
                _server: server,
                page,
                guest,
            },
        })
    }

    pub(super) fn external(&self) -> Ipv4Addr {
        self.role.external(self.environment)
    }

    /// What the guest's page must say once it knows its token and has visited its sibling.
    pub(super) fn expected_page(&self, sibling_token: &str) -> String {
        text(&self.token, &self.role, self.role.internal(), sibling_token)
    }

    pub(super) fn resume(&mut self) -> Result<()> {
        match &mut self.body {
            Body::Machine(machine) => machine.resume(),
            Body::Namespace { .. } => Ok(()),
        }
    }

    pub(super) fn tell_token(&mut self) -> Result<()> {
        match &mut self.body {
            Body::Machine(machine) => machine.set_token(&self.token)?,
            Body::Namespace { page, .. } => {
                page.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .token
                    .clone_from(&self.token);
            }
        }
        Ok(())
    }

    pub(super) fn visit_sibling(&mut self) -> Result<()> {
        let sibling = self.role.sibling().internal();
        match &mut self.body {
            Body::Machine(machine) => machine.visit_sibling(sibling)?,
            Body::Namespace { page, guest, .. } => {
                let text = http::get(guest.namespace(), sibling, PATIENCE)?;
                let token = text
                    .lines()
                    .next()
                    .and_then(|line| line.strip_prefix("token "))
                    .unwrap_or_default();
                token.clone_into(&mut page.lock().unwrap_or_else(PoisonError::into_inner).sibling);
            }
        }
        Ok(())
    }
}

/// The page, which a virtual machine's script writes just so.
fn text(token: &str, role: &Role, address: Ipv4Addr, sibling: &str) -> String {
    format!(
        "token {token}\nrole {}\naddress {address}\nsibling {sibling}\n",
        role.name
    )
}
