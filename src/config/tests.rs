//! What is accepted, what is refused, and in which words.

use std::fs;

use super::*;

fn machine() -> Machine {
    Machine::of_memory(1 << 30)
}

fn refusal(text: &str) -> String {
    Config::parse(text, &machine())
        .expect_err("this must be refused")
        .to_string()
}

#[test]
fn a_domain_is_enough() {
    let config = Config::parse("domain = \"Chat.Example\"", &machine()).expect("valid");
    assert_eq!(config.domain, "chat.example");
    assert_eq!(config, Config::of_domain("chat.example", &machine()));
    assert_eq!(config.listen.c2s[0].to_string(), "[::]:5222");
    assert_eq!(config.limits.stanza_bytes, 262_144);
}

#[test]
fn the_printed_defaults_are_the_defaults() {
    for memory_bytes in [128 << 20, 1 << 30, 64 << 30] {
        let machine = Machine::of_memory(memory_bytes);
        let text = defaults(&machine);
        let parsed = Config::parse(&text, &machine).expect("our own text");
        assert_eq!(parsed, Config::of_domain("chat.example", &machine));
        // Every key is there: with its value, or commented out where there is none.
        for section in keys::SECTIONS {
            for key in section.keys {
                assert!(text.contains(&format!("{} =", key.name)), "{}", key.name);
            }
        }
    }
}

#[test]
fn the_network_and_the_time_servers_of_a_machine_are_checked() {
    let with = |more: &str| format!("domain = \"chat.example\"\n{more}\n");
    let text = "[network]\naddresses = [\"192.0.2.5/24\"]\ngateways = [\"192.0.2.1\"]\n\
                resolvers = [\"2001:db8::53\"]\n[time]\nservers = [\"ntp.example\", \"192.0.2.1\"]";
    let config = Config::parse(&with(text), &machine()).expect("valid");
    assert_eq!(config.time.servers, ["ntp.example", "192.0.2.1"]);
    for (text, why) in [
        (
            "[network]\naddresses = [\"192.0.2.5\"]",
            "line 3: network.addresses \"192.0.2.5\" is no address",
        ),
        (
            "[network]\ngateways = [\"192.0.2.1\"]",
            "network.gateways 192.0.2.1 is of no use",
        ),
        ("[network]\ngateways = [\"nowhere\"]", "network.gateways"),
        (
            "[network]\nresolvers = [\"192.0.2.53\"]",
            "network.resolvers are of no use",
        ),
        (
            "[time]\nservers = [\"--help\"]",
            "time.servers \"--help\" is neither",
        ),
        (
            "time.servers = [\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\"]",
            "time.servers has 9 entries",
        ),
        ("time.server = [\"a\"]", "did you mean time.servers"),
    ] {
        let refusal = refusal(&with(text));
        assert!(refusal.contains(why), "{refusal}");
    }
}

#[test]
fn the_example_of_the_manual_is_understood() {
    let text = r#"
domain = "chat.example"
[listen]
c2s = ["[::]:5222"]
c2s_tls = ["127.0.0.1:0", "[::1]:0"]
[tls]
certificate = "cert.pem"
key = "key.pem"
[store]
path = "data/cairn.log"
[auth]
store = "argon2id"
[registration]
mode = "open"
[contact]
abuse = ["mailto:abuse@chat.example", "xmpp:abuse@chat.example"]
[limits]
stanza_bytes = 100000
accepts_per_address_per_minute = 0
[log]
level = "debug"
format = "json"
"#;
    let config = Config::parse(text, &machine()).expect("valid");
    assert_eq!(config.auth.store, CredentialKind::Argon2id);
    assert_eq!(config.registration.mode, RegistrationMode::Open);
    assert_eq!(config.limits.stanza_bytes, 100_000);
    assert_eq!(config.limits.accepts_per_address_per_minute, 0);
    assert_eq!(config.contact.abuse.len(), 2);
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    for (text, said) in [
        (
            "domian = \"a.example\"",
            "line 1: domian is not a key; did you mean domain?",
        ),
        (
            "domain = \"a.example\"\n\n[listen]\nc2s_tsl = []",
            "line 4: listen.c2s_tsl is not a key; did you mean listen.c2s_tls?",
        ),
        (
            "domain = \"a.example\"\n[limit]\nstanza_bytes = 1",
            "line 2: limit is not a key; did you mean limits?",
        ),
        (
            "domain = \"a.example\"\nstanza_bytes = 5",
            "line 2: stanza_bytes is not a key; did you mean limits.stanza_bytes?",
        ),
        (
            "domain = \"a.example\"\n[log]\ncolour_of_the_bikeshed = 1",
            "line 3: log.colour_of_the_bikeshed is not a key; `cairn config defaults` shows all of them",
        ),
    ] {
        assert_eq!(refusal(text), said);
    }
}

#[test]
fn an_invalid_value_is_named_with_its_line_and_what_to_do() {
    for (text, said) in [
        ("[listen]", "domain is missing"),
        (
            "domain = \"a@b.example\"",
            "line 1: domain must be a bare domain",
        ),
        ("domain = \"a b\"", "line 1: domain \"a b\" is no domain"),
        (
            "domain = 5",
            "line 1: domain: invalid type: integer `5`, expected a string",
        ),
        (
            "domain = \"a.example\"\n[registration]\nmode = \"opne\"",
            "line 3: registration.mode: unknown variant `opne`, expected `closed` or `open`",
        ),
        (
            "domain = \"a.example\"\n[listen]\nc2s = [\"5222\"]",
            "line 3: listen.c2s: invalid socket address syntax",
        ),
        (
            "domain = \"a.example\"\n[limits]\nping_s = -1",
            "line 3: limits.ping_s: invalid value: integer `-1`, expected a whole number",
        ),
        (
            "domain = \"a.example\"\n[limits]\nstanza_bytes = 500",
            "line 3: limits.stanza_bytes must be 10000 or more (RFC 6120 §13.12)",
        ),
        (
            "domain = \"a.example\"\n[limits]\nauthentication_attempts = 1",
            "line 3: limits.authentication_attempts must be 2 or more (RFC 6120 §6.4.5)",
        ),
        (
            "domain = \"a.example\"\n[limits]\nconnections = 0",
            "line 3: limits.connections must be 1 or more",
        ),
        (
            "domain = \"a.example\"\n[auth]\nscram_iterations = 1",
            "line 3: auth.scram_iterations must be between 4096",
        ),
        (
            "domain = \"a.example\"\n[tls]\nkey = \"key.pem\"",
            "line 2: tls needs both certificate and key",
        ),
        (
            "domain = \"a.example\"\n[contact]\nabuse = [\"abuse@a.example\"]",
            "line 3: contact.abuse \"abuse@a.example\" is no URI; write \"mailto:…\"",
        ),
        (
            "domain = \"a.example\"\nlisten = 4",
            "line 2: listen: invalid type: integer `4`, expected a section;",
        ),
        (
            "domain = \"a.example\"\n[listen]\nc2s = \"[::]:5222\"",
            "expected a list",
        ),
        (
            "domain = \"a.example\"\n[store]\npath = \"\"",
            "line 3: store.path must be the path of a file",
        ),
        (
            "domain = \"a.example\"\n[tls]\nkey = \"\"\ncertificate = \"c.pem\"",
            "line 3: tls.key must be the path of a file",
        ),
        ("domain = ", "line 1: "),
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains(said), "{refusal}");
        assert!(!refusal.contains('\n'), "{refusal}");
    }
}

#[test]
fn paths_are_relative_to_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cairn.toml");
    fs::write(
        &file,
        "domain = \"a.example\"\n[tls]\ncertificate = \"c.pem\"\nkey = \"/k.pem\"",
    )
    .expect("writable");
    let config = Config::load(Some(&file), &machine()).expect("valid");
    assert_eq!(config.store.path, folder.path().join("data/cairn.log"));
    assert_eq!(config.tls.certificate, Some(folder.path().join("c.pem")));
    assert_eq!(config.tls.key, Some(PathBuf::from("/k.pem")));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let missing = Path::new("/nowhere/cairn.toml");
    let said = Config::load(Some(missing), &machine()).expect_err("missing");
    assert!(
        said.to_string()
            .starts_with("/nowhere/cairn.toml: there is no such file: write one")
    );
}

#[test]
fn the_derived_limits_fit_every_machine_with_both_kinds_of_credentials() {
    for memory_bytes in [96 << 20, 128 << 20, 512 << 20, 1 << 30, 24 << 30, 1 << 40] {
        let machine = Machine::of_memory(memory_bytes);
        for store in ["scram", "argon2id"] {
            let text = format!("domain = \"a.example\"\n[auth]\nstore = \"{store}\"");
            let config = Config::parse(&text, &machine).expect("valid");
            let admission = config.admission(&machine);
            admission.check().expect("derived from this machine");
        }
    }
    let small = Config::of_domain("a.example", &Machine::of_memory(128 << 20));
    assert!(
        small.limits.connections >= 1_000,
        "{}",
        small.limits.connections
    );
}

#[test]
fn limits_that_the_store_could_not_read_back_are_refused() {
    for (key, most) in [
        ("stanza_bytes", 8 << 20),
        ("stanza_depth", 120),
        ("stanza_elements", 1_000_000),
        ("element_attributes", 180),
        ("name_bytes", 4_096),
        ("attribute_bytes", 8 << 20),
    ] {
        let text = |value: usize| {
            let queues = "inbound_bytes = 16777218\nsession_queue_bytes = 16777218\n\
                          outbound_bytes = 33554436";
            format!("domain = \"a.example\"\n[limits]\n{queues}\n{key} = {value}")
        };
        Config::parse(&text(most), &machine()).expect("the largest");
        let said = refusal(&text(most + 1));
        let begins = format!("line 6: limits.{key} must be {most} or less");
        assert!(said.starts_with(&begins), "{said}");
    }
}

#[test]
fn numbers_beyond_all_bounds_are_refused_and_not_wrapped() {
    for section in keys::SECTIONS
        .iter()
        .filter(|section| section.name == "limits")
    {
        for key in section.keys {
            for value in [i64::MAX, i64::MAX / 2, i64::from(u32::MAX)] {
                let text = format!("domain = \"a.example\"\n[limits]\n{} = {value}", key.name);
                if let Ok(config) = Config::parse(&text, &machine()) {
                    let admission = config.admission(&machine());
                    drop((admission.check(), admission.to_string()));
                }
            }
        }
    }
    for key in [
        "connections",
        "accounts",
        "argon2_concurrent",
        "inbound_bytes",
    ] {
        let text = format!("domain = \"a.example\"\n[limits]\n{key} = {}", i64::MAX);
        let config = Config::parse(&text, &machine()).expect("valid in itself");
        config.admission(&machine()).check().expect_err(key);
    }
}

#[test]
fn the_memory_for_passwords_is_counted_whatever_new_ones_are_kept_as() {
    for store in ["scram", "argon2id"] {
        let text = format!(
            "domain = \"a.example\"\n[auth]\nstore = \"{store}\"\n[limits]\nargon2_concurrent = 3"
        );
        let config = Config::parse(&text, &machine()).expect("valid");
        let items = config.admission(&machine()).items;
        assert!(
            items.contains(&("checking passwords", 3 * (19 << 20))),
            "{items:?}"
        );
    }
}

#[test]
fn too_much_for_the_machine_is_refused_in_one_sentence() {
    let machine = Machine::of_memory(256 << 20);
    let text = "domain = \"a.example\"\n[limits]\nconnections = 50000";
    let config = Config::parse(text, &machine).expect("valid in itself");
    let said = config.admission(&machine).check().expect_err("879 MiB");
    assert!(said.contains("connections (878.9 MiB)"), "{said}");
    let machine = Machine {
        files_max: 1024,
        ..Machine::of_memory(8 << 30)
    };
    let config = Config::parse(text, &machine).expect("valid in itself");
    let said = config
        .admission(&machine)
        .check()
        .expect_err("too few files");
    assert!(said.contains("LimitNOFILE"), "{said}");
    let derived = Config::of_domain("a.example", &machine);
    assert_eq!(derived.limits.connections, 960);
}

#[test]
fn an_authority_needs_a_place_to_look_at() {
    let machine = Machine::of_memory(1 << 30);
    let of = |text: &str| Config::parse(&format!("domain = \"a.example\"\n{text}"), &machine);
    let url = |text: &str| of(text).map(|config| config.acme.url().map(str::to_owned));
    let http = "[listen]\nhttp = [\"[::]:80\"]\n[acme]\n";
    let url_of = |key: &str| url(&format!("{http}{key}"));
    assert_eq!(url(""), Ok(None));
    let lets_encrypt = url_of("directory = \"letsencrypt\"").expect("valid");
    assert!(lets_encrypt.is_some_and(|url| url.starts_with("https://")));
    for (wrong, why) in [
        (
            "[acme]\ndirectory = \"letsencrypt\"".to_owned(),
            "needs [listen] http",
        ),
        (
            format!("{http}directory = \"http://ca.example/\""),
            "no directory",
        ),
        (format!("{http}directory = \"https://\""), "no directory"),
        (format!("{http}contact = \"admin@a.example\""), "mailto:"),
        (
            format!("{http}contact = \"mailto:a@a.example,b@a.example\""),
            "mailto:",
        ),
    ] {
        let error = of(&wrong).expect_err("it is refused").to_string();
        assert!(error.contains(why), "{wrong}: {error}");
    }
}

#[test]
fn the_defaults_fit_small_machines_that_administrators_reach() {
    for mib in 105..400 {
        let machine = Machine::of_memory(mib << 20);
        let text = "domain = \"a.example\"\n[listen]\nhttps = [\"[::]:443\"]\n";
        let config = Config::parse(text, &machine).expect("it is valid");
        let fits = config.admission(&machine).check();
        assert_eq!(fits, Ok(()), "{mib} MiB");
        // The image of 128 MiB leaves Linux 109.
        assert!(mib < 109 || config.limits.connections > 1_000, "{mib} MiB");
    }
}

#[test]
fn a_host_says_what_is_different_from_the_first_domain() {
    let text = r#"
domain = "chat.example"
[registration]
mode = "open"
[contact]
abuse = ["mailto:abuse@chat.example"]
[auth]
scram_iterations = 20000
[[host]]
domain = "Other.Example."
certificate = "other.pem"
key = "other.key"
[host.registration]
mode = "closed"
[host.contact]
abuse = ["mailto:abuse@other.example"]
[[host]]
domain = "xn--bcher-kva.example"
auth.store = "argon2id"
"#;
    let mut config = Config::parse(text, &machine()).expect("valid");
    let served = config.served();
    let domains: Vec<&str> = served.iter().map(|host| host.domain.as_str()).collect();
    assert_eq!(
        domains,
        ["chat.example", "other.example", "b\u{fc}cher.example"]
    );
    assert!(config.serves("other.example") && !config.serves("third.example"));
    let [first, other, third] = &served[..] else {
        panic!("three domains");
    };
    assert_eq!(first.registration.mode, RegistrationMode::Open);
    assert_eq!(other.registration.mode, RegistrationMode::Closed);
    assert_eq!(other.contact.abuse, ["mailto:abuse@other.example"]);
    assert_eq!(other.auth, first.auth);
    assert_eq!(third.registration, first.registration);
    assert_eq!(third.auth.store, CredentialKind::Argon2id);
    assert_eq!(third.auth.scram_iterations, 20_000);
    assert_eq!(third.tls.certificate, None);
    config.resolve_paths(Path::new("/etc/cairn"));
    let certificate = config.hosts[0].tls.certificate.as_deref();
    assert_eq!(certificate, Some(Path::new("/etc/cairn/other.pem")));
}

#[test]
fn the_value_of_host_is_one_that_can_be_set() {
    let text = "domain = \"a.example\"\n[[host]]\ndomain = \"b.example\"\nauth.scram_sha1 = false\n\
                contact.abuse = [\"mailto:a@b.example\"]\n[[host]]\ndomain = \"c.example\"\n\
                certificate = \"/c.pem\"\nkey = \"/c.key\"\nregistration.mode = \"open\"\n";
    let config = Config::parse(text, &machine()).expect("valid");
    let values = config.values();
    let value = values.iter().find(|(name, _)| name == "host");
    let value = value.and_then(|(_, value)| value.as_deref());
    let again = format!(
        "domain = \"a.example\"\nhost = {}",
        value.expect("a list of hosts")
    );
    assert_eq!(Config::parse(&again, &machine()).expect(&again), config);
    let none = Config::of_domain("a.example", &machine());
    let value = none.values().into_iter().find(|(name, _)| name == "host");
    assert_eq!(value, Some(("host".to_owned(), Some("[]".to_owned()))));
}

#[test]
fn a_host_that_cannot_be_is_named_with_its_line() {
    for (hosts, said) in [
        (
            "[[host]]\nkey = \"k.pem\"",
            "line 2: [[host]] needs a domain",
        ),
        (
            "[[host]]\ndomain = \"A.example\"",
            "line 2: [[host]] a.example is there twice",
        ),
        (
            "[[host]]\ndomain = \"b.example\"\n[[host]]\ndomain = \"B.EXAMPLE.\"",
            "line 4: [[host]] b.example is there twice",
        ),
        (
            "[[host]]\ndomain = \"c@b.example\"",
            "line 2: [[host]] domain must be a bare domain",
        ),
        (
            "[[host]]\ndomain = \"b.example\"\nkey = \"k.pem\"",
            "line 2: [[host]] b.example: tls needs both certificate and key",
        ),
        (
            "[[host]]\ndomain = \"b.example\"\n[host.auth]\nscram_iterations = 1",
            "line 2: [[host]] b.example: auth.scram_iterations must be between 4096",
        ),
        (
            "[[host]]\ndomian = \"b.example\"",
            "line 3: host.domian is not a key; did you mean host.domain?",
        ),
        (
            "[[host]]\ndomain = \"b.example\"\nregistration.mod = \"open\"",
            "line 4: host.registration.mod is not a key; did you mean host.registration.mode?",
        ),
        (
            "[[host]]\ndomain = \"b.example\"\n[host.limits]\nping_s = 1",
            "line 4: host.limits is not a key",
        ),
        (
            "[host]\ndomain = \"b.example\"",
            "line 2: host: invalid type",
        ),
    ] {
        let refusal = refusal(&format!("domain = \"a.example\"\n{hosts}"));
        assert!(refusal.starts_with(said), "{refusal}");
        assert!(!refusal.contains('\n'), "{refusal}");
    }
    let hosts = |count: usize| {
        let each = |n| format!("[[host]]\ndomain = \"h{n}.example\"\n");
        (0..count).map(each).collect::<String>()
    };
    let text = |count| format!("domain = \"a.example\"\n{}", hosts(count));
    let most = Config::parse(&text(DOMAINS_MAX - 1), &machine()).expect("as many as may be");
    assert_eq!(most.served().len(), DOMAINS_MAX);
    let said = refusal(&text(DOMAINS_MAX));
    assert!(said.contains("is there more than 63 times"), "{said}");
}

#[test]
fn components_have_domains_of_their_own_and_secrets() {
    let machine = Machine::of_memory(1 << 30);
    let of = |entries: &str| {
        let text = format!("domain = \"A.example\"\n{entries}");
        Config::parse(&text, &machine)
    };
    let text = "[[host]]\ndomain = \"Host.example\"\n\
                [[component]]\ndomain = \"Gateway.A.example\"\nsecret = \"s\"\n";
    let config = of(text).expect("it is valid");
    assert_eq!(config.component[0].domain.as_str(), "gateway.a.example");
    assert!(config.component[0].secret().is_ok());
    assert!(config.listen.component.is_empty(), "no listener of itself");
    for (entry, why) in [
        ("domain = \"b.example\"", "needs a secret"),
        ("domain = \"b.example\"\nsecret = \"\"", "needs a secret"),
        (
            "domain = \"b.example\"\nsecret_file = \"\"",
            "needs a secret",
        ),
        (
            "domain = \"b.example\"\nsecret = \"s\"\nsecret_file = \"f\"",
            "both",
        ),
        ("domain = \"x@b.example\"\nsecret = \"s\"", "no domain"),
        ("domain = \"a.EXAMPLE\"\nsecret = \"s\"", "own domain"),
        ("domain = \"host.example\"\nsecret = \"s\"", "own domain"),
        ("domain = \"gateway.a.example\"\nsecret = \"s\"", "twice"),
        ("domain = \"b.example\"\nsecrets = \"s\"", "secrets"),
        ("secret = \"s\"", "domain"),
    ] {
        let error = of(&format!("{text}[[component]]\n{entry}\n"));
        let error = error.expect_err(entry);
        assert!(error.message.contains(why), "{entry}: {error}");
        assert!(error.line.is_some(), "{entry}: {error}");
    }
}

#[test]
fn a_component_may_have_its_secret_in_a_file() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("cairn.toml");
    let text =
        "domain = \"a.example\"\n[[component]]\ndomain = \"b.example\"\nsecret_file = \"s\"\n";
    fs::write(&path, text).expect("it is ours");
    let machine = Machine::of_memory(1 << 30);
    let config = Config::load(Some(&path), &machine).expect("it is valid");
    let secret = || config.component[0].secret();
    let error = secret().expect_err("there is none");
    assert!(error.contains("secret_file"), "{error}");
    let file = folder.path().join("s");
    fs::write(&file, "\n").expect("it is ours");
    let error = secret().expect_err("it is empty");
    assert!(error.contains("empty"), "{error}");
    fs::write(&file, "sesame \r\n").expect("it is ours");
    let expected = crate::stream::component::Secret::new("sesame ".to_owned());
    assert_eq!(secret().ok(), expected);
}
