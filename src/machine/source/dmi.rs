//! What the firmware says about the machine, which tells the provider.

use std::fs;
use std::path::Path;

use super::service::Service;

/// Where the kernel shows it.
pub const FOLDER: &str = "/sys/class/dmi/id";
const FIELD_BYTES_MAX: usize = 256;

/// Fields of DMI; an absent one is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dmi {
    /// Who made the machine.
    pub sys_vendor: String,
    /// What it is.
    pub product_name: String,
    /// Which one it is. Only root reads this.
    pub product_uuid: String,
    /// Another name of it, which only root reads.
    pub product_serial: String,
    /// A label that some clouds fill with their name.
    pub chassis_asset_tag: String,
    /// Who made the firmware.
    pub bios_vendor: String,
}

impl Dmi {
    /// Reads the fields from [`FOLDER`], or another one in tests.
    #[must_use]
    pub fn read(folder: &Path) -> Dmi {
        let field = |name: &str| {
            let text = fs::read(folder.join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text[..text.len().min(FIELD_BYTES_MAX)]);
            text.trim().to_owned()
        };
        Dmi {
            sys_vendor: field("sys_vendor"),
            product_name: field("product_name"),
            product_uuid: field("product_uuid"),
            product_serial: field("product_serial"),
            chassis_asset_tag: field("chassis_asset_tag"),
            bios_vendor: field("bios_vendor"),
        }
    }
}

/// The provider whose metadata service may be asked; `None` where DMI names none that is known.
/// (The strings are those that cloud-init's ds-identify knows.)
#[must_use]
pub fn service_by_dmi(dmi: &Dmi) -> Option<Service> {
    let starts = |text: &str, start: &str| {
        let head = text.get(..start.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(start))
    };
    match dmi.chassis_asset_tag.as_str() {
        "7783-7084-3265-9085-8269-3286-77" => return Some(Service::Azure),
        "OracleCloud.com" => return Some(Service::Oracle),
        "OpenTelekomCloud"
        | "SAP CCloud VM"
        | "HUAWEICLOUD"
        | "OpenStack Nova"
        | "Samsung Cloud Platform" => {
            return Some(Service::OpenStack);
        }
        _ => {}
    }
    match dmi.sys_vendor.as_str() {
        "DigitalOcean" => return Some(Service::DigitalOcean),
        "Hetzner" => return Some(Service::Hetzner),
        "Vultr" => return Some(Service::Vultr),
        "Scaleway" => return Some(Service::Scaleway),
        "Linode" | "Akamai" => return Some(Service::Linode),
        "Amazon EC2" => return Some(Service::Aws),
        _ => {}
    }
    match dmi.product_name.as_str() {
        "Google Compute Engine" => return Some(Service::Google),
        "OpenStack Nova" | "OpenStack Compute" => return Some(Service::OpenStack),
        _ => {}
    }
    // Older instances run on Xen, whose firmware knows Amazon only by these.
    let is_xen = starts(&dmi.product_uuid, "ec2") && starts(&dmi.product_serial, "ec2");
    (is_xen || dmi.bios_vendor == "Amazon EC2").then_some(Service::Aws)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dmi(vendor: &str, product: &str, tag: &str) -> Dmi {
        Dmi {
            sys_vendor: vendor.to_owned(),
            product_name: product.to_owned(),
            chassis_asset_tag: tag.to_owned(),
            ..Dmi::default()
        }
    }

    #[test]
    fn each_provider_is_told_from_the_others() {
        let rows = [
            (dmi("Hetzner", "vServer", ""), Some(Service::Hetzner)),
            (
                dmi("DigitalOcean", "Droplet", ""),
                Some(Service::DigitalOcean),
            ),
            (dmi("Vultr", "VC2", ""), Some(Service::Vultr)),
            (
                dmi("Amazon EC2", "t3.nano", "Amazon EC2"),
                Some(Service::Aws),
            ),
            (
                dmi("Google", "Google Compute Engine", ""),
                Some(Service::Google),
            ),
            (
                dmi("OpenStack Foundation", "OpenStack Nova", ""),
                Some(Service::OpenStack),
            ),
            (
                dmi(
                    "Microsoft Corporation",
                    "Virtual Machine",
                    "7783-7084-3265-9085-8269-3286-77",
                ),
                Some(Service::Azure),
            ),
            (dmi("Microsoft Corporation", "Virtual Machine", ""), None),
            (dmi("Scaleway", "SCW-DEV1-S", ""), Some(Service::Scaleway)),
            (dmi("Akamai", "Compute Instance", ""), Some(Service::Linode)),
            (
                dmi(
                    "QEMU",
                    "Standard PC (i440FX + PIIX, 1996)",
                    "OracleCloud.com",
                ),
                Some(Service::Oracle),
            ),
            (dmi("QEMU", "Standard PC (Q35 + ICH9, 2009)", ""), None),
        ];
        for (dmi, service) in rows {
            assert_eq!(service_by_dmi(&dmi), service, "{dmi:?}");
        }
        let xen = Dmi {
            product_uuid: "EC2F58AF-2DAD-C57E-88C0-A81CB6084290".to_owned(),
            product_serial: "ec2f58af-2dad-c57e-88c0-a81cb6084290".to_owned(),
            ..dmi("Xen", "HVM domU", "")
        };
        assert_eq!(service_by_dmi(&xen), Some(Service::Aws));
        // One field alone is a hash by chance.
        assert_eq!(
            service_by_dmi(&Dmi {
                product_serial: String::new(),
                ..xen
            }),
            None
        );
    }

    #[test]
    fn fields_are_read_as_the_kernel_shows_them() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("sys_vendor"), "Hetzner\n").expect("a file");
        fs::write(folder.path().join("product_name"), b"\xff\n").expect("a file");
        let dmi = Dmi::read(folder.path());
        assert_eq!(dmi.sys_vendor, "Hetzner");
        assert_eq!(dmi.product_name, "\u{fffd}");
        assert_eq!(dmi.product_uuid, "");
    }
}
