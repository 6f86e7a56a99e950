//! The address type of RFC 7622 §3: `localpart@domainpart/resourcepart`.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use super::{domain, precis};

/// No part is longer than this many bytes of UTF-8 (RFC 7622 §3.2, §3.3, §3.4).
pub const PART_BYTES_MAX: usize = 1023;

/// An address, normalised: localpart by the PRECIS profile `UsernameCaseMapped`,
/// domainpart in U-labels and lower case, resourcepart by `OpaqueString`.
///
/// It is one shared text and two offsets (24 bytes, a clone counts a reference).
/// Equality, order and hash are those of the text, and it borrows as `str`, so a
/// map by `Jid` can be asked with a `&str` that is known to be normalised.
///
/// ```
/// use cairn::addr::Jid;
/// let jid = Jid::parse("Juliet@Capulet.Example./Balcony").unwrap();
/// assert_eq!(jid.as_str(), "juliet@capulet.example/Balcony");
/// assert_eq!(jid.bare_str(), "juliet@capulet.example");
/// ```
#[derive(Clone)]
pub struct Jid {
    text: Arc<str>,
    /// Where the `@` stands; 0 when there is no localpart (which is never empty).
    at: u16,
    /// Where the `/` stands, or the length of the text.
    slash: u16,
}

impl Jid {
    /// Parses and normalises an address (RFC 7622 §3.1 says where it is cut: at
    /// the first `/`, then at the first `@` before it).
    pub fn parse(text: &str) -> Result<Jid, JidError> {
        let (bare, resource) = match text.split_once('/') {
            Some((bare, resource)) => (bare, Some(resource)),
            None => (text, None),
        };
        let (local, domain) = match bare.split_once('@') {
            Some((local, domain)) => (Some(local), domain),
            None => (None, bare),
        };
        let prepared = Parts::prepare(local, domain, resource)?;
        if !prepared.is_as_written(domain) {
            return Ok(prepared.assemble());
        }
        // What nearly every address is: one copy of the text, no more.
        let at = offset(local.map_or(0, str::len));
        Ok(Jid {
            text: Arc::from(text),
            at,
            slash: offset(bare.len()),
        })
    }

    /// Builds an address from parts that are not normalised yet.
    pub fn from_parts(
        local: Option<&str>,
        domain: &str,
        resource: Option<&str>,
    ) -> Result<Jid, JidError> {
        Ok(Parts::prepare(local, domain, resource)?.assemble())
    }

    /// The whole normalised text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The localpart, when there is one.
    pub fn local(&self) -> Option<&str> {
        (self.at > 0).then(|| &self.text[..usize::from(self.at)])
    }

    /// The domainpart, which is always there.
    pub fn domain(&self) -> &str {
        let start = if self.at > 0 {
            usize::from(self.at) + 1
        } else {
            0
        };
        &self.text[start..usize::from(self.slash)]
    }

    /// The resourcepart, when there is one.
    pub fn resource(&self) -> Option<&str> {
        self.text.get(usize::from(self.slash) + 1..)
    }

    /// Whether there is no resourcepart. The address of a domain is bare too.
    pub fn is_bare(&self) -> bool {
        usize::from(self.slash) == self.text.len()
    }

    /// Whether there is a resourcepart.
    pub fn is_full(&self) -> bool {
        !self.is_bare()
    }

    /// The address without its resourcepart; shares the text when there is none.
    pub fn bare(&self) -> Jid {
        if self.is_bare() {
            return self.clone();
        }
        Jid {
            text: Arc::from(self.bare_str()),
            at: self.at,
            slash: self.slash,
        }
    }

    /// The text without its resourcepart.
    pub fn bare_str(&self) -> &str {
        &self.text[..usize::from(self.slash)]
    }

    /// This bare address with that resourcepart, which is normalised here.
    pub fn with_resource(&self, resource: &str) -> Result<Jid, JidError> {
        let resource = prepare_resource(resource)?;
        Ok(Jid::assemble(self.local(), self.domain(), Some(&resource)))
    }

    /// The address of the domain alone.
    pub fn domain_jid(&self) -> Jid {
        if self.at == 0 && self.is_bare() {
            return self.clone();
        }
        Jid::assemble(None, self.domain(), None)
    }

    /// Joins parts that are normalised and within their limits.
    fn assemble(local: Option<&str>, domain: &str, resource: Option<&str>) -> Jid {
        let capacity = local.map_or(0, |local| local.len() + 1)
            + domain.len()
            + resource.map_or(0, |resource| resource.len() + 1);
        let mut text = String::with_capacity(capacity);
        let mut at = 0;
        if let Some(local) = local {
            text.push_str(local);
            at = offset(text.len());
            text.push('@');
        }
        text.push_str(domain);
        let slash = offset(text.len());
        if let Some(resource) = resource {
            text.push('/');
            text.push_str(resource);
        }
        Jid {
            text: Arc::from(text),
            at,
            slash,
        }
    }
}

impl PartialEq for Jid {
    fn eq(&self, other: &Jid) -> bool {
        self.text == other.text
    }
}

impl Eq for Jid {}

impl PartialOrd for Jid {
    fn partial_cmp(&self, other: &Jid) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Jid {
    fn cmp(&self, other: &Jid) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Jid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Borrow<str> for Jid {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl AsRef<str> for Jid {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl FromStr for Jid {
    type Err = JidError;

    fn from_str(text: &str) -> Result<Jid, JidError> {
        Jid::parse(text)
    }
}

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jid({:?})", &*self.text)
    }
}

/// Why a text is not an address. On a stream it is `improper-addressing` or
/// `invalid-from`, in a stanza `jid-malformed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JidError {
    /// There is an `@` with nothing before it.
    LocalEmpty,
    /// The localpart is longer than [`PART_BYTES_MAX`].
    LocalTooLong,
    /// The localpart has a character, or an order of characters, that
    /// `UsernameCaseMapped` or RFC 7622 §3.3.1 refuses.
    LocalInvalid,
    /// There is no domainpart.
    DomainEmpty,
    /// The domainpart, or one of its labels, is too long.
    DomainTooLong,
    /// The domainpart is neither a domain name nor an IP literal (RFC 7622 §3.2).
    DomainInvalid,
    /// There is a `/` with nothing behind it.
    ResourceEmpty,
    /// The resourcepart is longer than [`PART_BYTES_MAX`].
    ResourceTooLong,
    /// The resourcepart has a character that `OpaqueString` refuses.
    ResourceInvalid,
}

impl fmt::Display for JidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JidError::LocalEmpty => "nothing before the @",
            JidError::LocalTooLong => "localpart longer than 1023 bytes",
            JidError::LocalInvalid => "localpart with a character that is not allowed there",
            JidError::DomainEmpty => "no domainpart",
            JidError::DomainTooLong => "domainpart or one of its labels too long",
            JidError::DomainInvalid => "domainpart is neither a domain name nor an IP address",
            JidError::ResourceEmpty => "nothing behind the /",
            JidError::ResourceTooLong => "resourcepart longer than 1023 bytes",
            JidError::ResourceInvalid => "resourcepart with a character that is not allowed there",
        })
    }
}

impl std::error::Error for JidError {}

/// Normalising shrinks a text to a third at most (a composed or narrowed
/// character), so what is longer than this need not be looked at.
const RAW_BYTES_MAX: usize = 4 * PART_BYTES_MAX;

/// The parts of an address, each in normal form.
struct Parts<'a> {
    local: Option<Cow<'a, str>>,
    domain: Cow<'a, str>,
    resource: Option<Cow<'a, str>>,
}

impl<'a> Parts<'a> {
    fn prepare(
        local: Option<&'a str>,
        domain: &'a str,
        resource: Option<&'a str>,
    ) -> Result<Parts<'a>, JidError> {
        Ok(Parts {
            local: local.map(prepare_local).transpose()?,
            domain: prepare_domain(domain)?,
            resource: resource.map(prepare_resource).transpose()?,
        })
    }

    /// Whether nothing was changed, not even the dot of the root taken off.
    fn is_as_written(&self, domain: &str) -> bool {
        let kept = |part: &Option<Cow<'_, str>>| !matches!(part, Some(Cow::Owned(_)));
        let domain_kept = matches!(self.domain, Cow::Borrowed(kept) if kept.len() == domain.len());
        domain_kept && kept(&self.local) && kept(&self.resource)
    }

    fn assemble(&self) -> Jid {
        Jid::assemble(
            self.local.as_deref(),
            &self.domain,
            self.resource.as_deref(),
        )
    }
}

fn prepare_local(local: &str) -> Result<Cow<'_, str>, JidError> {
    if local.is_empty() {
        return Err(JidError::LocalEmpty);
    }
    if local.len() > RAW_BYTES_MAX {
        return Err(JidError::LocalTooLong);
    }
    let local = precis::localpart(local).ok_or(JidError::LocalInvalid)?;
    if local.len() > PART_BYTES_MAX {
        return Err(JidError::LocalTooLong);
    }
    Ok(local)
}

fn prepare_domain(domain: &str) -> Result<Cow<'_, str>, JidError> {
    if domain.len() > RAW_BYTES_MAX {
        return Err(JidError::DomainTooLong);
    }
    let domain = domain::prepare(domain)?;
    if domain.len() > PART_BYTES_MAX {
        return Err(JidError::DomainTooLong);
    }
    Ok(domain)
}

fn prepare_resource(resource: &str) -> Result<Cow<'_, str>, JidError> {
    if resource.is_empty() {
        return Err(JidError::ResourceEmpty);
    }
    if resource.len() > RAW_BYTES_MAX {
        return Err(JidError::ResourceTooLong);
    }
    let resource = precis::opaque_string(resource).ok_or(JidError::ResourceInvalid)?;
    if resource.len() > PART_BYTES_MAX {
        return Err(JidError::ResourceTooLong);
    }
    Ok(resource)
}

/// Three parts of at most 1023 bytes and two separators: always fits.
fn offset(length: usize) -> u16 {
    u16::try_from(length).expect("parts are limited to 1023 bytes each")
}

#[cfg(test)]
#[path = "jid_tests.rs"]
mod tests;
