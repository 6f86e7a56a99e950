//! ejabberd of Debian, with Debian's own configuration but for domain and certificates.

use std::fs;
use std::path::PathBuf;

use super::{Ca, Leaf, PASSWORD, Place, Process};

/// The configuration that the package installs.
const CONFIG: &str = "/etc/ejabberd/ejabberd.yml";

/// Where Debian puts Erlang's libraries on this architecture, with ejabberd among them.
pub fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    let mut folders = folders.map(|entry| entry.path());
    folders.find(|folder| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name());
        names
            .into_iter()
            .any(|name| name.to_string_lossy().starts_with("ejabberd-"))
    })
}

/// A running ejabberd.
pub struct Ejabberd {
    /// Where it runs.
    pub place: Place,
    /// What it serves.
    pub domain: String,
    accounts: Vec<String>,
    process: Option<Process>,
}

impl Ejabberd {
    /// Starts it with a certificate of this authority, whose others it trusts, and these accounts.
    #[track_caller]
    pub fn start(place: Place, domain: &str, ca: &Ca, accounts: &[&str]) -> Ejabberd {
        Ejabberd::with(place, domain, ca, &ca.leaf(domain), accounts)
    }

    /// Starts it with another certificate.
    #[track_caller]
    pub fn with(place: Place, domain: &str, ca: &Ca, leaf: &Leaf, accounts: &[&str]) -> Ejabberd {
        let both = place.write("both.pem", &format!("{}{}", leaf.key, leaf.chain));
        let authority = ca.file(&place);
        place.subfolder("spool");
        let config = fs::read_to_string(CONFIG).expect("the package installs it");
        let replace = |text: &str, from: &str, to: &str| {
            assert!(text.contains(from), "{CONFIG} has no {from:?}");
            text.replacen(from, to, 1)
        };
        let config = replace(
            &config,
            "\n  - localhost\n",
            &format!("\n  - \"{domain}\"\n"),
        );
        let config = replace(
            &config,
            "/etc/ejabberd/ejabberd.pem",
            &both.display().to_string(),
        );
        let config = replace(&config, "loglevel: info", "loglevel: debug");
        let config = format!("{config}\nca_file: \"{}\"\n", authority.display());
        place.write("ejabberd.yml", &config);
        let mut ejabberd = Ejabberd {
            place,
            domain: domain.to_owned(),
            accounts: accounts.iter().map(|&name| name.to_owned()).collect(),
            process: None,
        };
        ejabberd.run();
        ejabberd
    }

    /// Starts it again on the same data. It is a node without a name, so nothing listens for other
    /// nodes and no port mapper runs.
    #[track_caller]
    pub fn run(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let register = self.accounts.iter().map(|name| {
            let domain = &self.domain;
            format!(
                "ejabberd_auth:try_register(<<\"{name}\">>, <<\"{domain}\">>, <<\"{PASSWORD}\">>), "
            )
        });
        let register: String = register.collect();
        let start = "{ok, _} = application:ensure_all_started(ejabberd), ";
        let ready = r#"io:format("every account is there~n")."#;
        let folder = self.place.folder().display().to_string();
        let mut command = self.place.command("erl");
        command
            .args(["-noinput", "+S", "1:1", "+sbwt", "none", "-mnesia", "dir"])
            .arg(format!("\"{folder}/spool\""))
            .args(["-eval", &format!("{start}{register}{ready}")])
            .env("HOME", &folder)
            .env("ERL_LIBS", library().expect("it is installed"))
            .env("ERL_INETRC", "/etc/ejabberd/inetrc")
            .env("ERL_CRASH_DUMP_SECONDS", "0")
            .env("EJABBERD_CONFIG_PATH", format!("{folder}/ejabberd.yml"))
            .env("EJABBERD_LOG_PATH", format!("{folder}/ejabberd.log"));
        let process = Process::start(&self.domain, command);
        process.wait_for("every account is there");
        self.process = Some(process);
    }

    /// Ends it in order. Killed, it would forget what it has just confirmed: it writes its tables to
    /// the disk later.
    #[track_caller]
    pub fn stop(&mut self) {
        let pids = self.place.processes("beam.smp");
        assert_eq!(pids.len(), 1, "it runs");
        let pid = nix::unistd::Pid::from_raw(pids[0]);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
        let process = self.process.take().expect("it runs");
        assert!(process.log().wait_for_end(), "it ends");
    }

    /// The process.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }
}
