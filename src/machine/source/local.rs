//! The places on the machine itself: `fw_cfg`, SMBIOS, the EFI partition, and volumes.
//!
//! PID 1 opens them as root ([`LocalFiles::open`]); the child that gets the open files reads them
//! ([`look_locally`]).

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::DOCUMENT_BYTES_MAX;
use super::cloud_init;
use super::found::{Found, Networks, Origin};
use super::smbios;
use super::volume::Volume;
use crate::machine::read_at::{Device, ReadAt};

/// QEMU: `-fw_cfg name=opt/org.cairn/config,file=cairn.toml`.
pub const FW_CFG: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.cairn/config/raw";
/// The SMBIOS table as the firmware left it.
pub const SMBIOS: &str = "/sys/firmware/dmi/tables/DMI";
/// The same, a folder for each structure, of which those of type 11 are ours.
const SMBIOS_ENTRIES: &str = "/sys/firmware/dmi/entries";
/// The file in the root of the EFI partition.
pub const ESP_FILE: &str = "cairn.toml";
const VOLUMES_MAX: usize = 32;
const STRUCTURES_MAX: usize = 16;

/// What PID 1 has opened for the child; each may be absent.
#[derive(Debug, Default)]
pub struct LocalFiles {
    /// [`FW_CFG`].
    pub fw_cfg: Option<File>,
    /// [`SMBIOS`], or every `/sys/firmware/dmi/entries/11-*/raw`.
    pub smbios: Vec<File>,
    /// The EFI partition.
    pub esp: Option<File>,
    /// Devices that may be volumes for cloud-init.
    pub volumes: Vec<File>,
}

impl LocalFiles {
    /// Opens what is there, as root. `esp` is the EFI partition's device, `volumes` are those of
    /// [`disk::volume_files`](crate::machine::disk::volume_files).
    #[must_use]
    pub fn open(esp: Option<&Path>, volumes: &[PathBuf]) -> LocalFiles {
        let open = |path: &Path| File::open(path).ok();
        let smbios: Vec<File> = match open(Path::new(SMBIOS)) {
            Some(table) => vec![table],
            None => structures(Path::new(SMBIOS_ENTRIES)),
        };
        LocalFiles {
            fw_cfg: open(Path::new(FW_CFG)),
            smbios,
            esp: esp.and_then(open),
            // A CD drive without a CD does not open.
            volumes: volumes
                .iter()
                .filter_map(|path| open(path))
                .take(VOLUMES_MAX)
                .collect(),
        }
    }
}

/// The letters of [`LocalFiles::into_parts`].
mod kind {
    pub(super) const FW_CFG: char = 'f';
    pub(super) const SMBIOS: char = 's';
    pub(super) const ESP: char = 'e';
    pub(super) const VOLUME: char = 'v';
}

impl LocalFiles {
    /// The files in a row, and a letter for each that says what it is: what PID 1 gives to the child,
    /// as descriptors and as an argument.
    #[must_use]
    pub fn into_parts(self) -> (String, Vec<File>) {
        let fw_cfg = self.fw_cfg.map(|file| (kind::FW_CFG, file)).into_iter();
        let smbios = self.smbios.into_iter().map(|file| (kind::SMBIOS, file));
        let esp = self.esp.map(|file| (kind::ESP, file)).into_iter();
        let volumes = self.volumes.into_iter().map(|file| (kind::VOLUME, file));
        fw_cfg.chain(smbios).chain(esp).chain(volumes).unzip()
    }

    /// The reverse, in the child. A file without a letter is left out.
    #[must_use]
    pub fn from_parts(kinds: &str, files: Vec<File>) -> LocalFiles {
        let mut parts = LocalFiles::default();
        for (letter, file) in kinds.chars().zip(files) {
            match letter {
                kind::FW_CFG => parts.fw_cfg = Some(file),
                kind::SMBIOS => parts.smbios.push(file),
                kind::ESP => parts.esp = Some(file),
                kind::VOLUME => parts.volumes.push(file),
                _ => {}
            }
        }
        parts
    }
}

/// Reads all of it in order: configuration, name and network are each from the first source that
/// has them (see [`Found::or`]). `None`: there is no source.
#[must_use]
pub fn look_locally(files: LocalFiles) -> Option<Found> {
    sources(files).into_iter().flatten().reduce(Found::or)
}

/// The network settings of every source that has some, in order.
#[must_use]
pub fn networks(files: LocalFiles) -> Networks {
    let found = sources(files).into_iter().flatten();
    Networks(
        found
            .filter_map(|found| Some((found.origin, found.network?)))
            .collect(),
    )
}

fn sources(files: LocalFiles) -> [Option<Found>; 5] {
    let LocalFiles {
        fw_cfg,
        smbios,
        esp,
        volumes,
    } = files;
    let [no_cloud, config_drive] = of_volumes(volumes);
    [
        fw_cfg.as_ref().and_then(of_fw_cfg),
        of_smbios(&smbios),
        esp.and_then(|esp| of_esp(&Device::new(esp).ok()?)),
        no_cloud,
        config_drive,
    ]
    .map(|found| found.map(Found::with_own_network))
}

fn of_fw_cfg(file: &File) -> Option<Found> {
    let found = Found::at(Origin::FwCfg);
    Some(match whole(file) {
        Ok(bytes) if bytes.trim_ascii().is_empty() => return None,
        Ok(bytes) => found.with_toml(&bytes),
        Err(why) => told(found, why),
    })
}

fn of_smbios(files: &[File]) -> Option<Found> {
    let mut table = Vec::new();
    for file in files {
        table.extend(whole(file).ok()?);
    }
    match smbios::read(&table) {
        Ok(None) => None,
        Ok(Some(toml)) => Some(Found::at(Origin::Smbios).with_toml(&toml)),
        Err(why) => Some(told(Found::at(Origin::Smbios), why)),
    }
}

fn of_esp(device: &Device) -> Option<Found> {
    let read = Volume::open(device)?.read(&[ESP_FILE], DOCUMENT_BYTES_MAX);
    match read {
        Ok(None) => None,
        Ok(Some(toml)) => Some(Found::at(Origin::Esp).with_toml(&toml)),
        Err(why) => Some(told(Found::at(Origin::Esp), why)),
    }
}

/// What the first NoCloud volume has, and the first config drive.
fn of_volumes(files: Vec<File>) -> [Option<Found>; 2] {
    let mut found = [None, None];
    for device in files.into_iter().filter_map(|file| Device::new(file).ok()) {
        let Some(one) = of_volume(&device) else {
            continue;
        };
        let place = usize::from(one.origin != Origin::NoCloud);
        found[place].get_or_insert(one);
    }
    found
}

fn of_volume<D: ReadAt + ?Sized>(device: &D) -> Option<Found> {
    cloud_init::read(&Volume::open(device)?)
}

fn told(mut found: Found, why: String) -> Found {
    found.ignored = Some(why);
    found
}

/// A whole file of bounded length; those of the kernel do not tell it before.
fn whole(file: &File) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let limit = DOCUMENT_BYTES_MAX as u64 + 1;
    let read = file.take(limit).read_to_end(&mut bytes);
    match read {
        Ok(_) if bytes.len() > DOCUMENT_BYTES_MAX => {
            Err(super::volume::too_long(DOCUMENT_BYTES_MAX))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("it cannot be read: {error}")),
    }
}

/// The structures of type 11, in order.
fn structures(folder: &Path) -> Vec<File> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("11-"))
        })
        .collect();
    paths.sort();
    paths.truncate(STRUCTURES_MAX);
    let open = |path: PathBuf| File::open(path.join("raw")).ok();
    paths.into_iter().filter_map(open).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::machine::source::volume_fixture::{fat, iso};

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        file.rewind().expect("at its start");
        file
    }

    fn toml(name: &str) -> Vec<u8> {
        format!("domain = \"{name}.example\"\n").into_bytes()
    }

    fn no_cloud() -> File {
        file(&fat(
            "CIDATA",
            &[
                ("user-data", b"#cairn\ndomain = \"cidata.example\"\n"),
                ("meta-data", b"instance-id: 1\nlocal-hostname: chat\n"),
                (
                    "network-config",
                    b"version: 2\nethernets: {eth0: {dhcp4: true}}\n",
                ),
            ],
        ))
    }

    fn smbios(name: &str) -> File {
        let string = format!("cairn:{}", STANDARD.encode(toml(name)));
        file(&[&[11, 5, 0, 0, 1], string.as_bytes(), &[0, 0]].concat())
    }

    fn config_drive() -> File {
        file(&iso(
            "config-2",
            &[
                (
                    "openstack/latest/user_data",
                    b"#cairn\ndomain = \"drive.example\"\n",
                ),
                (
                    "openstack/latest/meta_data.json",
                    br#"{"hostname": "drive"}"#,
                ),
            ],
        ))
    }

    #[test]
    fn the_first_of_the_sources_wins() {
        let all = || LocalFiles {
            fw_cfg: Some(file(&toml("fw-cfg"))),
            smbios: vec![smbios("smbios")],
            esp: Some(file(&fat("ESP", &[("cairn.toml", &toml("esp"))]))),
            volumes: vec![file(&[0; 2048]), config_drive(), no_cloud()],
        };
        let drop: [(Origin, fn(&mut LocalFiles)); 5] = [
            (Origin::FwCfg, |files| files.fw_cfg = None),
            (Origin::Smbios, |files| files.smbios.clear()),
            (Origin::Esp, |files| files.esp = None),
            (Origin::NoCloud, |files| files.volumes.truncate(2)),
            (Origin::ConfigDrive, |files| files.volumes.clear()),
        ];
        for first in 0..drop.len() {
            let mut files = all();
            drop[..first].iter().for_each(|(_, drop)| drop(&mut files));
            let (kinds, files) = files.into_parts();
            assert_eq!(kinds.len(), files.len());
            let files = LocalFiles::from_parts(&kinds, files);
            let found = look_locally(files).expect("one");
            assert_eq!(found.origin, drop[first].0);
            assert!(found.config.is_some(), "{found:?}");
            assert_eq!(found.notes, [] as [String; 0]);
            // The only one with a network, whoever has the configuration.
            let network_origin = (first < 3).then_some(Origin::NoCloud);
            assert_eq!(found.network_origin, network_origin);
            assert_eq!(found.network.is_some(), first <= 3);
        }
        assert_eq!(look_locally(LocalFiles::default()), None);
    }

    #[test]
    fn every_network_is_listed() {
        let text = b"domain = \"a.example\"\nnetwork.addresses = [\"192.0.2.5/24\"]\n";
        let user_data = [b"#cairn\n", &text[..]].concat();
        let beside = b"version: 2\nethernets: {eth0: {dhcp4: true}}\n";
        let both = [
            ("user-data", &user_data[..]),
            ("network-config", &beside[..]),
        ];
        let files = LocalFiles {
            fw_cfg: Some(file(&toml("fw-cfg"))),
            esp: Some(file(&fat("ESP", &[("cairn.toml", text)]))),
            volumes: vec![config_drive(), file(&fat("cidata", &both))],
            ..LocalFiles::default()
        };
        let networks = networks(files).0;
        let origins: Vec<Origin> = networks.iter().map(|one| one.0).collect();
        assert_eq!(origins, [Origin::Esp, Origin::NoCloud]);
        for (_, plan) in networks {
            assert!(
                !plan.interfaces[0].dhcp4,
                "what the configuration says counts"
            );
        }
        assert_eq!(super::networks(LocalFiles::default()), Networks::default());
    }

    #[test]
    fn a_no_cloud_volume_gives_name_network_and_configuration() {
        let found = look_locally(LocalFiles {
            volumes: vec![no_cloud()],
            ..LocalFiles::default()
        });
        let found = found.expect("one");
        assert_eq!(
            found.config.as_deref(),
            Some("\ndomain = \"cidata.example\"\n")
        );
        assert_eq!(found.hostname.as_deref(), Some("chat"));
        assert!(found.network.expect("a plan").interfaces[0].dhcp4);
    }

    #[test]
    fn what_is_of_no_use_is_told_and_the_next_source_is_read() {
        let found = look_locally(LocalFiles {
            fw_cfg: Some(file(b"\xff\xfe")),
            smbios: vec![file(
                &[&[11, 5, 0, 0, 1][..], b"cairn.3:eA==", &[0, 0]].concat(),
            )],
            esp: Some(file(&fat("ESP", &[("cairn.toml", &vec![b'#'; 70_000])]))),
            volumes: vec![
                file(&fat("cidata", &[("user-data", b"#cloud-config\n")])),
                config_drive(),
            ],
        });
        let found = found.expect("one");
        assert_eq!(found.origin, Origin::ConfigDrive);
        assert_eq!(found.hostname.as_deref(), Some("drive"));
        let told = found.notes.join("\n");
        for part in [
            "not UTF-8",
            "cairn.0: is missing",
            "longer than 64 KiB",
            "is for cloud-init",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let alone = look_locally(LocalFiles {
            volumes: vec![file(&fat("cidata", &[("user-data", b"#cloud-config\n")]))],
            ..LocalFiles::default()
        });
        let alone = alone.expect("a sentence");
        assert_eq!((&alone.config, &alone.network), (&None, &None));
        assert!(alone.ignored.is_some());
    }

    #[test]
    fn structures_are_read_one_by_one_where_there_is_no_table() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, bytes) in [("11-1", "b"), ("11-0", "a"), ("1-0", "c")] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
            fs::write(folder.path().join(name).join("raw"), bytes).expect("a file");
        }
        let read: Vec<_> = structures(folder.path())
            .iter()
            .map(|file| whole(file).expect("readable"))
            .collect();
        assert_eq!(read, [b"a", b"b"]);
    }

    #[test]
    fn an_empty_file_of_fw_cfg_is_no_source() {
        let files = LocalFiles {
            fw_cfg: Some(file(b"\n")),
            ..LocalFiles::default()
        };
        assert_eq!(look_locally(files), None);
    }
}
