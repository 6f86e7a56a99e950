//! A booted machine among other servers: it gets its certificate from an authority by itself, and
//! its people talk with those of a Prosody.

#![allow(clippy::print_stdout)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::authority::{Authority, Leaf, pebble, pebble_root};
use support::wire::Wire;
use support::{Disk, Options, PASSWORD, Vm, image, python, succeeds};

/// The name server, and who lends addresses.
const ROUTER: &str = "192.0.2.1";
const PEBBLE: &str = "192.0.2.2";
const PROSODY: &str = "192.0.2.3";
/// What the machine is lent.
const MACHINE: &str = "192.0.2.50";

/// The domain and whom to write to, which is all that a machine on the internet is told; and where
/// this test has what others have on the internet.
fn user_data(authority: &Authority) -> String {
    let root = authority.root();
    format!(
        "#cairn\ndomain = \"chat.example\"\n\
         [acme]\ncontact = \"mailto:admin@chat.example\"\n\
         directory = \"https://{PEBBLE}:14000/dir\"\ntrust = \"\"\"\n{root}\"\"\"\n\
         [federation]\nallow_private_addresses = true\ntrust = \"\"\"\n{root}\"\"\"\n"
    )
}

/// Addresses and names for everybody. Nothing is signed, and nobody else knows names below
/// `.example`.
fn names(wire: &mut Wire) {
    let lent = format!("dhcp-host=52:54:00:12:34:56,{MACHINE}");
    let host = |name: &str, address: &str| format!("host-record={name}.example,{address}");
    let service =
        |name: &str| format!("srv-host=_xmpp-server._tcp.{name}.example,{name}.example,5269");
    let options = [
        "dhcp-range=192.0.2.50,192.0.2.60,255.255.255.0,600".to_owned(),
        lent,
        "port=53".to_owned(),
        "local=/example/".to_owned(),
        host("chat", MACHINE),
        host("other", PROSODY),
        service("chat"),
        service("other"),
    ];
    wire.dnsmasq(&options.each_ref().map(String::as_str));
}

/// A Prosody with Juliet, which wants valid certificates of its peers, by this authority.
fn prosody(wire: &mut Wire, leaf: &Leaf, authorities: &Path) {
    let folder = wire.file("prosody");
    fs::create_dir_all(&folder).expect("it is made");
    let config = folder.join("prosody.cfg.lua");
    let text = format!(
        r#"
run_as_root = true
pidfile = "{folder}/prosody.pid"
data_path = "{folder}"
log = {{ debug = "*console" }}
interfaces = {{ "{PROSODY}" }}
modules_enabled = {{ "roster"; "saslauth"; "tls"; "dialback"; "disco" }}
authentication = "internal_hashed"
s2s_secure_auth = true
unbound = {{ resolvconf = false; forward = {{ "{ROUTER}" }} }}
ssl = {{ certificate = "{chain}", key = "{key}", cafile = "{authorities}" }}
VirtualHost "other.example"
"#,
        folder = folder.display(),
        chain = leaf.chain.display(),
        key = leaf.key.display(),
        authorities = authorities.display(),
    );
    fs::write(&config, text).expect("it is written");
    let mut register = Command::new("prosodyctl");
    register.arg("--config").arg(&config);
    succeeds(register.args(["register", "juliet", "other.example", PASSWORD]));
    let words = ["--config", &config.display().to_string(), "-F"];
    wire.serve("prosody", &words.map(str::to_owned));
    wire.until("Prosody runs", |wire| {
        wire.log("prosody").contains("Activated service 's2s'")
    });
}

/// What the machine shows to who starts TLS at its port for clients.
fn issuer(wire: &Wire) -> String {
    let mut ask = wire.command(Path::new("openssl"));
    ask.args(["s_client", "-starttls", "xmpp", "-xmpphost", "chat.example"]);
    ask.args(["-connect", &format!("{MACHINE}:5222")]);
    let output = ask.stdin(Stdio::null()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let issuer = said.lines().find(|line| line.starts_with("issuer="));
    issuer.unwrap_or_default().to_owned()
}

fn say(person: &mut Child, text: &str) {
    let input = person.stdin.as_mut().expect("it is piped");
    input
        .write_all(format!("{text}\n").as_bytes())
        .and_then(|()| input.flush())
        .expect("they listen");
}

#[track_caller]
fn hears(person: &mut Child, wanted: &str) {
    let heard = BufReader::new(person.stdout.take().expect("it is piped"));
    let mut lines = heard.lines().map(|line| line.expect("UTF-8"));
    assert!(lines.any(|line| line == wanted), "{wanted}");
}

#[test]
fn a_machine_that_knows_a_domain_and_a_contact_gets_a_certificate_and_talks_with_a_prosody() {
    let (Some(image), Some(python)) = (image(), python()) else {
        return;
    };
    let addresses = [ROUTER, PEBBLE, PROSODY].map(|address| format!("{address}/24"));
    let Some(mut wire) = Wire::lay(&addresses.each_ref().map(String::as_str)) else {
        return;
    };
    names(&mut wire);
    let authority = Authority::new(&wire);
    let leaf = authority.leaf("pebble.example", PEBBLE);
    pebble(&mut wire, &leaf, PEBBLE, ROUTER);
    let root = wire.file("pebble-root.pem");
    fs::write(&root, pebble_root(&wire, &python, PEBBLE)).expect("it is written");
    prosody(&mut wire, &authority.leaf("other.example", PROSODY), &root);

    let disk = Disk::with_accounts(&image, &["alice"]);
    let volume = disk.cloud_init(&[
        ("user-data", &user_data(&authority)),
        ("meta-data", "instance-id: 1\n"),
    ]);
    let mut vm = Vm::start(
        &disk,
        &Options {
            namespace: wire.namespace(),
            more: vec!["-cdrom".to_owned(), volume.display().to_string()],
            ..Options::default()
        },
    );
    vm.wait_for("the server accepts log-ins");
    wire.until("the machine shows a certificate of pebble", |wire| {
        issuer(wire).contains("Pebble Intermediate")
    });
    assert!(!vm.says("panic"));

    let mut alice = wire.person(
        &python,
        "alice@chat.example",
        "juliet@other.example",
        MACHINE,
    );
    let mut juliet = wire.person(
        &python,
        "juliet@other.example",
        "alice@chat.example",
        PROSODY,
    );
    say(&mut alice, "Parting is such sweet sorrow");
    vm.wait_for("connected is_bidirectional");
    hears(
        &mut juliet,
        "alice@chat.example: Parting is such sweet sorrow",
    );
    say(&mut juliet, "A thousand times good night");
    hears(
        &mut alice,
        "juliet@other.example: A thousand times good night",
    );
    for mut person in [alice, juliet] {
        let _ = person.kill();
        let _ = person.wait();
    }
    // Both were believed by their certificates, not by the DNS.
    let said = wire.log("prosody");
    assert!(said.contains("Accepting SASL EXTERNAL identity from chat.example"));
}
