//! Several instances: what one does, the other does not feel.

use std::fs;

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Configuration, Lab,
    addresses::{ROLES, UPSTREAM},
    envnet::Envnet,
    fixture::{attached, attached_with},
    namespace::{self, DIRECTORY},
};
use nix::mount::{MsFlags, mount};

#[test]
fn two_instances_with_the_same_environments_do_not_feel_each_other() -> Result<()> {
    let one = Lab::new(Configuration::default())?;
    one.attach()?;
    let [dc, _] = ROLES;
    let guest = one.guest(1, dc)?;
    ensure!(one.ping(dc.external(1))?.is_some(), "the guest is not up");
    let works = |when: &str| -> Result<()> {
        ensure!(one.ping(dc.external(1))?.is_some(), "no answer to the outside {when}");
        ensure!(guest.ping(UPSTREAM)?.is_some(), "no answer to the guest {when}");
        ensure!(one.envnet().changes("attach")? == 0, "something was changed {when}");
        Ok(())
    };
    attached(|other| {
        works("beside the other")?;
        let newcomer = other.guest(1, dc)?;
        ensure!(other.ping(dc.external(1))?.is_some(), "no answer in the other");
        other.detach()?;
        works("after the other is gone")?;
        drop(newcomer);
        other.attach()?;
        works("after the other is back")
    })?;
    works("at the end")?;
    one.check_no_leak().map(drop)
}

/// A second name for the namespace that plays the host; it goes when this is dropped.
struct Twin(String);

impl Twin {
    fn of(lab: &Lab) -> Result<Self> {
        let name = format!("{}-twin", lab.host().name());
        let path = |name: &str| format!("{DIRECTORY}/{name}");
        fs::File::create_new(path(&name))?;
        let (original, twin) = (path(lab.host().name()), path(&name));
        let bound = mount(
            Some(original.as_str()),
            twin.as_str(),
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        );
        let twin = Self(name);
        bound.context("a second name")?;
        Ok(twin)
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        namespace::remove(&self.0);
    }
}

/// As when one host is managed once by its name and once without.
fn one_host_under_two_names(hook: &'static str) -> Result<()> {
    attached_with(Configuration::default().hook(hook), |lab| {
        let [dc, _] = ROLES;
        let twin = Twin::of(lab)?;
        let path = lab.directory().path().join("twin.toml");
        let other = Envnet::find(&twin.0, &path, Some(hook))?;
        let write = |environment: u8| fs::write(&path, lab.configuration().environments(environment).to_string());
        let guest = lab.guest(1, dc)?;
        let works = |when: &str| -> Result<()> {
            ensure!(lab.ping(dc.external(1))?.is_some(), "no answer to the outside {when}");
            ensure!(guest.ping(UPSTREAM)?.is_some(), "no answer to the guest {when}");
            ensure!(lab.envnet().changes("attach")? == 0, "something was changed {when}");
            Ok(())
        };
        write(1)?;
        let outcome = other.run("attach")?;
        let word = if hook == "tcx" { "link br1" } else { "25966" };
        ensure!(
            outcome.status == Some(1) && outcome.stderr.contains(word),
            "the same environment: {outcome:?}"
        );
        works("after the refusal")?;
        write(5)?;
        let outcome = other.run("attach")?;
        if hook == "clsact" {
            // There is room for one envnet's filters.
            ensure!(
                outcome.status == Some(1) && outcome.stderr.contains("25966"),
                "{outcome:?}"
            );
        } else {
            ensure!(outcome.status == Some(0), "another environment: {outcome:?}");
            ensure!(
                other.changes("attach")? == 0,
                "attach of the other again changed something"
            );
        }
        works("beside the other")?;
        other.succeed("detach")?;
        works("after the other is gone")
    })
}

#[test]
fn one_host_under_two_names_has_each_environment_once() -> Result<()> {
    one_host_under_two_names("tcx").context("tcx")?;
    one_host_under_two_names("clsact").context("clsact")
}
