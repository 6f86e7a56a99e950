//! The command line as an operator meets it: output, exit codes, sentences.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use cairn::net::certificate::Pem;

/// A folder with a configuration.
struct Place(tempfile::TempDir);

impl Place {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("cairn.toml"), config).expect("writable");
        Self(folder)
    }

    fn run(&self, line: &str, input: &str) -> Output {
        run(self.0.path(), line, input)
    }

    /// The output of a command that succeeds.
    fn done(&self, line: &str, input: &str) -> String {
        let output = self.run(line, input);
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The sentence of a command that fails with `code`.
    fn refused(&self, code: i32, line: &str, input: &str) -> String {
        let output = self.run(line, input);
        let sentence = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {sentence}");
        assert_eq!(
            sentence.trim_end().lines().count(),
            1,
            "one sentence: {sentence}"
        );
        sentence
    }
}

fn run(folder: &Path, line: &str, input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cairn"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A command that refuses early does not read its input.
    drop(
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(input.as_bytes()),
    );
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

const MINIMAL: &str = "domain = \"chat.example\"\n";

#[test]
fn accounts_are_kept_from_one_command_to_the_next() {
    let place = Place::new(MINIMAL);
    assert_eq!(place.done("user list", ""), "");
    place.done("user add --password-stdin alice@chat.example", "a pencil\n");
    place.done("user add --password-stdin bob", "of paper\n");
    assert_eq!(
        place.done("user list", ""),
        "alice@chat.example\nbob@chat.example\n"
    );
    let said = place.refused(
        1,
        "user add --password-stdin alice@chat.example",
        "a pencil\n",
    );
    assert!(said.contains("exists already"), "{said}");
    place.done("user passwd --password-stdin alice", "a brush!\n");
    place.done("user remove alice", "");
    assert_eq!(place.done("user list", ""), "bob@chat.example\n");
    assert!(place.0.path().join("data/cairn.log").exists());
}

#[test]
fn a_name_that_looks_like_another_is_not_added() {
    let place = Place::new(MINIMAL);
    place.done("user add --password-stdin müller", "a pencil\n");
    // Latin letters with one of Cyrillic among them.
    let said = place.refused(1, "user add --password-stdin pаypal", "a pencil\n");
    assert!(said.contains("could be taken for another"), "{said}");
    assert_eq!(place.done("user list", ""), "müller@chat.example\n");
}

#[test]
fn an_export_creates_the_accounts_elsewhere() {
    let (here, there) = (Place::new(MINIMAL), Place::new(MINIMAL));
    here.done("user add --password-stdin alice", "a pencil\n");
    let export = here.done("store export", "");
    assert!(!export.contains("a pencil"));
    let said = there.done("store import -", &export);
    assert!(said.starts_with("1 accounts"), "{said}");
    assert_eq!(there.done("user list", ""), "alice@chat.example\n");
}

#[test]
fn without_a_terminal_a_password_comes_from_standard_input() {
    let place = Place::new(MINIMAL);
    let said = place.refused(1, "user add alice", "a pencil\n");
    assert!(said.contains("--password-stdin"), "{said}");
    let said = place.refused(1, "user add --password-stdin alice", "");
    assert!(said.contains("holds no password"), "{said}");
}

#[test]
fn a_password_without_end_is_not_read_to_its_end() {
    let place = Place::new(MINIMAL);
    let endless = "a".repeat(1 << 20);
    let said = place.refused(1, "user add --password-stdin alice", &endless);
    assert!(said.contains("longer than 1024 bytes"), "{said}");
}

#[test]
fn an_import_that_cannot_be_read_is_told_in_words() {
    let place = Place::new(MINIMAL);
    place.done("user add --password-stdin alice", "a pencil\n");
    let nested = format!(
        "<server-data xmlns='urn:xmpp:pie:0'>{}",
        "<a>".repeat(10_000)
    );
    for (document, why) in [
        ("nonsense", "not well-formed XML"),
        ("<!DOCTYPE x><x/>", "XML that XMPP does not allow"),
        (&*nested, "nested too deep"),
        ("<a/>", "instead of <server-data/>"),
    ] {
        let said = place.refused(1, "store import -", document);
        assert!(said.contains(why), "{said}");
    }
    let said = place.refused(1, "store import .", "");
    assert!(said.contains("Is a directory"), "{said}");
}

#[test]
fn a_broken_configuration_is_exit_code_3() {
    let place = Place::new("domain = \"chat.example\"\n[listen]\nc2ss = []\n");
    for line in ["config check", "user list", "serve"] {
        let said = place.refused(3, line, "");
        assert!(
            said.contains("cairn.toml: line 3: listen.c2ss is not a key"),
            "{said}"
        );
        assert!(said.contains("listen.c2s?"), "{said}");
    }
    let said = place.refused(3, "--config other.toml config check", "");
    assert!(said.contains("other.toml"), "{said}");
}

#[test]
fn no_configuration_is_told_with_what_to_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(folder.path(), "config check", "");
    // A machine that serves has one in /etc.
    if !Path::new("/etc/cairn/cairn.toml").exists() {
        assert_eq!(output.status.code(), Some(3));
        assert!(text(&output.stderr).contains("domain = "));
    }
}

#[test]
fn the_printed_defaults_are_a_valid_configuration() {
    let defaults = Place::new(MINIMAL).done("config defaults", "");
    let said = Place::new(&defaults).done("config check", "");
    assert!(said.contains("the configuration is valid"), "{said}");
    assert!(said.contains("together"), "{said}");
}

#[test]
fn a_check_tells_where_the_server_will_listen() {
    let config = "domain = \"a.example\"\n[listen]\nc2s = []\nc2s_tls = [\"127.0.0.1:5223\"]";
    let said = Place::new(config).done("config check", "");
    assert!(said.contains("c2s                   off"), "{said}");
    assert!(
        said.contains("c2s_tls               127.0.0.1:5223"),
        "{said}"
    );
}

#[test]
fn a_check_complains_about_a_certificate_for_another_domain() {
    let config = "domain = \"a.example\"\n[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n";
    let place = Place::new(config);
    for (domain, complains) in [("a.example", false), ("b.example", true)] {
        let pem = Pem::self_signed(domain, SystemTime::now()).expect("an ASCII domain");
        fs::write(place.0.path().join("c.pem"), &pem.chain).expect("writable");
        fs::write(place.0.path().join("k.pem"), pem.key.as_bytes()).expect("writable");
        let said = place.done("config check", "");
        let complaint = "warning               the certificate is not for a.example";
        assert_eq!(said.contains(complaint), complains, "{said}");
    }
}

#[test]
fn limits_beyond_the_machine_are_refused_by_check_and_serve() {
    let place = Place::new("domain = \"a.example\"\n[limits]\naccounts = 900000000000\n");
    for line in ["config check", "serve"] {
        let said = place.refused(3, line, "");
        assert!(said.contains("lower the keys of [limits]"), "{said}");
    }
}

#[test]
fn a_file_that_is_no_store_is_exit_code_4_and_stays_as_it_is() {
    let place = Place::new("domain = \"a.example\"\n[store]\npath = \"notes.txt\"\n");
    let file = place.0.path().join("notes.txt");
    for times in [1, 400, 500, 10_000] {
        let notes = "important\n".repeat(times);
        fs::write(&file, &notes).expect("writable");
        for line in ["user add --password-stdin alice", "serve"] {
            let said = place.refused(4, line, "a pencil\n");
            assert!(said.contains("neither a store nor empty"), "{said}");
        }
        assert_eq!(fs::read_to_string(&file).expect("readable"), notes);
    }
}

#[test]
fn a_store_that_is_not_there_is_not_created_by_looking() {
    let place = Place::new(MINIMAL);
    let said = place.refused(4, "store stat", "");
    assert!(said.contains("there is no store yet"), "{said}");
    assert!(!place.0.path().join("data").exists());
}

#[test]
fn a_misunderstood_command_line_is_exit_code_2() {
    let output = Place::new(MINIMAL).run("user dance", "");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn every_help_text_is_there() {
    let place = Place::new(MINIMAL);
    for command in [
        "",
        "serve",
        "user",
        "user add",
        "user passwd",
        "user list",
        "user remove",
        "store",
        "store stat",
        "store verify",
        "store compact",
        "store export",
        "store import",
        "config",
        "config check",
        "config defaults",
    ] {
        let help = place.done(&format!("{command} --help"), "");
        assert!(help.contains("Usage: cairn"), "{help}");
    }
    let help = place.done("--help", "");
    assert!(
        help.contains("Exit codes:") && help.contains("Examples:"),
        "{help}"
    );
}
