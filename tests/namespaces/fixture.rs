//! The frame around every test.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use envnet_lab::{Lab, Options, interrupt};

use crate::snapshot;

/// The ways to attach programs that this kernel has and envnet supports.
const HOOKS: [&str; 2] = ["tcx", "clsact"];

/// How long the kernel may take to remove a namespace.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs a test in a laboratory with two attached environments, then asks the questions of every test.
pub(crate) fn attached(test: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    attached_with(Options::default(), test)
}

/// Runs a test once for each way to attach the programs.
pub(crate) fn attached_each_way(test: impl Fn(&Lab) -> Result<()>) -> Result<()> {
    for hook in HOOKS {
        attached_with(
            Options {
                hook: Some(hook),
                ..Options::default()
            },
            &test,
        )
        .context(hook)?;
    }
    Ok(())
}

/// Like [`attached`], in a laboratory of another kind.
pub(crate) fn attached_with(options: Options, test: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    detached_with(options, |lab| {
        lab.attach()?;
        test(lab)
    })
}

/// Runs a test in a laboratory where nothing is attached yet.
pub(crate) fn detached(test: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    detached_with(Options::default(), test)
}

/// Like [`detached`], in a laboratory of another kind.
pub(crate) fn detached_with(options: Options, test: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let lab = Lab::new(options)?;
    let host = snapshot::of_host(&lab)?;
    let sysctls = snapshot::sysctls(lab.host())?;
    test(&lab)?;
    lab.check_no_leak()?;
    let changed = snapshot::sysctls(lab.host())?;
    let changed = snapshot::changed(&sysctls, &changed);
    ensure!(changed.is_empty(), "envnet changed the host's {changed:?}");
    lab.detach()?;
    // What was in a removed namespace, and its other end in the host, goes a little later.
    let gone = interrupt::wait_for("the host as it was", PATIENCE, || {
        let now = snapshot::of_host(&lab)?;
        Ok((now == host).then_some(()))
    });
    gone.with_context(|| snapshot::difference(&host, &snapshot::of_host(&lab).unwrap_or_default()))
}
