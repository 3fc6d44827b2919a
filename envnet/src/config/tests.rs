//! Right and wrong files. Every wrong one must name file, line and key, and say what to do.

use super::*;

const GOOD: &str = r#"environments = "1-3"

[uplink]
interface = "eth0"
mode = "macvlan"
gateway = "172.16.0.1"

[addresses]
internal = "10.0.0.0/24"
router = "10.0.0.1"
external = "172.16.0.0/16"

[taps]
user = "nobody"

[[vm]]
name = "dc"
address = "10.0.0.2"
mac = "52:54:00:00:00:02"
[[vm]]
name = "member"
address = "10.0.0.3"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("envnet.toml"))
}

/// Replaces one line's text and expects an error that starts with the position and contains the words.
fn refused(from: &str, to: &str, position: &str, words: &[&str]) {
    assert!(GOOD.contains(from), "`{from}` is not in the file");
    let error = parse(&GOOD.replacen(from, to, 1)).expect_err(to).to_string();
    assert!(error.starts_with(&format!("envnet.toml:{position}")), "{error}");
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

#[test]
fn a_good_file_is_read() {
    let config = parse(GOOD).expect("good");
    assert_eq!(config.environments, [1, 2, 3]);
    assert_eq!(config.uplink.gateway, Some(Ipv4Addr::new(172, 16, 0, 1)));
    assert_eq!(config.vms[0].mac, Some(Mac([0x52, 0x54, 0, 0, 0, 2])));
    assert_eq!(config.vms[1].mac, None);
    assert_eq!(config.taps.user.as_deref(), Some("nobody"));
}

#[test]
fn the_example_is_good_and_the_one_of_the_first_page() {
    let example = include_str!("../../../examples/envnet.toml");
    let config = Config::parse(example, Path::new("examples/envnet.toml")).expect("good");
    assert_eq!(config.warning(), None);
    let page = include_str!("../../../README.md");
    assert!(
        page.contains(&format!("```toml\n{example}```")),
        "README.md shows another one"
    );
}

#[test]
fn a_gateway_outside_the_pool_is_warned_of() {
    let warning = |gateway: &str| parse(&GOOD.replace("\"172.16.0.1\"", gateway)).expect("good").warning();
    assert_eq!(warning("\"172.16.0.1\""), None);
    let warning = warning("\"192.168.1.1\"").expect("a warning");
    for word in ["uplink.gateway", "192.168.1.1", "addresses.external", "172.16.0.0/16"] {
        assert!(warning.contains(word), "no {word} in {warning}");
    }
}

#[test]
fn environments_can_be_listed() {
    for (text, expected) in [
        ("[1, 2, 7]", vec![1, 2, 7]),
        ("\"7\"", vec![7]),
        ("\"1-2, 7\"", vec![1, 2, 7]),
        ("[9, 3]", vec![3, 9]),
    ] {
        let config = parse(&GOOD.replacen("\"1-3\"", text, 1)).expect(text);
        assert_eq!(config.environments, expected);
    }
}

#[test]
fn wrong_environments_are_refused() {
    for (text, word) in [
        ("\"0-3\"", "1 to 65535"),
        ("\"65536\"", "1 to 65535"),
        ("\"3-1\"", "backwards"),
        ("\"1-3, 2\"", "twice"),
        ("[]", "at least one"),
        ("[-1]", "out of range"),
        ("\"many\"", "1-3"),
        ("true", "range"),
        ("\"1-256\"", "no subnet"),
        ("\"1-4294967297\"", "out of range"),
    ] {
        refused("\"1-3\"", text, "1: environments: ", &[word]);
    }
}

#[test]
fn unknown_and_missing_keys_are_refused() {
    refused("gateway =", "gatway =", "6: gatway: ", &["unknown field", "gateway"]);
    refused("name = \"dc\"\n", "", "1", &["name"]);
    refused("[taps]", "[tap]", "13", &["unknown field", "tap"]);
    refused(
        "mode = \"macvlan\"",
        "mode = \"ipvlan\"",
        "5: mode: ",
        &["macvlan", "bridge"],
    );
    refused("interface = \"eth0\"", "interface = ", "4: interface: ", &[]);
}

#[test]
fn more_than_fits_is_refused() {
    let file = |environments: &str, machines: u32| {
        let head = GOOD
            .split_once("[[vm]]")
            .expect("machines")
            .0
            .replace("\"1-3\"", environments)
            .replace("10.0.0.0/24", "10.0.0.0/20")
            .replace("172.16.0.0/16", "128.0.0.0/2")
            .replace("172.16.0.1", "192.168.0.1");
        let machines = (2..machines + 2).map(|number| {
            let address = Ipv4Addr::from(0x0a00_0000 + number);
            format!("[[vm]]\nname = \"m{number}\"\naddress = \"{address}\"\n")
        });
        head + &machines.collect::<String>()
    };
    for (environments, machines, refused) in [
        ("\"1\"", 1022, None),
        ("\"1\"", 1023, Some(["vm[1022]", "1023 machines", "ports for 1022"])),
        ("\"1-64\"", 1022, None),
        (
            "\"1-65\"",
            1022,
            Some(["environments", "66430 guests", "up to 64 environments"]),
        ),
        ("\"1-65535\"", 1, None),
        (
            "\"1-40000\"",
            2,
            Some(["environments", "80000 guests", "up to 32768 environments"]),
        ),
    ] {
        match (parse(&file(environments, machines)), refused) {
            (Ok(_), None) => {}
            (Err(error), Some(words)) => {
                let error = error.to_string();
                assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
            }
            (parsed, _) => panic!(
                "{environments} with {machines}: {:?}",
                parsed.err().map(|error| error.to_string())
            ),
        }
    }
}

#[test]
fn an_address_can_float() {
    let file = GOOD.replace("name = \"member\"", "name = \"member\"\nfloating = true");
    let config = parse(&file).expect("good");
    assert_eq!(
        config.vms.iter().map(|vm| vm.floating).collect::<Vec<_>>(),
        [false, true]
    );
    refused(
        "name = \"dc\"",
        "name = \"dc\"\nfloating = true",
        "20: vm[0].mac: ",
        &["floating", "leave `mac` out"],
    );
    assert!(parse(&file.replace("eth0", "vm1.3")).is_ok(), "it has no tap");
}

#[test]
fn the_uplink_cannot_be_a_tap() {
    refused(
        "\"eth0\"",
        "\"vm2.3\"",
        "4: uplink.interface: ",
        &["environment 2", "own links"],
    );
    assert!(parse(&GOOD.replace("\"eth0\"", "\"vm2.4\"")).is_ok(), "nobody's");
    assert!(parse(&GOOD.replace("\"eth0\"", "\"vm02.3\"")).is_ok(), "nobody's");
}

#[test]
fn wrong_addresses_are_refused() {
    let internal = "internal = \"10.0.0.0/24\"";
    refused(
        internal,
        "internal = \"10.0.0.1/24\"",
        "9: addresses.internal: ",
        &["10.0.0.0/24"],
    );
    refused(
        internal,
        "internal = \"10.0.0.0/31\"",
        "9: addresses.internal: ",
        &["/30"],
    );
    refused(
        internal,
        "internal = \"172.16.9.0/24\"",
        "11: addresses.external: ",
        &["overlaps"],
    );
    refused(
        internal,
        "internal = \"224.0.0.0/24\"",
        "9: addresses.internal: ",
        &["unicast"],
    );
    for wrong in ["10.0.0/24", "10.0.0.0", "10.0.0.0/33", "fd00::/64"] {
        refused(
            internal,
            &format!("internal = \"{wrong}\""),
            "9: internal: ",
            &[wrong, "length"],
        );
    }
    refused(
        "\"172.16.0.0/16\"",
        "\"172.16.0.0/25\"",
        "11: addresses.external: ",
        &["smaller", "/24"],
    );
    refused(
        "router = \"10.0.0.1\"",
        "router = \"10.0.1.1\"",
        "10: addresses.router: ",
        &["outside"],
    );
    refused(
        "router = \"10.0.0.1\"",
        "router = \"10.0.0.255\"",
        "10: addresses.router: ",
        &["broadcast"],
    );
    refused(
        "\"172.16.0.1\"",
        "\"172.16.2.1\"",
        "6: uplink.gateway: ",
        &["environment 2"],
    );
    refused("\"172.16.0.1\"", "\"10.0.0.9\"", "6: uplink.gateway: ", &["next hop"]);
}

#[test]
fn wrong_machines_are_refused() {
    refused(
        "\"10.0.0.3\"",
        "\"10.0.1.3\"",
        "22: vm[1].address: ",
        &["outside", "10.0.0.0/24"],
    );
    let (first, _) = GOOD.rsplit_once("[[vm]]").expect("two machines");
    for text in [GOOD.replace("[[vm]]", "[vm]"), first.replace("[[vm]]", "[vm]")] {
        let error = parse(&text).expect_err("one bracket").to_string();
        assert!(
            error.starts_with("envnet.toml:") && error.contains("write [[vm]]"),
            "{error}"
        );
    }
    refused("\"10.0.0.3\"", "\"10.0.0.300\"", "22: address: ", &["10.0.0.300"]);
    refused("\"10.0.0.3\"", "\"10.0.0.2\"", "22: vm[1].address: ", &["vm[0]"]);
    refused("\"10.0.0.3\"", "\"10.0.0.1\"", "22: vm[1].address: ", &["router"]);
    refused("\"10.0.0.3\"", "\"10.0.0.0\"", "22: vm[1].address: ", &["network"]);
    refused("\"member\"", "\"dc\"", "21: vm[1].name: ", &["vm[0]"]);
    refused(
        "\"member\"",
        "\"router\"",
        "21: vm[1].name: ",
        &["router", "another name"],
    );
    refused("\"member\"", "\"a b\"", "21: vm[1].name: ", &["spaces"]);
    refused("\"member\"", "\"a\\u001b\"", "21: vm[1].name: ", &["word"]);
    let mac = "mac = \"52:54:00:00:00:02\"";
    refused(mac, "mac = \"52:54:00:00:00\"", "19: mac: ", &["six"]);
    refused(mac, "mac = \"+1:00:00:00:00:02\"", "19: mac: ", &["six"]);
    refused(mac, "mac = \"01:00:5e:00:00:02\"", "19: vm[0].mac: ", &["unicast"]);
    let no_machine = GOOD.split("[[vm]]").next().expect("a part before the machines");
    assert!(
        parse(no_machine)
            .expect_err("no machine")
            .to_string()
            .contains("[[vm]]")
    );
}

#[test]
fn names_that_do_not_fit_are_refused() {
    refused(
        "\"eth0\"",
        "\"averyveryverylongname\"",
        "4: uplink.interface: ",
        &["15 characters"],
    );
    refused("\"eth0\"", "\"a/b\"", "4: uplink.interface: ", &["ip link"]);
    refused("\"eth0\"", "\"br2\"", "4: uplink.interface: ", &["environment 2"]);
    refused("\"eth0\"", "\"vm1.3\"", "4: uplink.interface: ", &["environment 1"]);
    let wide = GOOD
        .replace("10.0.0.0/24", "10.0.0.0/8")
        .replace("172.16.0.0/16", "128.0.0.0/2")
        .replace("172.16.0.1", "1.2.3.4")
        .replace("\"1-3\"", "\"3\"")
        .replace("\"10.0.0.3\"", "\"10.255.255.254\"");
    assert!(parse(&wide).is_ok(), "vm3.16777214 fits");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/envnet.toml"))
        .expect_err("no file")
        .to_string();
    assert!(
        error.contains("/nonexistent/envnet.toml") && error.contains("--config"),
        "{error}"
    );
}

#[test]
fn external_addresses_keep_host_bits() {
    let config = parse(GOOD).expect("good");
    let addresses = &config.addresses;
    assert_eq!(addresses.external_subnet(3).to_string(), "172.16.3.0/24");
    assert_eq!(
        addresses.external_address(3, Ipv4Addr::new(10, 0, 0, 7)),
        Ipv4Addr::new(172, 16, 3, 7)
    );
    assert_eq!(addresses.capacity(), 256);
    let text = GOOD
        .replace("10.0.0.0/24", "10.0.0.0/23")
        .replace("172.16.0.0/16", "172.16.0.0/12")
        .replace("172.16.0.1", "172.31.255.1");
    let config = parse(&text).expect("wide pool");
    assert_eq!(config.addresses.capacity(), 2048);
    assert_eq!(config.addresses.external_subnet(2047).to_string(), "172.31.254.0/23");
    assert_eq!(
        config.addresses.external_address(300, Ipv4Addr::new(10, 0, 1, 7)),
        Ipv4Addr::new(172, 18, 89, 7)
    );
}
