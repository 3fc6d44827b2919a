//! The laboratory with the guests and the traffic of the walk.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use envnet_lab::{
    Configuration, Lab, envnet::Envnet, fixture, guest::Guest, namespace, namespace::Namespace, snapshot,
};
use serde_json::Value;

use crate::{
    bpf::Loaded,
    model::{Desired, FOREIGN, Model, Seat},
    traffic::Traffic,
};

/// What must be found again after `detach`.
#[derive(Debug)]
pub(crate) struct Baseline {
    pub(crate) host: String,
    pub(crate) sysctls: BTreeMap<String, String>,
}

/// Everything there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) traffic: Traffic,
    pub(crate) guests: BTreeMap<Seat, Guest>,
    pub(crate) model: Model,
    pub(crate) baseline: Baseline,
    /// Whether a port of somebody else's has come or gone since the last time something was attached.
    pub(crate) other_ports: bool,
    pub(crate) loaded: Loaded,
    /// The program that is tested, and another build of it.
    pub(crate) builds: [Envnet; 2],
    /// Whether the outside finishes its checksums.
    pub(crate) finishes: bool,
    // After the guests, which are plugged into it.
    pub(crate) lab: Lab,
}

impl World {
    pub(crate) fn build() -> Result<Self> {
        let lab = Lab::new(Configuration::default())?;
        let other = lab.envnet().another_build(&lab.directory().path().join("envnet-2"))?;
        let builds = [lab.envnet().clone(), other];
        let model = Model::new();
        lab.configure(model.file.configuration())?;
        let baseline = baseline(&lab)?;
        Ok(Self {
            traffic: Traffic::start()?,
            guests: BTreeMap::new(),
            loaded: Loaded::of(&pins(&lab)),
            model,
            baseline,
            other_ports: false,
            builds,
            finishes: false,
            lab,
        })
    }

    /// The status, as the build sees it that has attached this.
    pub(crate) fn status_of(&self, desired: &Desired) -> Result<Value> {
        let text = self.builds[desired.build].succeed("--json status")?;
        serde_json::from_str(&text).with_context(|| format!("the status is no JSON: {text}"))
    }

    /// Where the laboratory's instance has its pins.
    pub(crate) fn pins(&self) -> PathBuf {
        pins(&self.lab)
    }

    /// The network namespaces of this laboratory.
    pub(crate) fn namespaces(&self) -> Result<usize> {
        let own = self.lab.host().name();
        Ok(namespace::names()?.iter().filter(|name| name.starts_with(own)).count())
    }

    /// The routers' namespaces there are.
    pub(crate) fn routers(&self) -> Result<Vec<Namespace>> {
        let prefix = format!("{}-ns", self.lab.host().name());
        let names = namespace::names()?;
        names
            .iter()
            .filter(|name| name.starts_with(&prefix))
            .map(|name| Namespace::open(name))
            .collect()
    }
}

pub(crate) fn pins(lab: &Lab) -> PathBuf {
    Path::new("/sys/fs/bpf/envnet").join(format!("netns-{}", lab.host().name()))
}

/// Every file below a folder, sorted.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// What the host looks like, without the taps of others, which come and go.
pub(crate) fn host(lab: &Lab) -> Result<String> {
    let text = snapshot::of_host(lab)?;
    let lines = text.lines().filter(|line| !line.contains(FOREIGN));
    Ok(lines.flat_map(|line| [line, "\n"]).collect())
}

/// What the host looks like now that the uplink is up.
pub(crate) fn baseline(lab: &Lab) -> Result<Baseline> {
    fixture::wait_for_uplink(lab)?;
    Ok(Baseline {
        host: host(lab)?,
        sysctls: snapshot::sysctls(lab.host())?,
    })
}
