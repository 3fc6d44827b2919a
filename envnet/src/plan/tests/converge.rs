//! Attach and detach reach what is desired from everywhere, and leave alone what is right.

use super::*;

#[test]
fn attach_converges_in_one_step() {
    for mode in ["macvlan", "bridge"] {
        let config = config("1-2", mode, &[2, 3]);
        let mut model = Model::new();
        assert!(!model.attach(&config).is_empty());
        nothing_left(&mut model, &config);
    }
}

#[test]
fn every_change_of_the_configuration_converges() {
    let configs = [
        config("1-2", "macvlan", &[2, 3]),
        config("1-2", "bridge", &[2, 3]),
        config("2-3", "macvlan", &[2, 4]),
        config("3", "bridge", &[4]),
        changed("1-2", ("router = \"10.0.0.1\"", "router = \"10.0.0.254\"")),
        changed("1-2", ("10.0.0.0/24", "10.0.0.0/25")),
        changed("1-2", ("[addresses]", "accelerate = \"off\"\n[addresses]")),
        changed("1-2", ("[addresses]", "accelerate = \"xdp\"\n[addresses]")),
    ];
    let mut model = Model::new();
    for from in &configs {
        for to in &configs {
            model.attach(from);
            model.attach(to);
            nothing_left(&mut model, to);
            let numbers: Vec<u32> = model.observed.routers.keys().copied().collect();
            assert_eq!(numbers, to.environments);
            assert_eq!(
                model.observed.mappings.len(),
                to.environments.len() * (to.vms.len() + 1)
            );
        }
    }
}

#[test]
fn what_did_not_change_is_left_alone() {
    let mut model = Model::new();
    model.attach(&config("1-2", "macvlan", &[2, 3]));
    let changes = model.attach(&config("1-3", "macvlan", &[2, 3]));
    assert!(
        changes.iter().all(|change| change.environment == Some(3)),
        "{changes:#?}"
    );
    let changes = model.attach(&config("1-3", "macvlan", &[2]));
    assert!(
        changes.iter().all(|change| matches!(
            change.action,
            Action::DeleteLink { .. }
                | Action::Delete(MapKeys::Mappings(_) | MapKeys::Endpoints(_) | MapKeys::Ports(_))
        )),
        "{changes:#?}"
    );
}

type Damage = (&'static str, fn(&mut Model));

#[test]
fn damage_is_repaired() {
    let config = config("1", "macvlan", &[2, 3]);
    let damages: [Damage; 9] = [
        ("bridge deleted", |model| {
            model.observed.links.remove("br1");
            model.observed.attached.remove(&(AttachPoint::Bridge, "br1".to_owned()));
            model.observed.links.values_mut().for_each(|link| link.master = None);
        }),
        ("namespace deleted", |model| {
            model.observed.routers.remove(&1);
            model.observed.links.remove("peer1-br1");
        }),
        ("WAN port deleted", |model| {
            let router = model.router(1);
            router.links.remove("gw1");
            router.routes.clear();
            router.attached.clear();
        }),
        ("tap unplugged", |model| {
            model.observed.links.get_mut("vm1.2").expect("tap").master = None;
        }),
        ("tap down", |model| {
            model.observed.links.get_mut("vm1.2").expect("tap").up = false;
        }),
        ("pins removed", |model| {
            model.observed.pins = PinState::Absent;
            model.observed.environments.clear();
            model.observed.mappings.clear();
            model.observed.fast = Fast::default();
        }),
        ("sysctl changed", |model| {
            drop(
                model
                    .observed
                    .sysctls
                    .insert("ipv4/conf/br1/forwarding".into(), "1".into()),
            );
        }),
        ("foreign route", |model| {
            let route = KernelRoute {
                destination: "192.0.2.0/24".parse().expect("a prefix"),
                gateway: None,
                interface: desired::router_wan_index(1),
                source: None,
                metric: 7,
            };
            model.router(1).routes.insert((route, "gw1".to_owned()));
        }),
        ("address on the WAN port", |model| {
            let address = "172.16.1.1/16".parse().expect("an address");
            model.router(1).addresses.insert(("gw1".to_owned(), address));
        }),
    ];
    for (what, damage) in damages {
        let mut model = Model::new();
        model.attach(&config);
        damage(&mut model);
        assert!(!model.attach(&config).is_empty(), "{what}: nothing planned");
        nothing_left(&mut model, &config);
    }
}

#[test]
fn a_crash_anywhere_is_repaired_by_attach_and_cleaned_by_detach() {
    for mode in ["macvlan", "bridge"] {
        let config = config("1-2", mode, &[2, 3]);
        let steps = attach(
            &desired(&config),
            &Model::new().observed,
            &Instance::Host,
            Others::Prune,
        )
        .expect("no conflict");
        for survived in 0..steps.len() {
            let crashed = || {
                let mut model = Model::new();
                steps[..survived].iter().for_each(|change| model.apply(change));
                model
            };
            let mut model = crashed();
            model.attach(&config);
            nothing_left(&mut model, &config);
            let mut model = crashed();
            for change in detach(&model.observed, &Instance::Host) {
                model.apply(&change);
            }
            assert_clean(&model);
        }
    }
}

#[test]
fn inverses_roll_everything_back() {
    let config = config("1-2", "bridge", &[2, 3]);
    let mut model = Model::new();
    let changes = model.attach(&config);
    for change in changes.iter().rev().filter_map(Change::inverse) {
        model.apply(&change);
    }
    assert_clean(&model);
}

#[test]
fn rolling_an_upgrade_back_leaves_running_programs_alone() {
    let config = config("1-2", "macvlan", &[2, 3]);
    let mut model = Model::new();
    model.attach(&config);
    // What another build finds.
    model.pins().programs_loaded = false;
    for router in model.observed.routers.values_mut() {
        router
            .attached
            .values_mut()
            .for_each(|attached| *attached = Attached::Other);
    }
    for pins in [model.observed.pins.clone(), PinState::Absent] {
        model.observed.pins = pins;
        let changes = attach(&desired(&config), &model.observed, &Instance::Host, Others::Prune).expect("no conflict");
        assert!(
            changes
                .iter()
                .any(|change| matches!(change.action, Action::AttachPrograms { .. }))
        );
        let back: Vec<_> = changes.iter().filter_map(Change::inverse).collect();
        let harmful = |change: &&Change| matches!(change.action, Action::DetachPrograms { .. } | Action::RemovePins);
        assert_eq!(
            back.iter().find(harmful),
            None,
            "the routers' WAN ports are up and would be without programs"
        );
    }
}

#[test]
fn removals_wait_for_everything_else() {
    let mut model = Model::new();
    model.attach(&config("1-3", "macvlan", &[2]));
    let changes = model.attach(&config("1-2,4", "bridge", &[2]));
    let phases: Vec<Phase> = changes
        .chunk_by(|a, b| a.phase == b.phase)
        .map(|stage| stage[0].phase)
        .collect();
    let [.., rest, addresses, close, links, forget, maps] = phases[..] else {
        panic!("too few phases: {phases:?}")
    };
    assert_eq!(
        [rest, addresses, close, links, forget, maps],
        [
            Phase::Configure,
            Phase::Shared,
            Phase::CutTraffic,
            Phase::Shared,
            Phase::CleanUp,
            Phase::Shared
        ]
    );
}

#[test]
fn what_is_not_envnets_is_refused() {
    let config = config("1", "macvlan", &[2]);
    let refuse = |change: fn(&mut Observed)| {
        let mut model = Model::new();
        change(&mut model.observed);
        attach(&desired(&config), &model.observed, &Instance::Host, Others::Prune)
            .expect_err("a conflict")
            .to_string()
    };
    let error = refuse(|observed| drop(observed.links.insert("br1".into(), kernel_link(7, "br1", Kind::Bridge))));
    assert!(error.contains("link br1") && error.contains("environment 1"), "{error}");
    let error = refuse(|observed| {
        let other = KernelLink {
            alias: "envnet netns lab 1".into(),
            ..kernel_link(7, "vm1.2", Kind::Ethernet)
        };
        observed.links.insert("vm1.2".into(), other);
    });
    assert!(error.contains("vm1.2"), "another instance's link: {error}");
    let error = refuse(|observed| {
        let altnames = vec!["br1".to_owned()];
        let other = KernelLink {
            altnames,
            ..kernel_link(7, "precious", Kind::Bridge)
        };
        observed.links.insert("precious".into(), other);
    });
    assert!(error.contains("br1"), "an alternative name: {error}");
    let error = refuse(|observed| {
        observed.foreign_namespaces.insert("ns1".into());
    });
    assert!(error.contains("namespace ns1"), "{error}");
}

#[test]
fn the_wan_port_goes_first() {
    for mode in ["macvlan", "bridge"] {
        let mut model = Model::new();
        model.attach(&config("1", mode, &[2]));
        let changes = detach(&model.observed, &Instance::Host);
        let touches = |change: &&Change| {
            matches!(
                change.action,
                Action::SetLink { .. } | Action::DeleteLink { .. } | Action::DeleteLinks(_)
            )
        };
        let first = changes.iter().find(touches).map(ToString::to_string);
        assert_eq!(first.as_deref(), Some("- link gw1 in the router"));
        let before: Vec<_> = changes.iter().take_while(|change| !touches(change)).collect();
        assert!(
            before
                .iter()
                .any(|change| matches!(change.action, Action::Delete(MapKeys::Endpoints(_)))),
            "the fast path goes even before: {before:?}"
        );
    }
}
