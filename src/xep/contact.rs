//! XEP-0157: whom to write to about this server, from the section `[contact]` of the
//! configuration.

use crate::config::Contact;

use super::form::{Field, Form};

const FORM_TYPE: &str = "http://jabber.org/network/serverinfo";

/// The form in the server's `disco#info`; none when nobody is named.
pub fn form(contact: &Contact) -> Option<Form> {
    let named = contact.fields().into_iter();
    let fields: Vec<Field> = named
        .filter(|(_, addresses)| !addresses.is_empty())
        .map(|(kind, addresses)| Field {
            var: format!("{kind}-addresses").into(),
            type_: Some("list-multi"),
            values: addresses.to_vec(),
        })
        .collect();
    (!fields.is_empty()).then_some(Form {
        form_type: FORM_TYPE,
        fields,
    })
}
