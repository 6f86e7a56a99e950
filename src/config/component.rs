//! `[[component]]`: programs that serve a domain of their own beside the server (XEP-0114).

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Host;
use crate::addr::Jid;
use crate::stream::component::Secret;

/// Components at most: each has a place in tables that are never tidied.
const COMPONENTS_MAX: usize = 64;

/// One component.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// Its domain, normalised: all addresses at it are the component's.
    pub domain: Jid,
    /// The authority of `[acme]` may be asked for its certificate.
    pub acme: bool,
    secret: Source,
}

/// Where its secret is.
#[derive(Clone, Debug, PartialEq)]
enum Source {
    Here(Secret),
    File(PathBuf),
}

/// An entry as it was written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    domain: String,
    secret: Option<String>,
    secret_file: Option<PathBuf>,
    acme: Option<bool>,
}

impl Component {
    /// The secret, read from its file if it is in one. The error is a sentence for the operator.
    pub fn secret(&self) -> Result<Secret, String> {
        let path = match &self.secret {
            Source::Here(secret) => return Ok(secret.clone()),
            Source::File(path) => path,
        };
        let told = |why: &str| format!("[[component]] secret_file {}: {why}", path.display());
        let text = fs::read_to_string(path).map_err(|error| told(&error.to_string()))?;
        // An editor ends a file with a line's end, which nobody means.
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        Secret::new(line.to_owned()).ok_or_else(|| told("it is empty, and a secret is needed"))
    }

    pub(super) fn resolve_path(&mut self, folder: &Path) {
        if let Source::File(path) = &mut self.secret {
            *path = folder.join(&*path);
        }
    }

    fn of(raw: Raw) -> Result<Component, String> {
        let shown = format!("{:?}", raw.domain);
        let jid = Jid::parse(&raw.domain).ok();
        let domain = jid.filter(|jid| jid.as_str() == jid.domain());
        let domain = domain.ok_or_else(|| format!("domain {shown} is no domain"))?;
        let secret = match (raw.secret, raw.secret_file) {
            (Some(secret), None) => Secret::new(secret).map(Source::Here),
            (None, Some(path)) => path.file_name().is_some().then_some(Source::File(path)),
            (Some(_), Some(_)) => {
                return Err(format!(
                    "{shown} has both secret and secret_file; one is enough"
                ));
            }
            (None, None) => None,
        };
        let secret = secret.ok_or_else(|| {
            format!("{shown} needs a secret that only it knows: secret = \"…\", or secret_file")
        })?;
        Ok(Component {
            domain,
            acme: raw.acme.unwrap_or(true),
            secret,
        })
    }
}

/// Checks the entries, beside the domains that the server has itself. The error goes on where
/// `component` stands.
pub(super) fn read(entries: Vec<Raw>, own: &[Host]) -> Result<Vec<Component>, String> {
    if entries.len() > COMPONENTS_MAX {
        return Err(format!("has more than {COMPONENTS_MAX} entries"));
    }
    let mut components: Vec<Component> = Vec::with_capacity(entries.len());
    for raw in entries {
        let component = Component::of(raw)?;
        let domain = &component.domain;
        if own.iter().any(|host| domain.as_str() == host.domain) {
            return Err(format!(
                "{domain} is the server's own domain; write another, such as \"gateway.{domain}\""
            ));
        }
        if components.iter().any(|known| known.domain == *domain) {
            return Err(format!("{domain} is there twice"));
        }
        components.push(component);
    }
    Ok(components)
}
