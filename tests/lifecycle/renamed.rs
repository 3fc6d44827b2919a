//! The uplink gets another name while environments are attached: its programs stay, and are known under the new one.

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Lab, Options,
    fixture::detached_with,
    plan::{self, Mode, ROLES},
};

fn renamed(lab: &Lab, from: &str, to: &str) -> Result<()> {
    lab.host().ip(&format!("link set {from} down"))?;
    lab.host().ip(&format!("link set {from} name {to}"))?;
    lab.host().ip(&format!("link set {to} up")).map(drop)
}

#[test]
fn a_renamed_uplink_keeps_its_programs() -> Result<()> {
    for (hook, accelerate) in [(None, "tc"), (None, "xdp"), (Some("clsact"), "tc")] {
        let options = Options {
            hook,
            accelerate: Some(accelerate),
            ..Options::default()
        };
        detached_with(options, |lab| {
            let [dc, _] = ROLES;
            let envnet = lab.envnet();
            lab.attach()?;
            renamed(lab, "eth0", "wan.0")?;
            let configuration = plan::accelerated(&plan::configuration(2, Mode::Macvlan), accelerate);
            lab.write_configuration(&configuration.replace("eth0", "wan.0"))?;
            lab.attach()?;
            ensure!(envnet.changes("attach")? == 0, "a second attach changes something");
            let _guest = lab.guest(1, dc)?;
            ensure!(lab.ping(dc.external(1))?.is_some(), "no answer");
            lab.detach()?;
            let qdiscs = envnet_lab::process::output(lab.host().command("tc").args(["qdisc", "show", "dev", "wan.0"]))?;
            ensure!(!qdiscs.contains("clsact"), "envnet left its qdisc: {qdiscs}");
            renamed(lab, "wan.0", "eth0")
        })
        .with_context(|| format!("hook {hook:?}, accelerate = {accelerate}"))?;
    }
    Ok(())
}
