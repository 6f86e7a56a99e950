//! Messages of DHCPv6 (RFC 8415 §8, §21), as a client writes and reads them.

use std::net::{IpAddr, Ipv6Addr};

use super::super::is_server;

/// Addresses of one association that are used.
pub const ADDRESSES_MAX: usize = 4;
const SERVERS_MAX: usize = 8;
/// §11.1: a type of two bytes, then something, no more than 128.
const DUID_BYTES: std::ops::RangeInclusive<usize> = 3..=130;
/// Bytes in front of the options.
const FIXED: usize = 4;

const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
const IA_NA: u16 = 3;
const IA_ADDRESS: u16 = 5;
const OPTION_REQUEST: u16 = 6;
const PREFERENCE: u16 = 7;
const ELAPSED_TIME: u16 = 8;
const STATUS_CODE: u16 = 13;
/// RFC 3646 §3.
const DNS_SERVERS: u16 = 23;
const REFRESH_TIME: u16 = 32;
/// RFC 5908 §4, and its suboption for an address.
const NTP_SERVER: u16 = 56;
const NTP_ADDRESS: u16 = 1;
const SOLICIT_MAX_RT: u16 = 82;
const INFORM_MAX_RT: u16 = 83;

/// §21.13: all is well.
pub const SUCCESS: u16 = 0;
/// §21.13: the server does not know the association.
pub const NO_BINDING: u16 = 3;

/// §7.3, those that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who lends addresses?
    Solicit = 1,
    /// One server's are wanted.
    Request = 3,
    /// The same server is to extend them.
    Renew = 5,
    /// Any server is to extend them.
    Rebind = 6,
    /// What is there but addresses?
    InformationRequest = 11,
}

/// §7.3, those that a client is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// What a server would lend.
    Advertise,
    /// What it lends.
    Reply,
}

/// An address and for how long it may be used, in seconds; `u32::MAX`: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lent {
    /// The address.
    pub address: Ipv6Addr,
    /// For new connections.
    pub preferred_s: u32,
    /// At all; 0: no longer.
    pub valid_s: u32,
}

/// An IA_NA (§21.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// Of this association alone.
    pub status: u16,
    /// T1, when to ask the same server again; 0: as the client likes.
    pub renew_s: u32,
    /// T2, when to ask every server; 0: as the client likes.
    pub rebind_s: u32,
    /// Addresses.
    pub addresses: Vec<Lent>,
}

/// What a server said, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What it is.
    pub kind: ReplyKind,
    /// The server's DUID.
    pub server: Vec<u8>,
    /// Of the whole message.
    pub status: u16,
    /// §21.8: the higher, the rather.
    pub preference: u8,
    /// Our association, where it has addresses or a status.
    pub association: Option<Association>,
    /// Name servers. Link-local ones are left out.
    pub resolvers: Vec<IpAddr>,
    /// Time servers. Link-local ones are left out.
    pub time_servers: Vec<IpAddr>,
    /// §21.23: when to ask again what is there but addresses.
    pub refresh_s: Option<u32>,
    /// §21.24: the longest wait between two Solicits.
    pub solicit_max_s: Option<u32>,
    /// §21.25: the longest wait between two Information-requests.
    pub inform_max_s: Option<u32>,
}

/// What a client says.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What it is.
    pub kind: Kind,
    /// 24 bits.
    pub transaction: u32,
    /// The client's DUID.
    pub client: &'a [u8],
    /// The DUID of the server that is meant.
    pub server: Option<&'a [u8]>,
    /// The association and the addresses that it has or wants.
    pub association: Option<(u32, &'a [Ipv6Addr])>,
    /// Since the exchange began.
    pub elapsed_ms: u64,
}

/// A DUID-LL (§11.4) of an Ethernet address.
#[must_use]
pub fn duid(mac: [u8; 6]) -> Vec<u8> {
    [&[0, 3, 0, 1], &mac[..]].concat()
}

impl Request<'_> {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut message = (u32::from(self.kind as u8) << 24 | self.transaction & 0xff_ffff)
            .to_be_bytes()
            .to_vec();
        option(&mut message, CLIENT_ID, self.client);
        if let Some(server) = self.server {
            option(&mut message, SERVER_ID, server);
        }
        // §21.9: in hundredths of a second.
        let elapsed = u16::try_from(self.elapsed_ms / 10).unwrap_or(u16::MAX);
        option(&mut message, ELAPSED_TIME, &elapsed.to_be_bytes());
        if let Some((id, addresses)) = self.association {
            // T1 and T2 are for the server to say.
            let mut content = [&id.to_be_bytes()[..], &[0; 8]].concat();
            for address in addresses {
                let mut lent = address.octets().to_vec();
                lent.extend([0; 8]);
                option(&mut content, IA_ADDRESS, &lent);
            }
            option(&mut message, IA_NA, &content);
        }
        // §18.2.1 and §18.2.6 say which must be asked for.
        let own = match self.kind {
            Kind::InformationRequest => [REFRESH_TIME, INFORM_MAX_RT].as_slice(),
            _ => &[SOLICIT_MAX_RT],
        };
        let wanted: Vec<u8> = [DNS_SERVERS, NTP_SERVER]
            .iter()
            .chain(own)
            .flat_map(|kind| kind.to_be_bytes())
            .collect();
        option(&mut message, OPTION_REQUEST, &wanted);
        message
    }
}

impl Reply {
    /// Reads what is an answer to the client `client` in this transaction, and whole (§16).
    #[must_use]
    pub fn decode(payload: &[u8], transaction: u32, client: &[u8], id: u32) -> Option<Reply> {
        let header = number(payload, 0)?;
        let kind = match header >> 24 {
            2 => ReplyKind::Advertise,
            7 => ReplyKind::Reply,
            _ => return None,
        };
        if header & 0xff_ffff != transaction & 0xff_ffff {
            return None;
        }
        let options = Options::decode(&payload[FIXED..])?;
        let server = options.first(SERVER_ID)?;
        if options.first(CLIENT_ID)? != client || !DUID_BYTES.contains(&server.len()) {
            return None;
        }
        let seconds = |kind| number(options.first(kind)?, 0);
        let preference = options.first(PREFERENCE).and_then(<[u8]>::first);
        Some(Reply {
            kind,
            server: server.to_vec(),
            status: options.status()?,
            preference: preference.copied().unwrap_or(0),
            association: options.association(id),
            resolvers: servers(options.first(DNS_SERVERS).unwrap_or_default()),
            time_servers: options.time_servers(),
            refresh_s: seconds(REFRESH_TIME),
            solicit_max_s: seconds(SOLICIT_MAX_RT),
            inform_max_s: seconds(INFORM_MAX_RT),
        })
    }
}

/// Kinds and contents.
struct Options<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Options<'a> {
    /// `None` where one does not fit: then nothing of the rest can be told apart.
    fn decode(mut bytes: &'a [u8]) -> Option<Options<'a>> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let (kind, len) = (short(bytes, 0)?, usize::from(short(bytes, 2)?));
            found.push((kind, bytes.get(4..4 + len)?));
            bytes = &bytes[4 + len..];
        }
        Some(Options(found))
    }

    fn all(&self, kind: u16) -> impl Iterator<Item = &'a [u8]> {
        let of_kind = self.0.iter().filter(move |(found, _)| *found == kind);
        of_kind.map(|(_, content)| *content)
    }

    fn first(&self, kind: u16) -> Option<&'a [u8]> {
        self.all(kind).next()
    }

    /// §21.13: where there is none, all is well.
    fn status(&self) -> Option<u16> {
        self.first(STATUS_CODE)
            .map_or(Some(SUCCESS), |content| short(content, 0))
    }

    fn association(&self, id: u32) -> Option<Association> {
        let content = self
            .all(IA_NA)
            .find(|content| number(content, 0) == Some(id))?;
        let options = Options::decode(content.get(12..)?)?;
        let (renew_s, rebind_s) = (number(content, 4)?, number(content, 8)?);
        // §21.4.
        if renew_s > rebind_s && rebind_s > 0 {
            return None;
        }
        let addresses = options.all(IA_ADDRESS).filter_map(lent);
        Some(Association {
            status: options.status()?,
            renew_s,
            rebind_s,
            addresses: addresses.take(ADDRESSES_MAX).collect(),
        })
    }

    fn time_servers(&self) -> Vec<IpAddr> {
        let suboptions = self.all(NTP_SERVER).filter_map(Options::decode);
        let addresses = suboptions.flat_map(|suboptions| {
            let contents: Vec<&[u8]> = suboptions.all(NTP_ADDRESS).collect();
            contents
        });
        addresses
            .filter(|content| content.len() == 16)
            .flat_map(servers)
            .take(SERVERS_MAX)
            .collect()
    }
}

/// §21.6. `None` where the server did not lend it.
fn lent(content: &[u8]) -> Option<Lent> {
    let lent = Lent {
        address: ipv6(content.get(..16)?)?,
        preferred_s: number(content, 16)?,
        valid_s: number(content, 20)?,
    };
    let is_lent = Options::decode(&content[24..])?.status()? == SUCCESS;
    (is_lent && lent.preferred_s <= lent.valid_s && is_server(lent.address)).then_some(lent)
}

fn servers(bytes: &[u8]) -> Vec<IpAddr> {
    let addresses = bytes.chunks(16).filter_map(ipv6);
    addresses
        .filter(|address| is_server(*address))
        .map(IpAddr::from)
        .take(SERVERS_MAX)
        .collect()
}

fn ipv6(bytes: &[u8]) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = bytes.try_into().ok()?;
    Some(octets.into())
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(two.try_into().ok()?))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

/// What we write is short: nothing of it is left out.
fn option(message: &mut Vec<u8>, kind: u16, content: &[u8]) {
    let len = u16::try_from(content.len()).unwrap_or(0);
    message.extend(kind.to_be_bytes());
    message.extend(len.to_be_bytes());
    message.extend(&content[..usize::from(len)]);
}
