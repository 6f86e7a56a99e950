//! Oracle Cloud. The network comes by DHCP and router advertisements.

use serde_json::Value;

use super::require;
use crate::machine::source::found::Found;
use crate::machine::source::http::Server;
use crate::machine::source::user_data::unwrapped;
use crate::machine::source::value::{self, text};

/// Asks for the instance.
pub fn ask(server: &Server, found: Found) -> Result<Found, String> {
    let fields = [("Authorization", "Bearer Oracle")];
    read(found, &require(server, "/opc/v2/instance/", &fields)?)
}

/// Reads the document; the user-data is always base64.
pub fn read(found: Found, document: &[u8]) -> Result<Found, String> {
    let document = value::json(document)?;
    let metadata = document.get("metadata").unwrap_or(&Value::Null);
    let user_data = text(metadata, "user_data").and_then(|packed| unwrapped(packed.as_bytes()));
    let name = text(&document, "hostname");
    Ok(found
        .with_user_data(user_data.as_deref().unwrap_or_default())
        .with_hostname(name))
}
