//! The network of the tests itself: what it counts, and that nothing of it stays.

use std::fs;
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::scenario::chat;
use crate::peers::ca::Order;
use crate::peers::raw::SERVER;
use crate::peers::{
    Ca, CairnPeer, Dns, Ejabberd, Names, Net, PATIENCE, Person, Process, Prosody, RawPeer, Usage,
    Zone,
};
use crate::support::ns;

/// Processes of this machine that are in one of these namespaces.
fn processes_in(identities: &[String]) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("it is there").flatten();
    let in_one = entries.filter(|entry| {
        let link = fs::read_link(entry.path().join("ns/net"));
        link.is_ok_and(|link| identities.contains(&link.display().to_string()))
    });
    let commands = in_one.map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ")
    });
    commands.collect()
}

/// Waits until there is none, as the kernel ends them one after another.
#[track_caller]
fn until_none_is_in(identities: &[String]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = processes_in(identities);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still there: {left:#?}");
        nix::poll::poll(&mut [], 20_u16).expect("nothing to wait on");
    }
}

#[test]
fn nothing_of_a_network_stays_behind() {
    Net::run(|net| {
        let ca = Ca::new("Authority of a test");
        let dns = Dns::start(net, &Zone::new());
        let prosody = Prosody::start(net.place("prosody"), "prosody.test", &ca, &["romeo"]);
        let ejabberd = Ejabberd::start(net.place("ejabberd"), "ejabberd.test", &ca, &[]);
        let place = net.place("romeo");
        let person = Person::log_in(&place, "romeo@prosody.test", prosody.place.v4.into());
        let places = [&prosody.place, &ejabberd.place, &dns.place, &place];
        let identities = places.map(|place| place.identity());
        let folders = places.map(|place| place.folder().to_owned());
        assert!(processes_in(&identities).len() >= 8);
        drop((person, prosody, ejabberd, dns, place));
        until_none_is_in(&identities);
        for folder in folders {
            assert!(!folder.exists(), "{} is still there", folder.display());
        }
    });
}

#[test]
fn what_runs_in_a_place_ends_with_its_test_however_that_ends() {
    Net::run(|net| {
        let place = net.place("place");
        let identities = [place.identity()];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut command = place.command("sh");
                command.args(["-c", "cat <&0 & sh -c 'cat; :' & echo begun; cat"]);
                let process = Process::start("cats", command);
                process.wait_for("begun");
                assert!(processes_in(&identities).len() >= 4);
                // Nobody looks after it any more when this thread ends.
                std::mem::forget(process);
            });
        });
        until_none_is_in(&identities);
    });
}

/// Namespaces last no longer than who holds them; folders do.
#[test]
fn the_next_test_removes_the_folders_of_one_that_was_killed() {
    Net::run(|net| {
        let mut child = std::process::Command::new("true").spawn().expect("it runs");
        let left = format!("cairn-peers-{}-left", child.id());
        child.wait().expect("it ends");
        let left = std::env::temp_dir().join(left);
        fs::create_dir_all(left.join("data")).expect("a folder");
        let place = net.place("place");
        // Somebody uses it whose number is another here.
        let lock = fs::File::open(&left).expect("it is there");
        lock.lock().expect("nobody else has it");
        Net::run(|_| {});
        assert!(left.exists(), "it is in use");
        drop(lock);
        Net::run(|_| {});
        assert!(!left.exists(), "{} is still there", left.display());
        assert!(place.folder().exists());
    });
}

#[test]
fn what_leaves_a_place_is_counted() {
    Net::run(|net| {
        let (quiet, busy) = (net.place("quiet"), net.place("busy"));
        let (before, of_busy) = (quiet.counters(), busy.counters());
        assert_eq!(of_busy.tcp_opened + of_busy.udp_sent, 0);
        let listener = busy.inside(|| std::net::TcpListener::bind("[::]:80").expect("it is free"));
        busy.inside(|| {
            for to in ["192.0.2.53:53", "[2001:db8::35]:53", "198.51.100.7:53"] {
                let any = if to.starts_with('[') {
                    "[::]:0"
                } else {
                    "0.0.0.0:0"
                };
                let socket = UdpSocket::bind(any).expect("a port");
                socket
                    .send_to(b"where?", to)
                    .expect("it is sent into the void");
            }
            // Nobody answers: beyond the switch there is nothing.
            let nowhere = "198.51.100.7:5269".parse().expect("an address");
            let attempt = TcpStream::connect_timeout(&nowhere, Duration::from_millis(300));
            assert!(attempt.is_err());
        });
        let spent = busy.counters().since(of_busy);
        assert_eq!((spent.tcp_opened, spent.udp_sent), (1, 3), "{spent:?}");
        assert!(spent.frames_sent > 0);
        // Who is called opens nothing.
        let of_busy = busy.counters();
        let address = busy.socket(80);
        assert!(!quiet.is_connected_to(&busy));
        let socket = quiet.inside(|| TcpStream::connect(address).expect("it listens"));
        assert!(quiet.is_connected_to(&busy) && busy.is_connected_to(&quiet));
        drop((socket, listener));
        assert!(!quiet.is_connected_to(&busy));
        assert_eq!(busy.counters().since(of_busy).tcp_opened, 0);
        let spent = quiet.counters().since(before);
        assert_eq!((spent.tcp_opened, spent.udp_sent), (1, 0), "{spent:?}");
    });
}

#[test]
fn a_place_that_is_cut_hears_nothing_until_it_is_mended() {
    Net::run(|net| {
        let (one, other) = (net.place("one"), net.place("other"));
        let port = 5_000;
        let to = other.socket(port);
        let inbox = other.inside(|| UdpSocket::bind(to).expect("it is free"));
        let outbox = one.inside(|| UdpSocket::bind(one.socket(port)).expect("it is free"));
        let hear = |within: Duration| {
            inbox.set_read_timeout(Some(within)).expect("a socket");
            let mut buffer = [0; 8];
            let read = inbox.recv(&mut buffer).ok()?;
            Some(buffer[..read].to_vec())
        };
        outbox.send_to(b"one", to).expect("it is sent");
        assert_eq!(hear(PATIENCE).as_deref(), Some(&b"one"[..]));
        other.cut();
        outbox.send_to(b"two", to).expect("it is sent");
        assert_eq!(hear(Duration::from_millis(300)), None);
        other.mend();
        outbox.send_to(b"three", to).expect("it is sent");
        assert_eq!(hear(PATIENCE).as_deref(), Some(&b"three"[..]));
    });
}

#[test]
fn names_change_while_the_test_runs() {
    Net::run(|net| {
        let (one, other) = (net.place("one"), net.place("other"));
        let dns = Dns::start(net, &Zone::new().host("moving.test", &one));
        let address = |name: &str| {
            let said = one.run("getent", &["ahostsv4", name]);
            said.split_whitespace().next().map(str::to_owned)
        };
        assert_eq!(address("moving.test"), Some(one.v4.to_string()));
        dns.set(&Zone::new().host("moving.test", &other));
        assert_eq!(address("moving.test"), Some(other.v4.to_string()));
        let anchor = dns.trust_anchor();
        assert!(anchor.starts_with(". IN DNSKEY 257 3 13 "), "{anchor}");
        // Another one takes its place at once.
        drop(dns);
        let dns = Dns::start(net, &Zone::new().host("moving.test", &one));
        assert_eq!(address("moving.test"), Some(one.v4.to_string()));
        assert_ne!(dns.trust_anchor(), anchor);
    });
}

#[test]
fn certificates_are_what_was_ordered() {
    let ca = Ca::new("Authority of a test");
    let order = |names, usage, expired| Order {
        names,
        usage,
        expired,
        ..Order::of("peer.test")
    };
    let name = b"peer.test";
    let service = [&[0x16, 22][..], b"_xmpp-server.peer.test"].concat();
    let address = [&[0x0c, 9][..], name].concat();
    for (ordered, expected) in [
        (order(Names::Dns, Usage::Both, true), &name[..]),
        (order(Names::Srv, Usage::ServerOnly, false), &service),
        (order(Names::XmppAddr, Usage::Both, false), &address),
    ] {
        let der = ca.issue(&ordered).chain_der().remove(0);
        let (_, certificate) = X509Certificate::from_der(&der).expect("it is DER");
        assert_eq!(certificate.validity().is_valid(), !ordered.expired);
        let usage = certificate.extended_key_usage().expect("once at most");
        let usage = usage.expect("it is for something").value;
        assert!(usage.server_auth);
        assert_eq!(usage.client_auth, ordered.usage == Usage::Both);
        let names = certificate
            .subject_alternative_name()
            .expect("once at most");
        let names = &names.expect("it names somebody").value.general_names;
        let found = match &names[..] {
            [GeneralName::DNSName(name)] => name.as_bytes(),
            // Inside of the explicit tag.
            [GeneralName::OtherName(_, value)] => &value[2..],
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected);
    }
}

#[test]
fn people_on_a_cairn_in_a_place_of_its_own_write_to_each_other() {
    Net::run(|net| {
        let ca = Ca::new("Authority of a test");
        let leaf = ca.leaf("cairn.test");
        let accounts = ["romeo", "juliet"];
        let mut cairn = CairnPeer::prepare(net.place("cairn"), "cairn.test", &leaf, &accounts);
        cairn.run();
        let place = net.place("people");
        let mut romeo = Person::online(&place, "romeo@cairn.test", cairn.place.v4.into());
        let mut juliet = Person::online(&place, "juliet@cairn.test", cairn.place.v6.into());
        chat(&mut romeo, &mut juliet);
        // It calls nobody.
        let spent = cairn.place.counters();
        assert_eq!((spent.tcp_opened, spent.udp_sent), (0, 0), "{spent:?}");
        assert!(cairn.resident_bytes() > 1 << 20);
        romeo.log_out();
    });
}

#[test]
fn a_peer_that_the_test_plays_is_believed_by_prosody() {
    Net::run(|net| {
        let ca = Ca::new("Authority of a test");
        let place = net.place("prosody");
        let prosody = Prosody::start(place, "prosody.test", &ca, &["romeo"]);
        let leaf = ca.leaf("played.test");
        let played = RawPeer::listen(net.place("played"), "played.test", &leaf);
        let zone = Zone::new()
            .server("prosody.test", &prosody.place)
            .server("played.test", &played.place);
        let _dns = Dns::start(net, &zone);
        let place = &prosody.place;
        let mut romeo = Person::online(place, "romeo@prosody.test", place.v4.into());
        let address = prosody.place.socket(5269);
        let mut wire = played.call_authenticated(address, "prosody.test");
        wire.send(
            "<message from='nurse@played.test' to='romeo@prosody.test' type='chat' id='n1'>\
             <body>O honey nurse</body></message>",
        );
        romeo.hear("O honey nurse");
        romeo.say("nurse@played.test", "n2", "What news?");
        let mut answer = played.accept_authenticated();
        let message = answer.element();
        assert!(message.is("message", SERVER), "{message}");
        assert_eq!(message.attr("id"), Some("n2"));
        // Nobody is believed to be somebody else (RFC 6120 §8.1.2.2).
        wire.send("<message from='nurse@other.test' to='romeo@prosody.test'/>");
        let error = wire.element();
        assert!(error.is("error", ns::STREAM), "{error}");
    });
}
