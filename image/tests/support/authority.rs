//! Certificates at the servers' end of a cable: a private authority of the test, and `pebble`, which
//! gives certificates to who proves that a domain is theirs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::succeeds;
use super::wire::Wire;

/// A private authority, in files of the cable's folder.
pub struct Authority {
    folder: PathBuf,
}

/// A certificate and its key, as files.
pub struct Leaf {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(wire: &Wire) -> Authority {
        let authority = Authority {
            folder: wire.file("authority"),
        };
        fs::create_dir_all(&authority.folder).expect("it is made");
        let (root, key) = (authority.file("root.pem"), authority.file("root.key"));
        let mut make = request(&root, &key, "Authority of a test");
        succeeds(make.args(["-addext", "keyUsage=critical,keyCertSign"]));
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Its own certificate, in PEM.
    pub fn root(&self) -> String {
        fs::read_to_string(self.file("root.pem")).expect("it was made")
    }

    /// One for this name and address.
    pub fn leaf(&self, name: &str, address: &str) -> Leaf {
        let chain = self.file(&format!("{name}.pem"));
        let key = self.file(&format!("{name}.key"));
        let mut make = request(&chain, &key, name);
        make.arg("-CA").arg(self.file("root.pem"));
        make.arg("-CAkey").arg(self.file("root.key"));
        let names = format!("subjectAltName=DNS:{name},IP:{address}");
        make.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        make.args(["-addext", "extendedKeyUsage=serverAuth"]);
        succeeds(make.args(["-addext", &names]));
        Leaf { chain, key }
    }
}

fn request(certificate: &Path, key: &Path, name: &str) -> Command {
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "30"]);
    make.args(["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    make.args(["-subj", &format!("/CN={name}"), "-out"]);
    make.arg(certificate).arg("-keyout").arg(key);
    make.stderr(Stdio::null());
    make
}

/// A pebble at this address of the cable, which asks the name server at `dns`. It looks for
/// challenges at the ports that the internet has them at.
pub fn pebble(wire: &mut Wire, leaf: &Leaf, address: &str, dns: &str) {
    let settings = format!(
        "{{\"pebble\": {{\"listenAddress\": \"{address}:14000\", \
         \"managementListenAddress\": \"{address}:15000\", \"certificate\": {:?}, \
         \"privateKey\": {:?}, \"httpPort\": 80, \"tlsPort\": 443}}}}",
        leaf.chain, leaf.key
    );
    let config = wire.file("pebble.json");
    fs::write(&config, settings).expect("it is written");
    let config = config.display().to_string();
    let dns = format!("{dns}:53");
    let words = ["-config", &config, "-strict", "-dnsserver", &dns];
    wire.serve("pebble", &words.map(str::to_owned));
    wire.until("pebble runs", |wire| {
        wire.log("pebble").contains("ACME directory available at")
    });
}

/// The root of the certificates that this pebble gives, in PEM: another one each time it starts.
pub fn pebble_root(wire: &Wire, python: &Path, address: &str) -> String {
    let script = "import ssl, sys, urllib.request\n\
                  context = ssl._create_unverified_context()\n\
                  url = f'https://{sys.argv[1]}:15000/roots/0'\n\
                  print(urllib.request.urlopen(url, context=context).read().decode())";
    succeeds(wire.command(python).args(["-c", script, address]))
}
