//! The network of the image, booted in QEMU: on a cable of its own in a network namespace, with real
//! servers at the other end.

#![allow(clippy::print_stdout)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::wire::Wire;
use support::{Disk, Options, Vm, cairn, image, python, succeeds, tool};

const CONFIG: &str = "domain = \"chat.example\"\n";
/// The configuration asks a time server by its name.
const CONFIG_WITH_TIME: &str = "domain = \"chat.example\"\n[time]\nservers = [\"ntp.test\"]\n";

/// On a cable, with our TOML by `fw_cfg`.
fn given(wire: &Wire, config: &'static str) -> Options {
    Options {
        config: Some(config),
        namespace: wire.namespace(),
        ..Options::default()
    }
}

/// Its administrator hears this of the machine over the cable, as soon as PID 1 has told the server.
fn hears(wire: &Wire, vm: &mut Vm, disk: &Disk, host: &str, text: &str) {
    let pin = vm.pin();
    let program = PathBuf::from(cairn().get_program());
    wire.until(text, |wire| {
        let mut command = wire.command(&program);
        command.args(["--server", &format!("https://{host}"), "--pin", &pin]);
        command.arg("--token-file").arg(disk.file("token"));
        succeeds(command.arg("machine")).contains(text)
    });
}

/// A volume of cloud-init that gives the machine this address.
fn volume(disk: &Disk, user_data: &str, own: &str, gateway: &str) -> Vec<String> {
    let network = format!(
        "version: 2\nethernets:\n  eth0:\n    addresses: [{own}]\n    \
         routes: [{{to: default, via: {gateway}}}]\n    accept-ra: false\n"
    );
    let iso = disk.cloud_init(&[
        ("user-data", user_data),
        ("meta-data", "instance-id: 1\n"),
        ("network-config", &network),
    ]);
    vec!["-cdrom".to_owned(), iso.display().to_string()]
}

/// Puts a configuration on the EFI partition.
fn write_to_esp(disk: &Disk, toml: &str) {
    let config = disk.file("cairn.toml");
    fs::write(&config, toml).expect("it is written");
    let mut personalise = tool();
    personalise.arg("personalise").arg(disk.path());
    succeeds(personalise.arg("--config").arg(&config));
}

#[test]
fn a_lease_is_renewed_and_its_address_changes_and_people_chat_on() {
    let (Some(image), Some(python)) = (image(), python()) else {
        return;
    };
    let Some(mut wire) = Wire::lay(&["192.0.2.1/24"]) else {
        return;
    };
    // The shortest lease of dnsmasq, to be renewed after a few seconds.
    let soon = "dhcp-option=option:T1,5";
    wire.dnsmasq(&[
        "port=0",
        soon,
        "dhcp-range=192.0.2.50,192.0.2.60,255.255.255.0,120",
    ]);
    let disk = Disk::with_accounts(&image, &["alice", "bob"]);
    let mut vm = Vm::start(&disk, &given(&wire, CONFIG));
    vm.wait_for("the server accepts log-ins");
    let first = vm.word("(DHCP)", "192.0.2.");
    wire.chat_through(&python, &first);
    let renewed = |wire: &Wire| wire.log("dnsmasq").matches("DHCPACK(tap0)").count() > 2;
    wire.until("the lease is renewed twice", renewed);
    assert!(!vm.says("has lost its address"));

    wire.dnsmasq(&[
        "port=0",
        soon,
        "dhcp-range=192.0.2.150,192.0.2.159,255.255.255.0,120",
    ]);
    vm.sees("eth0 has lost its address");
    let second = vm.word("(DHCP)", "192.0.2.15");
    wire.chat_through(&python, &second);
}

#[test]
fn with_ipv6_alone_people_chat_and_the_time_is_found_by_name() {
    let (Some(image), Some(python)) = (image(), python()) else {
        return;
    };
    let Some(mut wire) = Wire::lay(&["2001:db8:1::1/64"]) else {
        return;
    };
    wire.dnsmasq(&["port=53", "address=/ntp.test/2001:db8:1::1"]);
    wire.time_server();
    wire.radvd("prefix 2001:db8:1::/64 { }; RDNSS 2001:db8:1::1 { };");
    let disk = Disk::with_accounts(&image, &["alice", "bob"]);
    let mut vm = Vm::start(&disk, &given(&wire, CONFIG_WITH_TIME));
    vm.wait_for("the server accepts log-ins");
    let address = vm.word("(eth0)", "2001:db8:1:");
    assert!(!vm.has_said("(DHCP)"));
    wire.chat_through(&python, &address);
    vm.sees(" clock         as 2001:db8:1::1");
}

/// There is no shell on a machine: its administrator asks from outside what others see of it.
#[test]
fn what_others_see_is_looked_at_on_the_machine_itself() {
    let Some(image) = image() else { return };
    let Some(mut wire) = Wire::lay(&["192.0.2.1/24"]) else {
        return;
    };
    wire.dnsmasq(&[
        "port=53",
        "dhcp-range=192.0.2.50,192.0.2.50,255.255.255.0,120",
        // Of these it knows all that there is.
        "local=/ntp.test/",
        "local=/chat.example/",
        "address=/ntp.test/192.0.2.1",
        "address=/chat.example/192.0.2.50",
        "srv-host=_xmpp-server._tcp.chat.example,chat.example,5269",
    ]);
    wire.time_server();
    let disk = Disk::of(&image);
    disk.seed_administrator_and("admin", &[]);
    let mut vm = Vm::start(&disk, &given(&wire, CONFIG_WITH_TIME));
    vm.wait_for("the server accepts log-ins");
    assert_eq!(vm.word("(DHCP)", "192.0.2."), "192.0.2.50");
    let pin = vm.pin();
    let program = PathBuf::from(cairn().get_program());
    let mut command = wire.command(&program);
    command.args(["--server", "https://192.0.2.50", "--pin", &pin]);
    command.arg("--token-file").arg(disk.file("token"));
    let said = command
        .args(["doctor", "--json"])
        .output()
        .expect("it runs");
    let sentence = String::from_utf8_lossy(&said.stderr);
    let report: Value = serde_json::from_slice(&said.stdout).expect(&sentence);
    println!("{report:#}");
    let severity = |id: &str| {
        let mut findings = report["findings"].as_array().into_iter().flatten();
        let found = findings.find(|found| found["id"] == id);
        found
            .and_then(|found| found["severity"].as_str())
            .unwrap_or("missing")
    };
    for id in [
        "srv.xmpp-server",
        "listener.s2s",
        "listener.https",
        "reach.s2s",
        "reach.c2s",
        "certificate.names",
        "clock",
    ] {
        assert_eq!(severity(id), "ok", "{id}");
    }
    assert_eq!(
        severity("certificate.chain"),
        "failure",
        "it is self-signed"
    );
    assert_eq!(said.status.code(), Some(1));
}

#[test]
fn a_stored_network_that_does_not_work_gives_way_to_another_source_until_the_next_start() {
    let (Some(image), Some(python)) = (image(), python()) else {
        return;
    };
    let Some(wire) = Wire::lay(&["192.0.2.1/24"]) else {
        return;
    };
    let disk = Disk::of(&image);
    disk.seed_administrator_and("admin", &["alice", "bob"]);
    let on_wire = |more| Options {
        namespace: wire.namespace(),
        more,
        ..Options::default()
    };
    // The configuration is kept with its network, where nobody is.
    let user_data = format!("#cairn\n{CONFIG}");
    let nowhere = volume(&disk, &user_data, "198.51.100.77/24", "198.51.100.1");
    let mut vm = Vm::start(&disk, &on_wire(nowhere));
    vm.wait_for("the server accepts log-ins");
    vm.sees("eth0 has 198.51.100.77/24 (configuration)");
    vm.cut();

    // Another volume knows better, and says other things too.
    let user_data = "#cairn\ndomain = \"evil.example\"\n";
    let better = volume(&disk, user_data, "192.0.2.77/24", "192.0.2.1");
    let mut vm = Vm::start(&disk, &on_wire(better));
    vm.wait_for("the server accepts log-ins");
    vm.sees("eth0 has 198.51.100.77/24 (configuration)");
    assert!(!vm.has_said("192.0.2.77"));
    vm.wait_for("the network does not work: nobody lends an address and no gateway answers");
    vm.wait_for("trying the network of the NoCloud volume; the configuration stays as it is");
    vm.wait_for("the network of the NoCloud volume works: it is used until the next start");
    wire.chat_through(&python, "192.0.2.77");
    let said = "of the NoCloud volume: the configuration's does not work";
    hears(&wire, &mut vm, &disk, "192.0.2.77", said);
    assert!(!vm.says("evil.example"));
    vm.cut();

    // The store has its own as before.
    let mut vm = Vm::start(&disk, &on_wire(Vec::new()));
    vm.wait_for("the server accepts log-ins");
    vm.sees("eth0 has 198.51.100.77/24 (configuration)");
    assert!(!vm.has_said("192.0.2.77"));
}

#[test]
fn a_configuration_without_a_network_goes_with_that_of_a_later_source() {
    let Some(image) = image() else { return };
    let disk = Disk::of(&image);
    write_to_esp(&disk, CONFIG);
    let more = volume(&disk, "#cloud-config\n", "10.0.2.99/24", "10.0.2.2");
    let mut vm = Vm::start(
        &disk,
        &Options {
            more,
            ..Options::default()
        },
    );
    vm.wait_for("the server accepts log-ins");
    vm.sees("eth0 has 10.0.2.99/24 (configuration)");
    vm.sees("cairn.toml on the EFI partition; network: NoCloud volume");
    assert!(!vm.has_said("(DHCP)"));
}

#[test]
fn a_configuration_without_a_network_goes_with_that_of_the_provider() {
    let (Some(image), Some(python)) = (image(), python()) else {
        return;
    };
    let Some(mut wire) = Wire::lay(&["192.0.2.1/24", "169.254.169.254/32"]) else {
        return;
    };
    wire.dnsmasq(&[
        "port=0",
        "dhcp-range=192.0.2.50,192.0.2.60,255.255.255.0,600",
    ]);
    let document = r#"{"hostname": "droplet", "interfaces": {"public": [{
        "mac": "52:54:00:12:34:56",
        "ipv4": {"ip_address": "192.0.2.77", "netmask": "255.255.255.0", "gateway": "192.0.2.1"}
    }]}}"#;
    wire.metadata("169.254.169.254", "metadata/v1.json", document);
    let disk = Disk::with_accounts(&image, &["alice", "bob"]);
    let options = Options {
        more: vec![
            "-smbios".to_owned(),
            "type=1,manufacturer=DigitalOcean,product=Droplet".to_owned(),
        ],
        ..given(&wire, CONFIG)
    };
    let mut vm = Vm::start(&disk, &options);
    vm.wait_for("the server accepts log-ins");
    vm.sees("eth0 has 192.0.2.77/24 (configuration)");
    vm.sees("QEMU fw_cfg; network: DigitalOcean metadata");
    wire.chat_through(&python, "192.0.2.77");
}

#[test]
fn a_configuration_that_names_its_network_needs_no_other_source() {
    let Some(image) = image() else { return };
    let disk = Disk::of(&image);
    let network = "[network]\naddresses = [\"10.0.2.98/24\"]\ngateways = [\"10.0.2.2\"]\n";
    write_to_esp(&disk, &format!("{CONFIG}{network}"));
    let more = volume(&disk, "#cloud-config\n", "10.0.2.99/24", "10.0.2.2");
    let mut vm = Vm::start(
        &disk,
        &Options {
            more,
            ..Options::default()
        },
    );
    vm.wait_for("the server accepts log-ins");
    vm.sees("eth0 has 10.0.2.98/24 (configuration)");
    assert!(!vm.has_said("10.0.2.99") && !vm.has_said("; network:"));
}

/// A certificate that is valid from today on, in the store of the seed.
fn seed_certificate(disk: &Disk) {
    let (chain, key) = (disk.file("chain.pem"), disk.file("key.pem"));
    let mut make = Command::new("openssl");
    make.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]);
    make.args(["-nodes", "-days", "30", "-subj", "/CN=chat.example"]);
    make.args(["-addext", "subjectAltName=DNS:chat.example", "-out"]);
    make.arg(&chain)
        .arg("-keyout")
        .arg(&key)
        .stderr(Stdio::null());
    succeeds(&mut make);
    let mut set = cairn();
    set.arg("--config").arg(disk.file("seed.toml"));
    succeeds(set.args(["cert", "set"]).arg(&chain).arg(&key));
    let mut personalise = tool();
    personalise.arg("personalise").arg(disk.path());
    succeeds(personalise.arg("--store").arg(disk.file("seed.log")));
}

fn in_the_future() -> Vec<String> {
    ["-rtc", "base=2050-01-01T00:00:00"]
        .map(str::to_owned)
        .to_vec()
}

#[test]
fn a_clock_that_is_years_ahead_is_put_right_by_a_time_server_and_the_server_hears_it() {
    let Some(image) = image() else { return };
    let Some(mut wire) = Wire::lay(&["192.0.2.1/24"]) else {
        return;
    };
    wire.dnsmasq(&[
        "port=0",
        "dhcp-range=192.0.2.50,192.0.2.60,255.255.255.0,600",
        "dhcp-option=option:ntp-server,192.0.2.1",
    ]);
    let disk = Disk::of(&image);
    disk.seed_administrator("admin");
    seed_certificate(&disk);
    let options = Options {
        more: in_the_future(),
        ..given(&wire, CONFIG)
    };
    let mut vm = Vm::start(&disk, &options);
    vm.wait_for("the clock showed a time that cannot be: it is set back");
    vm.wait_for("the server accepts log-ins");
    let address = vm.word("(DHCP)", "192.0.2.");
    assert!(vm.has_said("the clock is known to be wrong"));
    let said = "known to be wrong: no time server has answered";
    hears(&wire, &mut vm, &disk, &address, said);
    wire.time_server();
    vm.wait_for("by the time server 192.0.2.1");
    vm.wait_for("the clock is right from now on: as 192.0.2.1");
    hears(&wire, &mut vm, &disk, &address, "as 192.0.2.1");
    // By no clock that it had was the certificate found to be of another time.
    assert!(!vm.says("clients will not trust it"));
    assert!(!vm.has_said("2050-"));
}

#[test]
fn a_clock_that_is_years_ahead_is_known_to_be_wrong_while_nobody_says_the_time() {
    let Some(image) = image() else { return };
    let disk = Disk::of(&image);
    let mut vm = Vm::start(
        &disk,
        &Options {
            config: Some(CONFIG),
            more: in_the_future(),
            ..Options::default()
        },
    );
    vm.wait_for("the clock showed a time that cannot be: it is set back");
    vm.wait_for("the server accepts log-ins");
    vm.wait_for("slot a has proved itself");
    assert!(vm.has_said("known to be wrong: no time server has answered"));
    assert!(!vm.has_said("the clock is right") && !vm.has_said("2050-"));
}
