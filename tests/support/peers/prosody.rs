//! Prosody of Debian, with a configuration for the test.

use super::{Ca, Leaf, PASSWORD, Place, Process};

/// How a Prosody is set up.
pub struct Setup {
    /// Peers must show a valid certificate. Otherwise dialback will do.
    pub secure: bool,
    /// It listens for direct TLS (XEP-0368) on port 5270 too.
    pub direct_tls: bool,
    /// Modules that are not to be loaded, of those that are otherwise.
    pub without: &'static [&'static str],
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            secure: true,
            direct_tls: false,
            without: &[],
        }
    }
}

const MODULES: &[&str] = &[
    "roster", "saslauth", "tls", "dialback", "disco", "ping", "vcard", "version", "smacks",
];

/// A running Prosody.
pub struct Prosody {
    /// Where it runs.
    pub place: Place,
    /// What it serves.
    pub domain: String,
    process: Option<Process>,
}

impl Prosody {
    /// Starts one whose peers must have certificates of this authority, with these accounts.
    #[track_caller]
    pub fn start(place: Place, domain: &str, ca: &Ca, accounts: &[&str]) -> Prosody {
        let leaf = ca.leaf(domain);
        Prosody::with(place, domain, ca, &leaf, accounts, &Setup::default())
    }

    /// Starts one that is set up otherwise.
    #[track_caller]
    pub fn with(
        place: Place,
        domain: &str,
        ca: &Ca,
        leaf: &Leaf,
        accounts: &[&str],
        setup: &Setup,
    ) -> Prosody {
        let (certificate, key) = leaf.install(&place);
        let authority = ca.file(&place);
        let data = place.subfolder("data");
        let modules = MODULES.iter().chain(&["s2s_bidi"]);
        let modules = modules.filter(|module| !setup.without.contains(module));
        let modules: Vec<String> = modules.map(|module| format!("{module:?}")).collect();
        let disabled = setup.without.iter().map(|module| format!("{module:?}"));
        let disabled: Vec<String> = disabled.collect();
        let direct = if setup.direct_tls { "5270" } else { "" };
        let config = format!(
            r#"
run_as_root = true
pidfile = "{folder}/prosody.pid"
data_path = "{data}"
log = {{ debug = "*console" }}
interfaces = {{ "0.0.0.0", "::" }}
modules_enabled = {{ {modules} }}
modules_disabled = {{ {disabled} }}
authentication = "internal_hashed"
c2s_require_encryption = true
s2s_require_encryption = true
s2s_secure_auth = {secure}
s2s_direct_tls_ports = {{ {direct} }}
c2s_direct_tls_ports = {{ }}
limits = {{ }}
-- libunbound says by itself that there is nothing below .test (RFC 6761 §6.2).
unbound = {{ resolvconf = true; options = {{ ["local-zone:"] = "test. transparent" }} }}
ssl = {{ certificate = "{certificate}", key = "{key}", cafile = "{authority}" }}
VirtualHost "{domain}"
"#,
            folder = place.folder().display(),
            data = data.display(),
            modules = modules.join("; "),
            disabled = disabled.join("; "),
            secure = setup.secure,
            certificate = certificate.display(),
            key = key.display(),
            authority = authority.display(),
        );
        place.write("prosody.cfg.lua", &config);
        for account in accounts {
            let register = ["--config", "prosody.cfg.lua", "register"];
            let account = [account, domain, PASSWORD];
            place.run("prosodyctl", &[&register[..], &account].concat());
        }
        let mut prosody = Prosody {
            place,
            domain: domain.to_owned(),
            process: None,
        };
        prosody.run();
        prosody
    }

    /// Starts it again on the same data.
    #[track_caller]
    pub fn run(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut command = self.place.command("prosody");
        command.args(["--config", "prosody.cfg.lua", "-F"]);
        let process = Process::start(&self.domain, command);
        process.wait_for("Activated service 's2s'");
        process.wait_for("Activated service 'c2s'");
        self.process = Some(process);
    }

    /// Ends it without a word to anybody.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// The process.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }
}
