//! The guests of all environments: namespaces, or clones of one template per role.

use std::{fs::File, io::Read};

use anyhow::{Context, Result};

use super::{member::Member, progress::Progress};
use crate::{
    Lab,
    addresses::{ROLES, Role},
    parallel::in_parallel,
    qemu::{Accelerator, Assets, Image, Machine, Snapshot},
};

/// The environment whose taps the templates are booted on.
const TEMPLATE_ENVIRONMENT: u8 = 1;

pub(super) fn namespaces(lab: &Lab, environments: u8) -> Result<Vec<Member>> {
    seats(environments)
        .map(|(environment, role)| Member::namespace(lab, environment, role, token()?))
        .collect()
}

pub(super) fn clones(lab: &Lab, environments: u8, assets: &Assets, progress: &Progress) -> Result<Vec<Member>> {
    let image = Image::build(assets, lab.directory().path())?;
    let accelerator = Accelerator::detect(&image)?;
    progress.step(format!(
        "virtual machines run on {}, booting one template per role",
        accelerator.name()
    ));
    let templates = in_parallel(ROLES, |role| {
        let mut template = lab.boot(TEMPLATE_ENVIRONMENT, role, &image, accelerator)?;
        template.wait_until_ready()?;
        Ok((role, template))
    })?;
    progress.step(format!(
        "{} templates booted in environment {TEMPLATE_ENVIRONMENT}",
        templates.len()
    ));
    let snapshots = in_parallel(templates, |(role, template)| {
        Ok((role, template.save(&lab.directory().path().join(role.name))?))
    })?;
    progress.step("templates saved and ended");
    in_parallel(seats(environments), |(environment, role)| {
        let mut clone = Machine::restore(lab.host(), &role.tap(environment), snapshot(&snapshots, role)?)?;
        clone.wait_until_restored()?;
        Ok(Member::machine(environment, role, token()?, clone))
    })
}

fn seats(environments: u8) -> impl Iterator<Item = (u8, Role)> {
    (1..=environments).flat_map(|environment| ROLES.map(|role| (environment, role)))
}

fn snapshot(snapshots: &[(Role, Snapshot)], wanted: Role) -> Result<&Snapshot> {
    let found = snapshots.iter().find(|(role, _)| *role == wanted);
    found
        .map(|(_, snapshot)| snapshot)
        .with_context(|| format!("no snapshot of role {}", wanted.name))
}

/// A word that nobody can guess.
fn token() -> Result<String> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("/dev/urandom")?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}
