//! Any OpenStack, by its metadata service: the files of a config drive.

use super::fetch;
use crate::machine::source::found::Found;
use crate::machine::source::http::Server;
use crate::machine::source::openstack::{FILES, read};

/// Asks for the three files.
pub fn ask(server: &Server, found: Found) -> Result<Found, String> {
    let mut files = [None, None, None];
    for (file, name) in files.iter_mut().zip(FILES) {
        *file = fetch(server, &format!("/openstack/latest/{name}"), &[])?;
    }
    if files.iter().all(Option::is_none) {
        return Err("it has no documents below /openstack/latest/".to_owned());
    }
    Ok(read(found, files))
}
