//! The image, booted in QEMU: what the firmware, the loader, the kernel and PID 1 do together.

#![allow(clippy::print_stdout)]

mod support;

use std::io::BufRead;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use support::load::Load;
use support::qmp::Qmp;
use support::releases::{CONFIG, given};
use support::{Chat, Disk, Options, PASSWORD, Vm, image, python, succeeds, tool};

const MIB: u64 = 1 << 20;
/// Accounts are made from outside: they are to be on the second disk.
const ON_SECOND_DISK: &str = "domain = \"chat.example\"\ndata = \"second-disk\"\n\
                              [registration]\nmode = \"open\"\n";

/// The configuration in OEM strings of SMBIOS that begin so.
fn by_smbios(begins: &[&str]) -> Vec<String> {
    let packed = STANDARD.encode(CONFIG);
    let parts = packed
        .as_bytes()
        .chunks(packed.len().div_ceil(begins.len()));
    let strings = begins.iter().zip(parts).map(|(begin, part)| {
        let part = str::from_utf8(part).expect("base64");
        format!(",value={begin}{part}")
    });
    let words = format!("type=11{}", strings.collect::<String>());
    vec!["-smbios".to_owned(), words]
}

/// The machine that did, unless it could not be tried here.
fn boots_and_serves(options: &Options, source: &str) -> Option<(Disk, Vm)> {
    let (image, python) = (image()?, python()?);
    let disk = Disk::with_accounts(&image, &["alice", "bob"]);
    let mut vm = Vm::start(&disk, options);
    vm.wait_for("the server accepts log-ins");
    assert!(vm.has_said("starts, from slot a"));
    assert!(vm.has_said(source));
    assert!(vm.has_said("(DHCP)"));
    let chat = Chat {
        python: &python,
        domain: "chat.example",
        port: vm.port,
    };
    chat.between(
        ("bob", PASSWORD),
        ("alice", PASSWORD),
        "through the machine",
    );
    Some((disk, vm))
}

#[test]
fn by_bios_two_people_chat_through_it_and_the_screen_says_how_it_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("monitor");
    let options = Options {
        screen: true,
        first_processor: true,
        more: Qmp::words(&socket).to_vec(),
        ..given()
    };
    let Some((_disk, mut vm)) = boots_and_serves(&options, "fw_cfg") else {
        return;
    };
    let rows = [
        " domain        chat.example",
        " addresses     10.0.2.15 (eth0)",
        " people        2 accounts",
    ];
    for row in rows {
        // What the serial line has told was on the screen before.
        vm.sees(row.trim_start());
    }
    let mut qmp = Qmp::connect(&socket).expect("QEMU's monitor");
    let file = folder.path().join("screen");
    let screen = qmp.text_screen(&file).expect("QEMU gives its memory");
    let shows = |begin: &str| screen.iter().filter(|line| line.starts_with(begin)).count();
    for row in rows.into_iter().chain(["Cairn 0.1.0 ", " certificate   "]) {
        assert_eq!(shows(row), 1, "{row:?}: {screen:#?}");
    }
}

#[test]
fn by_uefi_with_192_megabytes_two_people_chat_through_it_and_smbios_holds_the_configuration() {
    let options = Options {
        efi: true,
        screen: true,
        memory: 192,
        more: by_smbios(&["cairn:"]),
        ..Options::default()
    };
    drop(boots_and_serves(&options, "SMBIOS OEM string"));
}

#[test]
fn a_slot_that_has_proved_itself_has_all_its_attempts_and_the_configuration_is_kept() {
    let Some(image) = image() else { return };
    let disk = Disk::of(&image);
    let mut vm = Vm::start(&disk, &given());
    vm.wait_for("slot a has proved itself");
    vm.cut();
    let state = disk.find(b"# GRUB Environment Block", 6, 7);
    let state = String::from_utf8(disk.read(state, 100)).expect("UTF-8");
    assert!(state.contains("slot=a\nleft=3\nfb=0\n"), "{state}");
    assert!(state.contains("good=a\n"), "{state}");
    // Without a word about it from outside.
    let mut vm = Vm::start(&disk, &Options::default());
    vm.wait_for("the server accepts log-ins");
    assert!(vm.has_said("chat.example"));
}

#[test]
fn a_damaged_kernel_or_boot_entry_gives_way_to_the_other_slot_in_the_same_boot() {
    let Some(image) = image() else { return };
    for text in [&b"dm_a=root"[..], b"HdrS"] {
        let disk = Disk::of(&image);
        disk.fill_both_slots();
        disk.flip(disk.find(text, 7, 39));
        let mut vm = Vm::start(&disk, &given());
        vm.wait_for("starts, from slot b, because slot a did not boot");
        assert!(!vm.has_said("panic"));
    }
}

#[test]
fn damaged_sums_or_a_damaged_file_system_of_a_slot_give_way_to_the_other_in_the_same_boot() {
    let Some(image) = image() else { return };
    let at = Disk::of(&image);
    let digit = at.find(b"  vmlinuz\n", 7, 39) - 1;
    // Behind the sectors that the first one says are reserved: the table that says where the
    // kernel goes on.
    let reserved = at.read(7 * MIB + 14, 2);
    let table = 7 * MIB + 512 * u64::from(u16::from_le_bytes([reserved[0], reserved[1]]));
    let entry = table + 2 * 100;
    let name = at.find(b"VMLINUZ", 7, 39);
    let sectors_of_a_cluster = 7 * MIB + 13;
    drop(at);
    for place in [digit, entry, name, sectors_of_a_cluster] {
        let disk = Disk::of(&image);
        disk.fill_both_slots();
        // Of a digit this makes another one, or none.
        let byte = disk.read(place, 1)[0] ^ 1;
        disk.write(place, &[byte]);
        let mut vm = Vm::start(&disk, &given());
        let line = vm.wait_for(" starts, from slot ");
        assert!(
            line.ends_with("starts, from slot b, because slot a did not boot"),
            "{place}: {line}"
        );
        assert!(!vm.has_said("panic"));
    }
}

#[test]
fn a_missing_root_partition_gives_way_to_the_other_slot_in_the_same_boot() {
    let Some(image) = image() else { return };
    let disk = Disk::of(&image);
    disk.fill_both_slots();
    // Its entry in both tables, which are then made to match again by the tool of others.
    succeeds(
        Command::new("sfdisk")
            .args(["--quiet", "--delete"])
            .arg(disk.path())
            .arg("5"),
    );
    let mut vm = Vm::start(&disk, &given());
    vm.wait_for("starts, from slot b, because slot a did not boot");
}

#[test]
fn a_rotten_root_panics_until_the_other_slot_has_its_turn() {
    let Some(image) = image() else { return };
    let disk = Disk::of(&image);
    disk.fill_both_slots();
    // In the first block of the program.
    disk.flip(disk.find(b"\x7fELF", 39, 60) + 0x100);
    let mut vm = Vm::start(&disk, &given());
    for _ in 0..3 {
        vm.wait_for("Kernel panic");
    }
    vm.wait_for("starts, from slot b, because slot a did not boot");
    vm.wait_for("the kernel before this one: ");
    vm.wait_for("dm-verity device corrupted");
    vm.wait_for("the server accepts log-ins");
}

#[test]
fn without_the_efi_partition_it_still_boots_by_bios_and_smbios_may_hold_the_configuration() {
    let Some(image) = image() else { return };
    let disk = Disk::of(&image);
    disk.write(2 * MIB, &vec![0xff; 4 << 20]);
    let options = Options {
        more: by_smbios(&["cairn.0:", "cairn.1:", "cairn.2:"]),
        ..Options::default()
    };
    let mut vm = Vm::start(&disk, &options);
    vm.wait_for("SMBIOS OEM string");
    vm.wait_for("the server accepts log-ins");
}

#[test]
fn a_clock_that_is_years_behind_is_set_forward_before_anything_depends_on_it() {
    let Some(image) = image() else { return };
    let disk = Disk::of(&image);
    let options = Options {
        more: vec!["-rtc".to_owned(), "base=2001-01-01T00:00:00".to_owned()],
        ..given()
    };
    let mut vm = Vm::start(&disk, &options);
    vm.wait_for("the clock showed a time that is over: it is set forward");
    vm.wait_for("the server accepts log-ins");
    assert!(!vm.has_said("2001-01-01T"));
}

#[test]
fn a_disk_that_has_grown_gives_its_room_to_the_store() {
    let Some(image) = image() else { return };
    let disk = Disk::with_accounts(&image, &["alice"]);
    disk.grow(1024);
    let mut vm = Vm::start(&disk, &given());
    vm.wait_for("the data partition has grown by ");
    vm.wait_for("1 accounts");
    vm.wait_for("MiB");
    vm.cut();
    disk.grow(2048);
    let mut vm = Vm::start(&disk, &given());
    vm.wait_for("the data partition has grown by 1024 MiB");
    vm.wait_for("1 accounts");
}

#[test]
fn a_second_disk_holds_the_data_is_waited_for_and_outlives_the_system_disk() {
    let (Some(image), Some(python)) = (image(), python()) else {
        return;
    };
    let disk = Disk::of(&image);
    let second = disk.file("second.raw");
    let file = std::fs::File::create(&second).expect("it is made");
    file.set_len(64 * MIB).expect("it grows");
    let drive = format!("file={},format=raw,if=virtio", second.display());
    let with = || Options {
        config: Some(ON_SECOND_DISK),
        more: vec!["-drive".to_owned(), drive.clone()],
        ..Options::default()
    };
    let mut vm = Vm::start(&disk, &with());
    vm.wait_for("the data are on /dev/vdb");
    vm.wait_for("the server accepts log-ins");
    let load = Load::new(&python, &vm);
    load.run("register", "-");
    let messages = load.acknowledged(1, 10);
    vm.cut();
    let written = std::fs::read(&second).expect("it reads");
    assert_eq!(&written[..8], b"CAIRNLOG");
    // It is missing: nothing else is begun, and it may come later.
    let mut vm = Vm::start(
        &disk,
        &Options {
            more: vec![
                "-monitor".to_owned(),
                format!("unix:{},server,nowait", disk.file("monitor").display()),
            ],
            config: with().config,
            ..Options::default()
        },
    );
    vm.wait_for("waiting for the disk with the store ");
    vm.hot_plug(&disk.file("monitor"), &second);
    vm.wait_for("the data are on /dev/vdb");
    vm.wait_for("the server accepts log-ins");
    vm.cut();
    // Another system disk goes on with it, and from then on with nothing else.
    let other = Disk::of(&image);
    let mut vm = Vm::start(&other, &with());
    vm.wait_for("the data are on /dev/vdb");
    vm.wait_for("the server accepts log-ins");
    Load::new(&python, &vm).all_there(&[messages]);
    vm.cut();
    // Another blank one is not taken instead, by neither.
    std::fs::write(&second, vec![0; 64 << 20]).expect("it is written");
    for disk in [&disk, &other] {
        let mut vm = Vm::start(disk, &with());
        vm.wait_for("waiting for the disk with the store ");
        vm.cut();
        let blank = std::fs::read(&second).expect("it reads");
        assert!(blank.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_second_disk_with_something_else_on_it_is_left_alone_and_named() {
    let Some(image) = image() else { return };
    let disk = Disk::of(&image);
    let second = disk.file("second.raw");
    let start = || {
        let drive = format!("file={},format=raw,if=virtio", second.display());
        let options = Options {
            config: Some(ON_SECOND_DISK),
            more: vec!["-drive".to_owned(), drive],
            ..Options::default()
        };
        Vm::start(&disk, &options)
    };
    let sum = || succeeds(Command::new("sha256sum").arg(&second));
    // A file system of somebody else.
    let file = std::fs::File::create(&second).expect("it is made");
    file.set_len(64 * MIB).expect("it grows");
    succeeds(Command::new("mkfs.fat").args(["-n", "PHOTOS"]).arg(&second));
    let before = sum();
    let mut vm = start();
    vm.wait_for("waiting for a blank second disk");
    assert!(vm.has_said("/dev/vdb holds a file system (FAT): it is left alone"));
    vm.cut();
    assert_eq!(sum(), before);
    // It is taken away, and a blank one holds the data from then on.
    std::fs::write(&second, vec![0; 64 << 20]).expect("it is written");
    let mut vm = start();
    vm.wait_for("the data are on /dev/vdb");
    vm.wait_for("the server accepts log-ins");
    vm.cut();
    // The store of another machine.
    let mut head = vec![0; 8192];
    head[..8].copy_from_slice(b"CAIRNLOG");
    head[24..40].fill(7);
    head.resize(64 << 20, 0x5a);
    std::fs::write(&second, head).expect("it is written");
    let before = sum();
    let mut vm = start();
    vm.wait_for("waiting for the disk with the store ");
    let other = "/dev/vdb holds the store 07070707070707070707070707070707: it is left alone";
    assert!(vm.has_said(other));
    vm.cut();
    assert_eq!(sum(), before);
}

#[test]
fn data_that_is_not_ours_is_left_alone() {
    let Some(image) = image() else { return };
    let disk = Disk::of(&image);
    let foreign = vec![0xa5; 4 << 20];
    disk.write(327 * MIB, &foreign);
    let mut vm = Vm::start(&disk, &given());
    vm.wait_for("/dev/vda8: ");
    vm.wait_for(" waiting ");
    assert!(vm.has_said("It holds something that is not Cairn's, and is left alone"));
    vm.cut();
    assert!(disk.read(327 * MIB, foreign.len() as u64) == foreign);
}

#[test]
fn the_efi_partition_may_hold_the_configuration() {
    let Some(image) = image() else { return };
    let disk = Disk::of(&image);
    let config = disk.file("cairn.toml");
    std::fs::write(&config, CONFIG).expect("it is written");
    succeeds(
        tool()
            .arg("personalise")
            .arg(disk.path())
            .arg("--config")
            .arg(&config),
    );
    let mut vm = Vm::start(&disk, &Options::default());
    vm.wait_for("cairn.toml on the EFI partition");
    vm.wait_for("the server accepts log-ins");
}

#[test]
fn a_volume_of_cloud_init_may_hold_the_configuration() {
    let Some(image) = image() else { return };
    let disk = Disk::of(&image);
    let iso = disk.cloud_init(&[
        ("user-data", &format!("#cairn\n{CONFIG}")),
        ("meta-data", "local-hostname: chat\n"),
    ]);
    let options = Options {
        more: vec!["-cdrom".to_owned(), iso.display().to_string()],
        ..Options::default()
    };
    let mut vm = Vm::start(&disk, &options);
    vm.wait_for("NoCloud volume");
    vm.wait_for("the server accepts log-ins");
}

#[test]
fn without_a_usable_configuration_the_console_says_so_and_waits() {
    let Some(image) = image() else { return };
    let disk = Disk::of(&image);
    let options = Options {
        config: Some("domian = \"chat.example\"\n"),
        ..Options::default()
    };
    let mut vm = Vm::start(&disk, &options);
    vm.wait_for("did you mean domain");
    vm.cut();
    let mut vm = Vm::start(&disk, &Options::default());
    vm.wait_for("no configuration was found");
    vm.wait_for("(eth0)");
}

#[test]
fn what_was_acknowledged_survives_the_power_going() {
    let (Some(image), Some(python)) = (image(), python()) else {
        return;
    };
    let disk = Disk::with_accounts(&image, &["alice", "bob"]);
    let start = || {
        let mut vm = Vm::start(&disk, &given());
        vm.wait_for("the server accepts log-ins");
        let load = Load::new(&python, &vm);
        (vm, load)
    };
    let mut waiting = Vec::new();
    for round in 0..10 {
        let (vm, load) = start();
        // She does not come every time: most of what waits for her has to outlast several cuts.
        if round == 4 {
            load.all_there(&std::mem::take(&mut waiting));
        }
        let (mut sender, said) = load.start("send", &round.to_string());
        let mut said = said.lines();
        // Acknowledged up to here, and more on its way.
        waiting.push(said.nth(20).expect("a line").expect("UTF-8"));
        vm.cut();
        let _ = sender.kill();
        let _ = sender.wait();
    }
    let (_vm, load) = start();
    load.all_there(&waiting);
}
