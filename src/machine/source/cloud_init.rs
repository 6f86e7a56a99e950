//! The two kinds of volumes that cloud-init knows: NoCloud (label `CIDATA`) and the config drive of
//! OpenStack (label `config-2`).

use super::DOCUMENT_BYTES_MAX;
use super::found::{Found, Origin};
use super::openstack;
use super::service::digital_ocean;
use super::value::text;
use super::volume::Volume;
use super::{network, yaml};
use crate::machine::read_at::ReadAt;

/// Reads a volume whose label says that it is for us; `None` for any other.
pub fn read<D: ReadAt + ?Sized>(volume: &Volume<'_, D>) -> Option<Found> {
    let label = volume.label();
    if label.eq_ignore_ascii_case("cidata") {
        Some(no_cloud(volume))
    } else if label.eq_ignore_ascii_case("config-2") {
        Some(config_drive(volume))
    } else {
        None
    }
}

fn no_cloud<D: ReadAt + ?Sized>(volume: &Volume<'_, D>) -> Found {
    let mut found = Found::at(Origin::NoCloud);
    let user_data = file(volume, &["user-data"], &mut found);
    let meta_data = file(volume, &["meta-data"], &mut found);
    let network_config = file(volume, &["network-config"], &mut found);
    found = found.with_user_data(user_data.as_deref().unwrap_or_default());
    match yaml::read(meta_data.as_deref().unwrap_or_default()) {
        Ok(meta_data) => {
            let name = text(&meta_data, "local-hostname").or_else(|| text(&meta_data, "hostname"));
            found = found.with_hostname(name);
        }
        Err(why) => found.note(format!("meta-data is not understood: {why}")),
    }
    if let Some(network_config) = network_config {
        with_network(&mut found, &network_config);
    }
    found
}

/// Takes the settings of `network-config`, or notes why not.
pub(super) fn with_network(found: &mut Found, network_config: &[u8]) {
    match yaml::read(network_config).and_then(|document| network::read(&document)) {
        Ok(understood) => {
            found.network = understood.plan;
            understood
                .notes
                .into_iter()
                .for_each(|note| found.note(note));
        }
        Err(why) => found.note(format!("network-config is not understood: {why}")),
    }
}

fn config_drive<D: ReadAt + ?Sized>(volume: &Volume<'_, D>) -> Found {
    let mut found = Found::at(Origin::ConfigDrive);
    let files =
        openstack::FILES.map(|name| file(volume, &["openstack", "latest", name], &mut found));
    if files.iter().all(Option::is_none)
        && let Some(own) = file(volume, &["digitalocean_meta_data.json"], &mut found)
    {
        return match digital_ocean::read(found.clone(), &own) {
            Ok(found) => found,
            Err(why) => {
                found.note(format!(
                    "digitalocean_meta_data.json is not understood: {why}"
                ));
                found
            }
        };
    }
    openstack::read(found, files)
}

/// A file of the volume; absent, and noted, where it cannot be read.
fn file<D: ReadAt + ?Sized>(
    volume: &Volume<'_, D>,
    path: &[&str],
    found: &mut Found,
) -> Option<Vec<u8>> {
    volume.read(path, DOCUMENT_BYTES_MAX).unwrap_or_else(|why| {
        found.note(format!("{} cannot be read: {why}", path.join("/")));
        None
    })
}
