//! How long the machine takes to start, beside the same kernel with nothing on it:
//! `cargo run -p cairn-image --example measure [FOLDER] [RUNS]`, where FOLDER (target/image/out) is
//! what `cairn-image build` left. Prints medians of interleaved runs under software emulation, in
//! seconds from the start of QEMU: BIOS and UEFI from the disk.

use std::error::Error;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What a run is given up after.
const PATIENCE: Duration = Duration::from_secs(120);

/// Says that it runs, and waits.
const TRIVIAL: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>
int main(int argc, char **argv) {
  if (argc == 3) {
    puts("version = \"0.0.1\"\nfloor = \"0.0.1\"\n"
         "log = { reads_from = 1, reads_to = 1, writes = 1 }");
    return 0;
  }
  mount("dev", "/dev", "devtmpfs", 0, "");
  int console = open("/dev/ttyS0", O_WRONLY);
  const char *said = "trivial starts, from slot a\n";
  write(console, said, strlen(said));
  for (;;) pause();
}
"#;

/// When lines with these texts came.
fn run(disk: &Path, efi: bool, texts: &[&str]) -> Result<Vec<f64>> {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg", "-nographic", "-m", "256", "-snapshot"]);
    qemu.args([
        "-drive",
        &format!("file={},format=raw,if=virtio", disk.display()),
    ]);
    // What every provider has, by this device or by the processor: entropy.
    qemu.args([
        "-device",
        "virtio-rng-pci",
        "-nic",
        "user,model=virtio-net-pci",
    ]);
    if efi {
        let firmware = "/usr/share/OVMF/OVMF_CODE_4M.fd";
        qemu.args([
            "-drive",
            &format!("if=pflash,format=raw,readonly=on,file={firmware}"),
        ]);
    }
    let since = Instant::now();
    let mut child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().ok_or("no output")?;
    let (mut said, mut times) = (Vec::new(), Vec::new());
    let mut buffer = [0; 4096];
    while times.len() < texts.len() && since.elapsed() < PATIENCE {
        let len = output.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        said.extend_from_slice(&buffer[..len]);
        let now = since.elapsed().as_secs_f64();
        while let Some(text) = texts.get(times.len())
            && said.windows(text.len()).any(|part| part == text.as_bytes())
        {
            times.push(now);
        }
    }
    child.kill()?;
    child.wait()?;
    match times.len() == texts.len() {
        true => Ok(times),
        false => Err(String::from_utf8_lossy(&said).into()),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// An image with the same kernel and a program that does nothing.
fn trivial(folder: &Path, place: &Path) -> Result<PathBuf> {
    let (source, program) = (place.join("trivial.c"), place.join("trivial"));
    fs::write(&source, TRIVIAL)?;
    let compiled = Command::new("cc")
        .args(["-static", "-O2", "-o"])
        .args([&program, &source])
        .status()?;
    if !compiled.success() {
        return Err("the trivial program does not compile".into());
    }
    let out = place.join("out");
    let built = builder()?
        .args(["build", "--kernel"])
        .arg(folder.join("vmlinuz"))
        .arg("--binary")
        .arg(&program)
        .arg("--out")
        .arg(&out)
        .stdout(Stdio::null())
        .status()?;
    match built.success() {
        true => Ok(out.join("cairn.raw")),
        false => Err("the trivial image is not built".into()),
    }
}

/// The tool, built beside this example.
fn builder() -> Result<Command> {
    let here = std::env::current_exe()?;
    let folder = here.parent().and_then(Path::parent).ok_or("no folder")?;
    Ok(Command::new(folder.join("cairn-image")))
}

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let folder = PathBuf::from(
        words
            .next()
            .unwrap_or_else(|| "target/image/out".to_owned()),
    );
    let runs: usize = words.next().map_or(Ok(11), |text| text.parse())?;
    let place = tempfile::tempdir()?;
    let bare = trivial(&folder, place.path())?;
    let disk = place.path().join("cairn.raw");
    let config = place.path().join("cairn.toml");
    fs::copy(folder.join("cairn.raw"), &disk)?;
    fs::write(&config, "domain = \"chat.example\"\n")?;
    let mut personalise = builder()?;
    personalise
        .arg("personalise")
        .arg(&disk)
        .arg("--config")
        .arg(&config);
    if !personalise.status()?.success() {
        return Err("the image takes no configuration".into());
    }
    let texts = [
        "GRUB",
        "starts, from slot a",
        "the server starts",
        "name=\"c2s\"",
        "the server accepts log-ins",
    ];
    let names = ["firmware", "kernel", "store", "listening", "log-in"];
    for (firmware, efi) in [("BIOS", false), ("UEFI", true)] {
        let (mut ours, mut theirs) = (vec![Vec::new(); texts.len()], Vec::new());
        for _ in 0..runs {
            for (times, time) in ours.iter_mut().zip(run(&disk, efi, &texts)?) {
                times.push(time);
            }
            theirs.push(run(&bare, efi, &["starts, from slot a"])?[0]);
        }
        let ours: Vec<f64> = ours.into_iter().map(median).collect();
        let bare = median(theirs);
        println!("{firmware}, median of {runs} runs:");
        println!("  bare kernel, first line  {bare:7.2} s");
        for (name, time) in names.iter().zip(&ours) {
            println!("  up to {name:<19}{time:7.2} s  {:+.2} s", time - bare);
        }
    }
    Ok(())
}
