//! XEP-0115: what the server can do, as a hash in its stream features, so that a client that has
//! seen this server before need not ask again.

use crate::crypto::Hash;
use crate::router::{Entity, Module, Moments};
use crate::stream::ServerCaps;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::disco::Info;

const NS: &str = "http://jabber.org/protocol/caps";

/// Names this software (§4); a URI that is ours alone and needs no place on the web.
const NODE: &str = "urn:uuid:7d1f6b4e-52c8-4f0e-9a63-c1a40c9d0b1e";

/// XEP-0115. The answers to its nodes are given by [`disco`](super::disco).
pub const MODULE: Module = Module {
    name: "caps",
    features: &[(Entity::Server, NS)],
    iq: &[],
    moments: Moments::NONE,
};

/// What `<c/>` in the stream features says (§6.3).
pub fn of_server(info: &Info) -> ServerCaps {
    ServerCaps {
        node: NODE.to_owned(),
        ver: verification_string(info),
    }
}

/// The node that a client asks about when it has seen `<c/>` (§6.2).
pub fn node(info: &Info) -> String {
    format!("{NODE}#{}", verification_string(info))
}

/// §5.1, with SHA-1, which is what it makes everybody implement.
fn verification_string(info: &Info) -> String {
    let hash = Hash::Sha1.digest(hashed_text(info).as_bytes());
    STANDARD.encode(hash.as_bytes())
}

/// The text `S` of §5.1. Sorting strings sorts their bytes, the collation it demands.
fn hashed_text(info: &Info) -> String {
    let mut identities: Vec<String> = info
        .identities
        .iter()
        .map(|identity| {
            let name = identity.name.unwrap_or_default();
            format!("{}/{}//{name}", identity.category, identity.type_)
        })
        .collect();
    identities.sort_unstable();
    let mut features: Vec<&str> = info.features.clone();
    features.sort_unstable();
    let mut forms: Vec<_> = info.forms.iter().collect();
    forms.sort_unstable_by_key(|form| form.form_type);

    let mut text = String::new();
    let mut append = |part: &str| {
        text.push_str(part);
        text.push('<');
    };
    identities.iter().for_each(|identity| append(identity));
    features.iter().for_each(|feature| append(feature));
    for form in forms {
        append(form.form_type);
        let mut fields: Vec<_> = form.fields.iter().collect();
        fields.sort_unstable_by(|a, b| a.var.cmp(&b.var));
        for field in fields {
            append(&field.var);
            let mut values: Vec<&str> = field.values.iter().map(String::as_str).collect();
            values.sort_unstable();
            values.iter().for_each(|value| append(value));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::disco::Identity;
    use super::super::form::{Field, Form};
    use super::*;

    #[test]
    fn the_simple_example_of_the_specification_comes_out() {
        let info = Info {
            identities: vec![Identity {
                category: "client",
                type_: "pc",
                name: Some("Exodus 0.9.1"),
            }],
            features: vec![
                "http://jabber.org/protocol/muc",
                "http://jabber.org/protocol/disco#items",
                "http://jabber.org/protocol/disco#info",
                "http://jabber.org/protocol/caps",
            ],
            forms: Vec::new(),
        };
        assert_eq!(verification_string(&info), "QgayPKawpkPSDYmwT/WM94uAlu0=");
    }

    #[test]
    fn a_form_is_hashed_field_by_field_and_value_by_value() {
        let field = |var: &'static str, values: &[&str]| Field {
            var: var.into(),
            type_: None,
            values: values.iter().map(|&value| value.to_owned()).collect(),
        };
        let info = Info {
            identities: vec![Identity {
                category: "server",
                type_: "im",
                name: None,
            }],
            features: vec!["b", "a"],
            forms: vec![Form {
                form_type: "urn:form",
                fields: vec![field("z", &["2", "1"]), field("y", &["3"])],
            }],
        };
        assert_eq!(hashed_text(&info), "server/im//<a<b<urn:form<y<3<z<1<2<");
    }
}
