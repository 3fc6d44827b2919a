//! Changes of a selection of environments, upgrades, and what cannot be rolled back.

use super::*;

/// The plan for a part of a configuration.
fn part(config: &Config, part: &str, model: &Model) -> Result<Vec<Change>, Conflict> {
    let part = part.parse().expect("a list");
    let config = config
        .clone()
        .only(&part, Path::new("test.toml"))
        .expect("they are in the file");
    attach(&desired(&config), &model.observed, &Instance::Host, Others::Keep)
}

#[test]
fn a_part_is_changed_alone() {
    for mode in ["macvlan", "bridge"] {
        let mut model = Model::new();
        model.attach(&config("1-3", mode, &[2, 3]));
        // Another machine, another environment, and one environment less: of all that, only what is asked for is done.
        let next = config("1,3-4", mode, &[2, 3, 4]);
        let changes = part(&next, "3-4", &model).expect("no conflict");
        assert!(
            changes.iter().all(|change| matches!(change.environment, Some(3 | 4))),
            "{changes:?}"
        );
        for change in &changes {
            model.apply(change);
        }
        assert_eq!(part(&next, "3-4", &model), Ok(Vec::new()));
        assert!(model.observed.routers.keys().eq(&[1, 2, 3, 4]));

        let two = "2,4,9".parse().expect("a list");
        let changes = detach_selection(&model.observed, &Instance::Host, &two).expect("no conflict");
        let others = |change: &Change| matches!(change.environment, None | Some(2 | 4));
        assert!(changes.iter().all(others), "{changes:?}");
        for change in &changes {
            model.apply(change);
        }
        assert!(model.observed.routers.keys().eq(&[1, 3]));
        assert!(model.observed.pins.programs_loaded());
        let number = |entry: &envnet_common::maps::Environment| entry.number;
        assert!(model.observed.environments.values().map(number).eq([1, 3]));
        let ports = model.observed.fast.ports.values();
        assert!(
            ports
                .map(|port| number(&port.environment))
                .all(|number| number == 1 || number == 3)
        );
        assert_eq!(detach_selection(&model.observed, &Instance::Host, &two), Ok(Vec::new()));

        let rest = "1,3".parse().expect("a list");
        for change in detach_selection(&model.observed, &Instance::Host, &rest).expect("no conflict") {
            model.apply(&change);
        }
        assert_clean(&model);
    }
}

#[test]
fn a_part_that_concerns_the_others_is_refused() {
    let old = config("1-3", "macvlan", &[2]);
    let attached = || {
        let mut model = Model::new();
        model.attach(&old);
        model
    };
    let others = |list: &str| list.parse().expect("a list");
    let mut model = attached();
    model.pins().programs_loaded = false;
    assert_eq!(part(&old, "3", &model), Err(Conflict::Build(others("1-2"))));
    // Nobody else is there.
    assert!(part(&old, "1-3", &model).is_ok());

    for accelerate in ["auto", "off"] {
        let text = text("1-3", "macvlan", &[2, 3])
            .replace("[addresses]", &format!("accelerate = \"{accelerate}\"\n[addresses]"));
        let parse = |text: &str| Config::parse(text, Path::new("test.toml")).expect("a good configuration");
        let mut model = Model::new();
        model.attach(&parse(&text));
        for pool in ["172.16.0.0/15", "172.20.0.0/16"] {
            let refused = part(&parse(&text.replace("172.16.0.0/16", pool)), "2", &model);
            let refused = refused.expect_err("another pool").to_string();
            for word in [
                "addresses.external",
                pool,
                "environments 1, 3",
                "172.16.0.0/16",
                "without --environments",
            ] {
                assert!(refused.contains(word), "no {word} in {refused}");
            }
        }
    }

    let model = attached();
    for other in [
        ("172.16.0.1", "172.16.0.2"),
        ("macvlan\"", "macvlan\"\naccelerate = \"off\""),
    ] {
        assert_eq!(
            part(&changed("1-3", other), "2", &model),
            Err(Conflict::Uplink(others("1,3")))
        );
    }

    let off = changed("1-3", ("macvlan\"", "macvlan\"\naccelerate = \"off\""));
    let mut model = Model::new();
    model.attach(&off);
    // Environments half as large: the third one's addresses are the first one's.
    let moved = text("1-3", "macvlan", &[2, 3])
        .replace("macvlan\"", "macvlan\"\naccelerate = \"off\"")
        .replace("10.0.0.0/24", "10.0.0.0/25");
    let moved = Config::parse(&moved, Path::new("test.toml")).expect("a good configuration");
    let refused = part(&moved, "3", &model);
    assert!(
        matches!(
            refused,
            Err(Conflict::Subnet {
                environment: 3,
                other: 1,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn a_port_that_goes_is_named() {
    let mut model = Model::new();
    model.attach(&config("1", "macvlan", &[2, 3]));
    let tap = model.observed.links["vm1.3"].index;
    let shown = |model: &Model| {
        let changes = attach(
            &desired(&config("1", "macvlan", &[2])),
            &model.observed,
            &Instance::Host,
            Others::Prune,
        );
        let changes = changes.expect("no conflict");
        let ports = changes
            .iter()
            .find(|change| matches!(change.action, Action::Delete(MapKeys::Ports(_))));
        ports.expect("a port that goes").to_string()
    };
    assert_eq!(shown(&model), "- fast path at vm1.3");
    model.observed.links.remove("vm1.3");
    assert_eq!(shown(&model), format!("- fast path at interface {tap} (gone)"));
}

#[test]
fn what_cannot_be_rolled_back_says_why() {
    let mut model = Model::new();
    let old = config("1-2", "macvlan", &[2, 3]);
    let mut changes = model.attach(&old);
    changes.extend(
        attach(
            &desired(&config("1", "bridge", &[2])),
            &model.observed,
            &Instance::Host,
            Others::Prune,
        )
        .expect("no conflict"),
    );
    changes.extend(detach(&model.observed, &Instance::Host));
    for change in changes {
        let removes = change.to_string().starts_with("- ");
        let removes = removes && !matches!(change.action, Action::RemovePins);
        let nothing_missed = change.inverse().is_some() || change.irreversible().is_some();
        assert!(nothing_missed || !removes, "{change}");
    }
}

#[test]
fn the_example_is_planned() {
    let text = include_str!("../../../../examples/envnet.toml").replace("eth0", "up0");
    let config = Config::parse(&text, Path::new("examples/envnet.toml")).expect("a good configuration");
    let mut model = Model::new();
    assert!(!model.attach(&config).is_empty());
    nothing_left(&mut model, &config);
}

#[test]
fn maps_of_another_shape_are_refused() {
    let mut model = Model::new();
    model.pins().maps = MapState::Unfit("a map is not right".to_owned());
    let config = config("1", "macvlan", &[2]);
    let refused = attach(&desired(&config), &model.observed, &Instance::Host, Others::Prune);
    assert!(matches!(refused, Err(Conflict::Maps(_))), "{refused:?}");
}

#[test]
fn another_layout_keeps_what_it_was_given_when_an_upgrade_is_rolled_back() {
    let config = config("1", "macvlan", &[2]);
    let mut model = Model::new();
    model.attach(&config);
    let observed = &mut model.observed;
    observed.fast = Fast::default();
    (observed.environments, observed.mappings) = (BTreeMap::new(), BTreeMap::new());
    observed.pins = PinState::Present(Pins {
        programs_loaded: false,
        maps: MapState::Absent,
        other_builds: Some(OtherBuilds { layouts: [1].into() }),
    });
    let changes = model.attach(&config);
    assert!(
        changes
            .iter()
            .any(|change| change.action == Action::ForgetOtherPrograms)
    );
    let taken = |change: &Change| {
        matches!(
            change.action,
            Action::Delete(MapKeys::Environments(_) | MapKeys::Mappings(_) | MapKeys::Endpoints(_))
        )
    };
    let back = changes.iter().filter_map(Change::inverse).find(taken);
    assert_eq!(back, None, "the programs use the new maps by then");
}

#[test]
fn stale_pins_are_removed() {
    let config = config("1", "macvlan", &[2]);
    let mut model = Model::new();
    model.attach(&config);
    let stale = StalePin {
        name: "vnet7-ingress".to_owned(),
        holds: None,
    };
    model.observed.stale_pins.push(stale.clone());
    let changes = model.attach(&config);
    let actions: Vec<_> = changes.into_iter().map(|change| change.action).collect();
    assert_eq!(actions, [Action::RemoveStalePins(vec![stale])]);
}
