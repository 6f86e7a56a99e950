//! What a machine of 128 MB leaves to programs once it has started, by BIOS.

use std::path::Path;

use super::support::releases::CONFIG;
use super::support::{Disk, Options, Vm};

/// Measures and prints.
pub fn measure(folder: &Path, bare: &Path) {
    let options = Options {
        memory: 128,
        config: Some(CONFIG),
        ..Options::default()
    };
    let disk = Disk::of(bare);
    let mut vm = Vm::start(&disk, &options);
    let line = vm.wait_for("MemAvailable:");
    let kib = line.split_whitespace().nth(1);
    let nothing: u64 = kib.and_then(|kib| kib.parse().ok()).expect("a figure");
    vm.cut();
    let disk = Disk::of(&folder.join("cairn.raw"));
    disk.seed_administrator("admin");
    let mut vm = Vm::start(&disk, &options);
    vm.wait_for("the server accepts log-ins");
    let pin = vm.pin();
    let ours = vm.available_mib(&disk, &pin);
    vm.cut();
    println!("128 MB, available once it accepts log-ins:");
    println!("  bare kernel   {:5} MiB", nothing / 1024);
    println!("  cairn         {ours:5} MiB");
}
