//! A Cairn that federates, the names of the test, and somebody else's server.

use std::net::SocketAddr;

use crate::peers::prosody::Setup;
use crate::peers::{
    Ca, CairnPeer, Dns, Ejabberd, Leaf, Net, Person, Place, Prosody, RawPeer, Zone,
};
use crate::support::DOMAIN;

/// Who somebody on Cairn is.
pub const ROMEO: &str = "romeo@cairn.example";
/// Who somebody on the other server is.
pub const JULIET: &str = "juliet@other.test";
/// What the other server serves.
pub const OTHER: &str = "other.test";

/// Which server is the other one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Prosody,
    Ejabberd,
    Cairn,
}

/// The other server.
pub enum Other {
    Prosody(Prosody),
    Ejabberd(Ejabberd),
    Cairn(Box<CairnPeer>),
}

/// Cairn with Romeo and Mercutio, the other server with Juliet.
pub struct World {
    pub cairn: CairnPeer,
    pub other: Other,
    pub dns: Dns,
    pub ca: Ca,
}

/// Cairn with Romeo and Mercutio, and a server that the test plays.
pub struct Stage {
    pub cairn: CairnPeer,
    pub peer: RawPeer,
    pub dns: Dns,
    pub ca: Ca,
}

/// Cairn's memory may grow by so much whatever a peer does, in bytes.
pub const GROWTH_MAX: u64 = 48 << 20;

impl World {
    /// Everything as it should be.
    #[track_caller]
    pub fn usual(net: &Net, kind: Kind) -> World {
        let ca = Ca::new("Authority of a test");
        let leaf = ca.leaf(DOMAIN);
        World::with_certificate(net, kind, ca, &leaf)
    }

    /// The same, and this is Cairn's certificate.
    #[track_caller]
    pub fn with_certificate(net: &Net, kind: Kind, ca: Ca, leaf: &Leaf) -> World {
        let (here, there) = (net.place("cairn"), net.place("other"));
        let zone = Zone::new().server(DOMAIN, &here).server(OTHER, &there);
        let dns = Dns::start(net, &zone);
        let other = Other::start(kind, there, &ca, &dns);
        let mut cairn = cairn(here, leaf, &ca, &dns);
        cairn.run();
        World {
            cairn,
            other,
            dns,
            ca,
        }
    }

    /// The other server is this Prosody; nothing of Cairn runs yet.
    #[track_caller]
    pub fn with_prosody(
        net: &Net,
        leaf: &Leaf,
        ca: Ca,
        setup: &Setup,
        zone: impl Fn(&Place, &Place) -> Zone,
    ) -> World {
        let (here, there) = (net.place("cairn"), net.place("other"));
        let dns = Dns::start(net, &zone(&here, &there));
        let prosody = Prosody::with(there, OTHER, &ca, leaf, &["juliet"], setup);
        let cairn = cairn(here, &ca.leaf(DOMAIN), &ca, &dns);
        World {
            cairn,
            other: Other::Prosody(prosody),
            dns,
            ca,
        }
    }

    /// Both are online.
    #[track_caller]
    pub fn people(&self) -> (Person, Person) {
        (romeo(&self.cairn), self.juliet())
    }

    /// Juliet comes online.
    #[track_caller]
    pub fn juliet(&self) -> Person {
        let place = self.other.place();
        Person::online(place, JULIET, place.v4.into())
    }
}

impl Other {
    #[track_caller]
    fn start(kind: Kind, place: Place, ca: &Ca, dns: &Dns) -> Other {
        let accounts = &["juliet"];
        match kind {
            Kind::Prosody => Other::Prosody(Prosody::start(place, OTHER, ca, accounts)),
            Kind::Ejabberd => Other::Ejabberd(Ejabberd::start(place, OTHER, ca, accounts)),
            Kind::Cairn => {
                let mut cairn = CairnPeer::prepare(place, OTHER, &ca.leaf(OTHER), accounts);
                cairn.federate(ca, dns);
                cairn.run();
                Other::Cairn(Box::new(cairn))
            }
        }
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        match self {
            Other::Prosody(prosody) => &prosody.place,
            Other::Ejabberd(ejabberd) => &ejabberd.place,
            Other::Cairn(cairn) => &cairn.place,
        }
    }

    /// Ends it: without a word, but for ejabberd.
    #[track_caller]
    pub fn kill(&mut self) {
        match self {
            Other::Prosody(prosody) => prosody.kill(),
            Other::Ejabberd(ejabberd) => ejabberd.stop(),
            Other::Cairn(cairn) => cairn.kill(),
        }
    }

    /// Starts it again.
    #[track_caller]
    pub fn run(&mut self) {
        match self {
            Other::Prosody(prosody) => prosody.run(),
            Other::Ejabberd(ejabberd) => ejabberd.run(),
            Other::Cairn(cairn) => cairn.run(),
        }
    }
}

impl Stage {
    /// The peer has the usual certificate and is found under its name.
    #[track_caller]
    pub fn usual(net: &Net) -> Stage {
        Stage::with_leaf(net, |ca| ca.leaf(OTHER))
    }

    /// The peer has this certificate.
    #[track_caller]
    pub fn with_leaf(net: &Net, leaf: impl Fn(&Ca) -> Leaf) -> Stage {
        let mut stage = Stage::found_by_name(net, leaf);
        stage.cairn.run();
        stage
    }

    /// As usual; nothing of Cairn runs yet.
    #[track_caller]
    pub fn prepared(net: &Net) -> Stage {
        Stage::found_by_name(net, |ca| ca.leaf(OTHER))
    }

    #[track_caller]
    fn found_by_name(net: &Net, leaf: impl Fn(&Ca) -> Leaf) -> Stage {
        Stage::set_up(net, leaf, |_, place| Zone::new().server(OTHER, place))
    }

    /// The peer has this certificate and is found like that; nothing of Cairn runs yet. Cairn's
    /// own names are added.
    #[track_caller]
    pub fn set_up(
        net: &Net,
        leaf: impl Fn(&Ca) -> Leaf,
        zone: impl Fn(&Leaf, &Place) -> Zone,
    ) -> Stage {
        let ca = Ca::new("Authority of a test");
        let leaf = leaf(&ca);
        let (here, there) = (net.place("cairn"), net.place("other"));
        let zone = zone(&leaf, &there).server(DOMAIN, &here);
        let dns = Dns::start(net, &zone);
        let cairn = cairn(here, &ca.leaf(DOMAIN), &ca, &dns);
        Stage {
            cairn,
            peer: RawPeer::listen(there, OTHER, &leaf),
            dns,
            ca,
        }
    }

    /// Where Cairn listens for servers.
    pub fn address(&self) -> SocketAddr {
        self.cairn.place.socket(5269)
    }

    /// Somebody at the peer, as Cairn's people are to see it: a message from there.
    pub fn message(id: &str, body: &str) -> String {
        format!(
            "<message from='{JULIET}' to='{ROMEO}' type='chat' id='{id}'><body>{body}</body></message>"
        )
    }
}

fn cairn(place: Place, leaf: &Leaf, ca: &Ca, dns: &Dns) -> CairnPeer {
    let mut cairn = CairnPeer::prepare(place, DOMAIN, leaf, &["romeo", "mercutio"]);
    cairn.federate(ca, dns);
    cairn
}

/// Romeo comes online.
#[track_caller]
pub fn romeo(cairn: &CairnPeer) -> Person {
    Person::online(&cairn.place, ROMEO, cairn.place.v4.into())
}

/// Mercutio, Romeo's friend on the same server, comes online.
#[track_caller]
pub fn mercutio(cairn: &CairnPeer) -> Person {
    let jid = format!("mercutio@{DOMAIN}");
    Person::online(&cairn.place, &jid, cairn.place.v4.into())
}
