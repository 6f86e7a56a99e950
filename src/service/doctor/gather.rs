//! What there is to see of one domain: the DNS is asked, and every address visited, at once and
//! within bounds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::facts::{Aim, Facts, Host, Keys, Listener, Offer, Shown, Trouble, Visit, Way};
use super::visit::{self, Seen, is_own};
use crate::addr::Jid;
use crate::addr::domain::to_ascii;
use crate::net::dns::{Nowhere, PublishedService, Resolver, Target};
use crate::net::tls::{Authorities, Dane, PeerCertificate};
use crate::stream::s2s::Identity;

/// How long one question may take, with all that belongs to it.
const QUESTION: Duration = Duration::from_secs(6);

/// Places that others go to, and addresses of them, that are looked at.
const AIMS_MAX: usize = 16;
const VISITS_MAX: usize = 48;

/// What is used to look.
pub(super) struct Means {
    pub resolver: Arc<Resolver>,
    pub authorities: Arc<Authorities>,
    pub offer: Offer,
    pub now_s: u64,
}

/// A visit, with what was shown in full.
struct Visited {
    visit: Visit,
    peer: Option<Arc<PeerCertificate>>,
}

/// Looks at one domain.
pub(super) async fn gather(means: Arc<Means>, domain: Jid) -> Facts {
    let name = match to_ascii(domain.domain()) {
        Some(name) => name.into_owned(),
        None => domain.domain().to_owned(),
    };
    let own = tokio::spawn(own_visits(means.clone(), domain.clone()));
    let issuers = tokio::spawn(issuers(means.clone(), name.clone()));
    let services = services(&means, &name).await;
    let aims = aims(&name, &services, &means.offer);
    let hosts = hosts(&means, &name, &aims).await;
    let places = places(&aims, &hosts, &name, &means.offer);
    let (visited, keys) = tokio::join!(
        visits(&means, &domain, places),
        published_keys(&means, &name, &aims),
    );
    let keys = keys
        .into_iter()
        .map(|(keys, dane)| judged(keys, &dane, &visited, &domain));
    Facts {
        keys: keys.collect(),
        visits: visited.into_iter().map(|visited| visited.visit).collect(),
        own_visits: own.await.unwrap_or_default(),
        issuers: issuers.await.unwrap_or_default(),
        name,
        services,
        aims,
        hosts,
    }
}

async fn services(
    means: &Arc<Means>,
    name: &str,
) -> Vec<(Way, Result<Vec<PublishedService>, String>)> {
    let mut asking = JoinSet::new();
    let is_address = |name: &str| name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    // An address has no records.
    let ways = means.offer.of_streams().filter(|_| !is_address(name));
    for way in ways {
        let (means, full) = (means.clone(), format!("{}.{name}", way.service()));
        asking.spawn(async move {
            let found = means.resolver.published_services(&full);
            (way, in_time(found).await)
        });
    }
    let mut found = asking.join_all().await;
    found.sort_by_key(|(way, _)| *way);
    found
}

/// Where others go (RFC 6120 §3.2).
fn aims(
    name: &str,
    services: &[(Way, Result<Vec<PublishedService>, String>)],
    offer: &Offer,
) -> Vec<Aim> {
    let mut aims = Vec::new();
    for (way, published) in services {
        let real = published.iter().flatten();
        let real = real.filter(|one| !one.target.is_empty() && one.port != 0);
        aims.extend(real.map(|one| Aim {
            way: *way,
            host: one.target.clone(),
            port: one.port,
            is_fallback: false,
        }));
    }
    for way in offer.of_streams().filter(|way| !way.is_direct()) {
        let says_something = services.iter().any(|(of, published)| {
            let is_silent = published.as_ref().is_ok_and(Vec::is_empty);
            [way, way.sibling()].contains(of) && !is_silent
        });
        if !says_something {
            aims.push(Aim {
                way,
                host: name.to_owned(),
                port: way.usual_port(),
                is_fallback: true,
            });
        }
    }
    aims.truncate(AIMS_MAX);
    aims
}

/// The hosts of all that, and the domain itself where administrators and an authority go there.
async fn hosts(means: &Arc<Means>, name: &str, aims: &[Aim]) -> Vec<Host> {
    let mut names: Vec<String> = Vec::new();
    let offer = &means.offer;
    let itself = offer.acme || offer.listens(Way::Https);
    let aimed = aims.iter().map(|aim| aim.host.as_str());
    for host in aimed.chain(itself.then_some(name)) {
        if !names.iter().any(|known| known == host) {
            names.push(host.to_owned());
        }
    }
    let mut asking = JoinSet::new();
    for (place, host) in names.into_iter().enumerate() {
        let means = means.clone();
        // The domain itself may be an alias of anything.
        let is_target = aims.iter().any(|aim| aim.host == host && !aim.is_fallback);
        asking.spawn(async move { (place, self::host(&means, host, is_target).await) });
    }
    let mut found = asking.join_all().await;
    found.sort_by_key(|(place, _)| *place);
    found.into_iter().map(|(_, host)| host).collect()
}

async fn host(means: &Means, name: String, is_target: bool) -> Host {
    let alias = async {
        match is_target {
            true => in_time(means.resolver.published_alias(&name)).await,
            false => Ok(None),
        }
    };
    let addresses = async {
        match timeout(QUESTION, means.resolver.addresses(&name)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(Nowhere::NotFound(_))) => Ok(Vec::new()),
            Ok(Err(Nowhere::Unknown(why))) => Err(why),
            Err(_) => Err(SILENCE.to_owned()),
        }
    };
    let (alias, addresses) = tokio::join!(alias, addresses);
    let with_own = |address: IpAddr| (address, is_own(address));
    Host {
        name,
        // What cannot be found out about it the addresses will tell.
        alias: alias.unwrap_or_default(),
        addresses: addresses.map(|found| found.into_iter().map(with_own).collect()),
    }
}

/// Each place once, with the host that leads there.
fn places(
    aims: &[Aim],
    hosts: &[Host],
    name: &str,
    offer: &Offer,
) -> Vec<(Way, String, SocketAddr)> {
    let at_itself = [
        // Nobody looks for a proof elsewhere; administrators may.
        (
            Way::Https,
            match offer.acme {
                true => Way::Https.usual_port(),
                false => offer.port(Way::Https),
            },
        ),
        (Way::Http, Way::Http.usual_port()),
    ];
    let at_itself = at_itself.into_iter().filter(|(way, _)| match way {
        Way::Http => offer.acme && offer.listens(Way::Http),
        _ => offer.listens(*way),
    });
    let all = aims
        .iter()
        .map(|aim| (aim.way, aim.host.as_str(), aim.port));
    let all = all.chain(at_itself.map(|(way, port)| (way, name, port)));
    let mut places: Vec<(Way, String, SocketAddr)> = Vec::new();
    for (way, host, port) in all {
        let addresses = hosts.iter().find(|known| known.name == host);
        let addresses = addresses.and_then(|host| host.addresses.as_ref().ok());
        for (address, _) in addresses.into_iter().flatten() {
            let to = SocketAddr::new(*address, port);
            if !places.iter().any(|known| (known.0, known.2) == (way, to)) {
                places.push((way, host.to_owned(), to));
            }
        }
    }
    places.truncate(VISITS_MAX);
    places
}

async fn visits(
    means: &Arc<Means>,
    domain: &Jid,
    places: Vec<(Way, String, SocketAddr)>,
) -> Vec<Visited> {
    let mut visiting = JoinSet::new();
    for (place, (way, host, to)) in places.into_iter().enumerate() {
        let (means, domain) = (means.clone(), domain.clone());
        visiting.spawn(async move {
            let seen = visit::visit(way, to, &domain, &means.authorities).await;
            (place, visited(&means, (way, host, to), &domain, seen))
        });
    }
    let mut visited = visiting.join_all().await;
    visited.sort_by_key(|(place, _)| *place);
    visited.into_iter().map(|(_, visited)| visited).collect()
}

fn visited(
    means: &Means,
    (way, host, to): (Way, String, SocketAddr),
    domain: &Jid,
    seen: Seen,
) -> Visited {
    let (peer, seen) = match seen {
        Ok(Some(peer)) => match Shown::of(&peer, domain, means.now_s) {
            Some(shown) => (Some(Arc::new(peer)), Ok(Some(Arc::new(shown)))),
            None => (
                None,
                Err(Trouble::Tls("the certificate cannot be read".to_owned())),
            ),
        },
        Ok(None) => (None, Ok(None)),
        Err(trouble) => (None, Err(trouble)),
    };
    Visited {
        visit: Visit {
            way,
            host,
            to,
            is_own: is_own(to.ip()),
            seen,
        },
        peer,
    }
}

/// The listeners of the configuration, as somebody on this machine finds them.
async fn own_visits(means: Arc<Means>, domain: Jid) -> Vec<Visit> {
    let listeners = means.offer.listeners.iter();
    // Port 0 is any free one: which it came to be is not known here. And without an authority
    // nothing is answered by plain HTTP.
    let known = listeners.filter(|one| one.address.port() != 0 && one.way != Way::Http);
    let places = known.map(|Listener { way, address, .. }| {
        let ip = match address.ip() {
            IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(any) if any.is_unspecified() => loopback(),
            ip => ip,
        };
        (*way, String::new(), SocketAddr::new(ip, address.port()))
    });
    let visited = visits(&means, &domain, places.take(VISITS_MAX).collect()).await;
    visited.into_iter().map(|visited| visited.visit).collect()
}

/// `[::]` is both families, and IPv4 alone where there is no IPv6.
fn loopback() -> IpAddr {
    match is_own(Ipv6Addr::LOCALHOST.into()) {
        true => Ipv6Addr::LOCALHOST.into(),
        false => Ipv4Addr::LOCALHOST.into(),
    }
}

/// What is said of the keys where other servers go, and the part of it that they go by.
async fn published_keys(means: &Arc<Means>, name: &str, aims: &[Aim]) -> Vec<(Keys, Dane)> {
    let mut asking = JoinSet::new();
    let of_servers = aims.iter().filter(|aim| aim.way.is_for_servers());
    for (place, aim) in of_servers.cloned().enumerate() {
        let (means, name) = (means.clone(), name.to_owned());
        asking.spawn(async move { (place, keys(&means, &name, aim).await) });
    }
    let mut found = asking.join_all().await;
    found.sort_by_key(|(place, _)| *place);
    let mut keys: Vec<(Keys, Dane)> = Vec::new();
    for (_, (one, dane)) in found {
        let is_known = |known: &Keys| known.host == one.host && known.port == one.port;
        if !keys.iter().any(|(known, _)| is_known(known)) {
            keys.push((one, dane));
        }
    }
    keys
}

async fn keys(means: &Means, name: &str, aim: Aim) -> (Keys, Dane) {
    let published = in_time(means.resolver.published_keys(&aim.host, aim.port)).await;
    let has_some = published.as_ref().is_ok_and(|keys| !keys.is_empty());
    let target = Target {
        host: aim.host.clone(),
        port: aim.port,
        tls: aim.way.tls(),
    };
    let records = match has_some {
        true => timeout(QUESTION, means.resolver.associations(name, &target))
            .await
            .unwrap_or_default(),
        false => Vec::new(),
    };
    let keys = Keys {
        host: aim.host.clone(),
        port: aim.port,
        published,
        usable: records.len(),
        shown: Vec::new(),
    };
    let host = aim.host;
    (keys, Dane { records, host })
}

/// Whether the records let the certificates be that are shown there.
fn judged(mut keys: Keys, dane: &Dane, visited: &[Visited], domain: &Jid) -> Keys {
    if dane.records.is_empty() {
        return keys;
    }
    for visited in visited {
        let Visit { way, host, to, .. } = &visited.visit;
        let is_there = way.is_for_servers() && *host == keys.host && to.port() == keys.port;
        let (true, Some(peer), Ok(Some(shown))) = (is_there, &visited.peer, &visited.visit.seen)
        else {
            continue;
        };
        if keys.shown.iter().any(|(known, _)| known.der == shown.der) {
            continue;
        }
        let verdict = peer.judged_by(dane).speaks_for(domain);
        let verdict = verdict.map_err(|why| why.into_owned());
        keys.shown.push((shown.clone(), verdict));
    }
    keys
}

async fn issuers(
    means: Arc<Means>,
    name: String,
) -> Option<Result<Vec<crate::net::dns::PublishedIssuer>, String>> {
    means.offer.issuer?;
    Some(in_time(means.resolver.published_issuers(&name)).await)
}

const SILENCE: &str = "the DNS does not answer";

/// An answer, or why there is none.
async fn in_time<T>(question: impl Future<Output = Result<T, Nowhere>>) -> Result<T, String> {
    match timeout(QUESTION, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Nowhere::NotFound(why) | Nowhere::Unknown(why))) => Err(why),
        Err(_) => Err(SILENCE.to_owned()),
    }
}
