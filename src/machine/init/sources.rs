//! Looking for configuration where the store has none.

use std::fs;

use super::Init;
use crate::machine::link::{Source, ToServer};

/// Where QEMU puts what was given as `-fw_cfg name=opt/org.cairn/config,file=cairn.toml`.
const FW_CFG: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.cairn/config/raw";

impl Init {
    pub(super) fn look_for_configuration(&mut self) {
        let found = fs::read_to_string(FW_CFG).ok().map(|toml| Source {
            origin: "QEMU fw_cfg".to_owned(),
            toml: Some(toml),
            plan: None,
        });
        if let Some(server) = &self.server {
            drop(server.tell(&ToServer::Source(found)));
        }
    }
}
