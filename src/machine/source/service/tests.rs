//! Each service is played on loopback with documents as its provider describes them.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::machine::answer;
use crate::machine::plan::Prefix;

const OURS: &str = "#cairn\ndomain = \"chat.example\"\n";

/// One answer: a request begins with the first text and contains the second; the third is sent.
type Row<'r> = (&'r str, &'r str, String);

/// Plays a service until nobody asks any more, and gives what follows from it.
fn play(service: Service, rows: &[Row<'_>]) -> Result<Found, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    let rows: Vec<(String, String, String)> = rows
        .iter()
        .map(|(start, field, answer)| ((*start).to_owned(), (*field).to_owned(), answer.clone()))
        .collect();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = Vec::new();
            let mut buffer = [0; 512];
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
                    _ => break,
                }
            }
            let request = String::from_utf8(request).expect("a text");
            let row = rows
                .iter()
                .find(|(start, field, _)| request.starts_with(start) && request.contains(field));
            let answer = row.map_or(not_found(), |(_, _, answer)| answer.clone());
            stream.write_all(answer.as_bytes()).expect("sent");
        }
    });
    ask_at(service, vec![address])
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn not_found() -> String {
    "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone".to_owned()
}

fn ours(found: &Found) {
    assert_eq!(
        found.config.as_deref(),
        Some("\ndomain = \"chat.example\"\n")
    );
    assert_eq!(found.hostname.as_deref(), Some("chat"));
    assert_eq!(found.notes, [] as [String; 0]);
    let message = answer::to_message(Ok(found.clone()));
    assert_eq!(answer::from_message::<Found>(&message).as_ref(), Ok(found));
}

fn texts(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(IpAddr::to_string).collect()
}

fn prefixes(addresses: &[Prefix]) -> Vec<String> {
    let text = |prefix: &Prefix| format!("{}/{}", prefix.address, prefix.bits);
    addresses.iter().map(text).collect()
}

#[test]
fn digital_ocean_gives_static_addresses() {
    let document = r##"{
      "droplet_id": 2756294, "hostname": "chat", "region": "nyc3", "public_keys": ["ssh-rsa AAAA"],
      "user_data": "#cairn\ndomain = \"chat.example\"\n",
      "interfaces": {
        "private": [{"ipv4": {"ip_address": "10.132.255.113", "netmask": "255.255.0.0", "gateway": "10.132.0.1"},
                     "mac": "04:01:2a:0f:2a:02", "type": "private"}],
        "public": [{"ipv4": {"ip_address": "203.0.113.20", "netmask": "255.255.240.0", "gateway": "203.0.112.1"},
                    "ipv6": {"ip_address": "2001:0DB8:0800:0010:0000:0000:017D:2001", "cidr": 64, "gateway": "2001:0DB8:0800:0010:0000:0000:0000:0001"},
                    "anchor_ipv4": {"ip_address": "10.17.0.5", "netmask": "255.255.0.0", "gateway": "10.17.0.1"},
                    "mac": "04:01:2a:0f:2a:01", "type": "public"}]
      },
      "floating_ip": {"ipv4": {"active": false}},
      "dns": {"nameservers": ["2001:db8::53", "192.0.2.53"]}, "features": {"dhcp_enabled": false}
    }"##;
    let found = play(
        Service::DigitalOcean,
        &[("GET /metadata/v1.json ", "", ok(document))],
    )
    .expect("found");
    ours(&found);
    assert_eq!(
        texts(&found.public_addresses),
        ["203.0.113.20", "2001:db8:800:10::17d:2001"]
    );
    let plan = found.network.expect("a plan");
    let [public, private] = &plan.interfaces[..] else {
        panic!("{plan:?}");
    };
    assert_eq!(
        prefixes(&public.addresses),
        [
            "203.0.113.20/20",
            "2001:db8:800:10::17d:2001/64",
            "10.17.0.5/16"
        ]
    );
    assert_eq!(public.routes.len(), 2);
    assert!(!public.dhcp4 && !public.accept_ra && !public.routes[0].on_link);
    assert_eq!(private.mac, Some([4, 1, 0x2a, 0x0f, 0x2a, 2]));
    assert!(
        private.routes.is_empty(),
        "the private network is not the way out"
    );
    assert_eq!(plan.resolvers.len(), 2);
}

#[test]
fn hetzner_gives_network_settings_of_version_1() {
    let metadata = "availability-zone: fsn1-dc14
hostname: chat
instance-id: 42
local-ipv4: ''
network-config:
  config:
  - mac_address: 96:00:00:1a:2b:3c
    name: eth0
    subnets:
    - dns_nameservers: ['2001:db8:53::1']
      ipv4: true
      type: dhcp
    - address: 2001:db8:c012:1::1/64
      gateway: fe80::1
      ipv6: true
      type: static
    type: physical
  version: 1
network-sysctl: |
  net.ipv6.conf.eth0.accept_dad=0
public-ipv4: 203.0.113.30
public-keys: []
region: eu-central
vendor_data: \"#cloud-config\\n{}\\n\"
";
    let rows = [
        ("GET /hetzner/v1/metadata ", "", ok(metadata)),
        ("GET /hetzner/v1/userdata ", "", ok(&STANDARD.encode(OURS))),
    ];
    let found = play(Service::Hetzner, &rows).expect("found");
    ours(&found);
    assert_eq!(
        texts(&found.public_addresses),
        ["203.0.113.30", "2001:db8:c012:1::1"]
    );
    let plan = found.network.expect("a plan");
    assert!(plan.interfaces[0].dhcp4);
    assert!(
        play(Service::Hetzner, &[("GET", "", ok(""))])
            .expect_err("empty")
            .contains("empty")
    );
}

#[test]
fn vultr_gives_private_networks_and_further_addresses() {
    let document = r#"{"bgp": {"ipv4": {"my-address": ""}}, "hostname": "chat", "instanceid": "1",
      "interfaces": [
        {"ipv4": {"additional": [{"address": "198.51.100.3", "netmask": "255.255.255.255"}], "address": "203.0.113.40", "gateway": "203.0.113.1", "netmask": "255.255.254.0"},
         "ipv6": {"additional": [], "address": "2001:db8:1000::100", "network": "2001:db8:1000::", "prefix": "64"},
         "mac": "56:00:03:15:c4:65", "network-type": "public"},
        {"ipv4": {"additional": [], "address": "10.1.112.3", "gateway": "", "netmask": "255.255.240.0"},
         "ipv6": {"additional": [], "network": "", "prefix": ""},
         "mac": "5a:00:03:1b:4e:ca", "network-type": "private"}],
      "public-keys": "", "region": {"regioncode": "EWR"}}"#;
    let rows = [
        ("GET /v1.json ", "", ok(document)),
        ("GET /latest/user-data ", "", ok(OURS)),
    ];
    let found = play(Service::Vultr, &rows).expect("found");
    ours(&found);
    assert_eq!(
        texts(&found.public_addresses),
        ["203.0.113.40", "2001:db8:1000::100"]
    );
    let plan = found.network.expect("a plan");
    assert!(plan.interfaces[0].dhcp4 && plan.interfaces[0].accept_ra);
    assert_eq!(prefixes(&plan.interfaces[0].addresses), ["198.51.100.3/32"]);
    assert_eq!(prefixes(&plan.interfaces[1].addresses), ["10.1.112.3/20"]);
    assert_eq!(
        (plan.interfaces[1].mtu, plan.interfaces[1].dhcp4),
        (Some(1450), false)
    );
}

#[test]
fn aws_wants_its_token() {
    let rows = [
        (
            "PUT /latest/api/token ",
            "X-aws-ec2-metadata-token-ttl-seconds: 300\r\n",
            ok("AQAAtoken=="),
        ),
        (
            "GET /latest/user-data ",
            "X-aws-ec2-metadata-token: AQAAtoken==\r\n",
            ok(OURS),
        ),
        (
            "GET /latest/meta-data/local-hostname ",
            "X-aws-ec2-metadata-token: AQAAtoken==\r\n",
            ok("chat other"),
        ),
        (
            "GET /latest/meta-data/public-ipv4 ",
            "X-aws-ec2-metadata-token: AQAAtoken==\r\n",
            ok("203.0.113.50"),
        ),
    ];
    let found = play(Service::Aws, &rows).expect("found");
    ours(&found);
    assert_eq!(texts(&found.public_addresses), ["203.0.113.50"]);
    let why = play(Service::Aws, &rows[1..]).expect_err("no token");
    assert_eq!(
        why,
        "AWS metadata cannot be used: it gives no token (status 404)"
    );
    let forged = [("PUT", "", ok("a\r\nb"))];
    assert!(
        play(Service::Aws, &forged)
            .expect_err("two lines")
            .contains("no token")
    );
}

#[test]
fn google_says_that_it_is_google() {
    let google = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let field = "Host: metadata.google.internal\r\nMetadata-Flavor: Google\r\n";
    let rows = [
        (
            "GET /computeMetadata/v1/instance/hostname ",
            field,
            google("chat"),
        ),
        (
            "GET /computeMetadata/v1/instance/attributes/user-data ",
            field,
            google(OURS),
        ),
        (
            "GET /computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip ",
            field,
            google("203.0.113.60\n"),
        ),
    ];
    let found = play(Service::Google, &rows).expect("found");
    ours(&found);
    assert_eq!(texts(&found.public_addresses), ["203.0.113.60"]);
    let why = play(Service::Google, &[("GET", "", ok("chat"))]).expect_err("somebody else");
    assert!(why.contains("Google's"), "{why}");
}

#[test]
fn openstack_has_the_files_of_a_config_drive() {
    let rows = [
        ("GET /openstack/latest/user_data ", "", ok(OURS)),
        (
            "GET /openstack/latest/meta_data.json ",
            "",
            ok(r#"{"hostname": "chat", "uuid": "1"}"#),
        ),
        (
            "GET /openstack/latest/network_data.json ",
            "",
            ok(
                r#"{"links": [{"id": "a", "ethernet_mac_address": "fa:16:3e:00:00:01", "type": "phy"}], "networks": [{"id": "b", "link": "a", "type": "ipv4_dhcp"}], "services": []}"#,
            ),
        ),
    ];
    let found = play(Service::OpenStack, &rows).expect("found");
    ours(&found);
    assert!(found.network.expect("a plan").interfaces[0].dhcp4);
    assert!(
        play(Service::OpenStack, &[])
            .expect_err("nothing")
            .contains("no documents")
    );
}

#[test]
fn azure_tells_all_in_one_document() {
    let document = format!(
        r#"{{"compute": {{"name": "vm", "osProfile": {{"computerName": "Chat"}}, "userData": "{}"}},
        "network": {{"interface": [{{"ipv4": {{"ipAddress": [{{"privateIpAddress": "10.0.0.4", "publicIpAddress": "203.0.113.70"}}],
        "subnet": [{{"address": "10.0.0.0", "prefix": "24"}}]}}, "ipv6": {{"ipAddress": []}}, "macAddress": "000D3AFF1234"}}]}}}}"#,
        STANDARD.encode(OURS)
    );
    let rows = [(
        "GET /metadata/instance?api-version=2021-02-01 ",
        "Metadata: true\r\n",
        ok(&document),
    )];
    let found = play(Service::Azure, &rows).expect("found");
    ours(&found);
    assert_eq!(texts(&found.public_addresses), ["203.0.113.70"]);
    assert_eq!(found.network, None);
}

#[test]
fn linode_gives_addresses_and_packed_user_data() {
    let network = r#"{"interfaces": [], "ipv4": {"public": ["203.0.113.80/32"], "private": []}, "ipv6": {"ranges": [], "slaac": "2001:db8::f03c:91ff:fe24:3a2f/128", "link_local": "fe80::1/128"}}"#;
    let rows = [
        (
            "PUT /v1/token ",
            "Metadata-Token-Expiry-Seconds: 300\r\n",
            ok("abc"),
        ),
        (
            "GET /v1/instance ",
            "Metadata-Token: abc\r\n",
            ok(r#"{"id": 1, "label": "chat", "host_uuid": "x"}"#),
        ),
        (
            "GET /v1/network ",
            "Accept: application/json\r\n",
            ok(network),
        ),
        (
            "GET /v1/user-data ",
            "Metadata-Token: abc\r\n",
            ok(&STANDARD.encode(OURS)),
        ),
    ];
    let found = play(Service::Linode, &rows).expect("found");
    ours(&found);
    assert_eq!(
        texts(&found.public_addresses),
        ["203.0.113.80", "2001:db8::f03c:91ff:fe24:3a2f"]
    );
}

#[test]
fn oracle_knows_its_bearer() {
    let document = format!(
        r#"{{"displayName": "My Chat", "hostname": "chat", "metadata": {{"user_data": "{}"}}}}"#,
        STANDARD.encode(OURS)
    );
    let rows = [(
        "GET /opc/v2/instance/ ",
        "Authorization: Bearer Oracle\r\n",
        ok(&document),
    )];
    ours(&play(Service::Oracle, &rows).expect("found"));
}

#[test]
fn scaleway_is_asked_for_user_data_from_a_low_port_or_says_why_not() {
    let document = r#"{"hostname": "chat", "public_ip": {"address": "203.0.113.90"}, "public_ips_v4": [{"address": "203.0.113.90"}], "public_ips_v6": [{"address": "2001:db8::90"}], "ipv6": null}"#;
    let rows = [
        ("GET /conf?format=json ", "", ok(document)),
        ("GET /user_data/cloud-init ", "", ok(OURS)),
    ];
    let mut found = play(Service::Scaleway, &rows).expect("found");
    if found.config.is_none() {
        // Who runs the tests without rights binds no such port.
        assert!(
            found.notes[0].contains("user-data cannot be had"),
            "{found:?}"
        );
        found.notes.clear();
        found = found.with_user_data(OURS.as_bytes());
    }
    ours(&found);
    assert_eq!(
        texts(&found.public_addresses),
        ["203.0.113.90", "2001:db8::90"]
    );
}

#[test]
fn a_service_that_fails_is_a_sentence() {
    for service in [
        Service::Aws,
        Service::Azure,
        Service::DigitalOcean,
        Service::Google,
        Service::Hetzner,
        Service::Linode,
        Service::OpenStack,
        Service::Oracle,
        Service::Scaleway,
        Service::Vultr,
    ] {
        for answer in [
            "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
            "nonsense\r\n\r\n",
            "",
        ] {
            let why = play(service, &[("", "", answer.to_owned())]).expect_err("a failure");
            assert!(
                why.starts_with(&format!("{} cannot be used: ", service.origin())),
                "{why}"
            );
        }
        let addresses = service.addresses(3);
        assert!(addresses.iter().all(|address| address.port() == 80));
    }
    let SocketAddr::V6(first) = Service::Hetzner.addresses(3)[0] else {
        panic!("IPv6 comes first");
    };
    assert_eq!(
        (first.ip().to_string().as_str(), first.scope_id()),
        ("fe80::a9fe:a9fe", 3)
    );
}
