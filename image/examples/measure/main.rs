//! How long the machine takes to start and what memory it leaves, beside the same kernel with
//! nothing on it, and how long to be upgraded, beside a plain reboot: `cargo run -p cairn-image
//! --example measure [FOLDER] [RUNS] [UPGRADES]`, where FOLDER (target/image/out) is what
//! `cairn-image build` left. Prints medians of interleaved runs under software emulation, in
//! seconds.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[path = "../../tests/support/mod.rs"]
mod support;

mod memory;
mod start;
mod upgrade;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Says that it runs and what memory programs could have, and waits.
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
  mount("proc", "/proc", "proc", 0, "");
  FILE *memory = fopen("/proc/meminfo", "r");
  char line[100];
  while (memory && fgets(line, sizeof line, memory))
    if (!strncmp(line, "MemAvailable:", 13)) write(console, line, strlen(line));
  for (;;) pause();
}
"#;

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
    let built = support::tool()
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

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let folder = PathBuf::from(
        words
            .next()
            .unwrap_or_else(|| "target/image/out".to_owned()),
    );
    let runs: usize = words.next().map_or(Ok(11), |text| text.parse())?;
    let upgrades: usize = words.next().map_or(Ok(3), |text| text.parse())?;
    let place = tempfile::tempdir()?;
    if runs > 0 {
        let bare = trivial(&folder, place.path())?;
        memory::measure(&folder, &bare);
        start::measure(&folder, &bare, runs)?;
    }
    if upgrades > 0 {
        upgrade::measure(&folder, upgrades)?;
    }
    Ok(())
}
