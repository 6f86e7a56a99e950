//! `cairn-image`: builds the disk image that Cairn boots from, and looks into it.
//!
//! `image/README.md` draws the way from the firmware to PID 1. Equal inputs give equal bytes: no
//! time, no path, no user and no chance goes in.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

mod binary;
mod bundle;
mod cache;
mod disk;
mod fat;
mod gpt;
mod grub;
mod inputs;
mod kernel;
mod layout;
mod look;
mod sbom;
mod slot;
mod tool;
mod verity;

/// Builds the disk image that Cairn boots from.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build the image and print its SHA-256 sum
    Build(Box<Build>),
    /// Say what an image holds
    Inspect {
        /// The image, raw
        image: PathBuf,
    },
    /// Check every sum of an image, and that nothing but the program can execute
    Verify {
        /// The image, raw
        image: PathBuf,
    },
    /// Say where two images differ; the exit code is 1 when they do
    Diff {
        /// An image, raw
        one: PathBuf,
        /// Another one
        other: PathBuf,
    },
    /// Put a configuration on the EFI partition of a finished image, and a store that was made
    /// elsewhere on its data partition
    Personalise {
        /// The image, raw
        image: PathBuf,
        /// A cairn.toml
        #[arg(long)]
        config: Option<PathBuf>,
        /// A store; the image grows as far as it must
        #[arg(long)]
        store: Option<PathBuf>,
    },
    /// Build the kernel, unless it is in the cache, and print its SHA-256 sum and where it is
    Kernel {
        /// Build it a second time, elsewhere and from nothing, and fail unless every byte is the
        /// same
        #[arg(long)]
        check: bool,
    },
    /// Say what the program of a checkout is made of, for FILE.json beside `build --binary FILE`
    Made {
        /// The checkout
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Make a pair of keys to sign bundles with: FILE and FILE.pub
    Keys {
        /// Where the secret key goes
        file: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Build {
    /// The folder for what is built
    #[arg(long, default_value = "target/image/out")]
    out: PathBuf,
    /// What else to make of the raw image; may be given several times
    #[arg(long, value_enum, default_value = "raw")]
    format: Vec<Format>,
    /// A kernel, instead of building one; FILE.json beside it says what it is made of
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// A statically linked `cairn`, instead of building it; FILE.json beside it says what it is made
    /// of
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// The folder with GRUB's modules: `i386-pc` and `x86_64-efi`
    #[arg(long, value_name = "FOLDER", default_value = "/usr/lib/grub")]
    grub: PathBuf,
    /// The certificate authorities that the machine trusts, in PEM
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/ssl/certs/ca-certificates.crt"
    )]
    roots: PathBuf,
    /// What to call the versions of the tools, instead of asking dpkg: a JSON object by the names
    /// of Debian's packages
    #[arg(long, value_name = "FILE")]
    versions: Option<PathBuf>,
    /// A feature to build the program with. For tests of upgrades, never for a release
    #[arg(long, value_name = "NAME", hide = true, conflicts_with = "binary")]
    feature: Option<String>,
    /// What the release is called, instead of by the program's version
    #[arg(long, value_name = "VERSION")]
    release: Option<String>,
    /// Fill both slots, instead of the first alone
    #[arg(long)]
    both: bool,
    /// A public key of minisign (one line of base64) that may sign the next release; may be given
    /// several times
    #[arg(long)]
    trust: Vec<PathBuf>,
    /// A cairn.toml for the EFI partition, where the machine looks for it at its first start. The
    /// sum that is printed is that of the disk with it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A store that was made elsewhere, for the data partition; the image grows as far as it must
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Also make a bundle, signed with this secret key of minisign, which has no password
    #[arg(long)]
    sign: Option<PathBuf>,
}

/// What an image can be written as. The raw one is always made.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// As it goes on the disk
    Raw,
    /// That, compressed by zstd
    #[value(name = "raw.zst")]
    RawZst,
    /// For QEMU, compressed
    Qcow2,
    /// For VMware, compressed
    Vmdk,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Action::Build(options) => build(&options),
        Action::Inspect { image } => look::inspect(&image).and_then(|text| print(&text)),
        Action::Verify { image } => look::verify(&image).and_then(|text| print(&text)),
        Action::Diff { one, other } => look::diff(&one, &other),
        Action::Personalise {
            image,
            config,
            store,
        } => look::personalise(&image, config.as_deref(), store.as_deref()),
        Action::Kernel { check: false } => kernel::file().and_then(|text| print(&text)),
        Action::Kernel { check: true } => kernel::check().and_then(|text| print(&text)),
        Action::Made { folder } => binary::made(&folder).and_then(|text| print(&text)),
        Action::Keys { file } => keys(&file),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            drop(writeln!(std::io::stderr(), "cairn-image: {sentence}"));
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> Result<(), String> {
    writeln!(std::io::stdout(), "{}", text.trim_end()).map_err(|error| error.to_string())
}

fn keys(file: &Path) -> Result<(), String> {
    let (secret, public) = bundle::keys()?;
    let mut public_file = file.as_os_str().to_owned();
    public_file.push(".pub");
    tool::write_secret(file, secret.as_bytes())?;
    tool::write(Path::new(&public_file), public.as_bytes())
}

fn build(options: &Build) -> Result<(), String> {
    let program = match &options.binary {
        Some(file) => binary::Program::read(file)?,
        None => binary::build(options.feature.as_deref())?,
    };
    let kernel = match &options.kernel {
        Some(file) => kernel::Kernel::read(file)?,
        None => kernel::get()?,
    };
    let mut release = binary::release(&program.bytes)?;
    if let Some(version) = &options.release {
        release = renamed(&release, version)?;
    }
    if options.trust.is_empty() {
        let warning = "this image takes no later release: --trust names the keys that may sign one";
        writeln!(std::io::stderr(), "{warning}").map_err(|error| error.to_string())?;
    }
    let mut keys = Vec::new();
    for file in &options.trust {
        let text = String::from_utf8(tool::read(file)?).map_err(|error| error.to_string())?;
        keys.push(text.trim().to_owned());
    }
    let said = release.clone();
    release.push_str(&format!(
        "kernel = {:?}\nkeys = {keys:?}\n",
        kernel.made.version
    ));
    let versions = tool::Versions::read(options.versions.as_deref())?;
    let roots = roots(&options.roots)?;
    let bill = sbom::make(&kernel, &program, &versions, &parts(&options.grub, &roots)?);
    let (sbom, licences) = (bill.to_json()?, bill.licences());
    let files = vec![
        ("etc/cairn-release", release.into_bytes()),
        ("etc/ssl/certs/ca-certificates.crt", roots),
        (
            "usr/share/cairn/licences.txt",
            licences.clone().into_bytes(),
        ),
        ("usr/share/cairn/sbom.cdx.json", sbom.clone().into_bytes()),
    ];
    let reads = bundle::reads(&said)?;
    let slot = slot::make(&kernel.bytes, &program.bytes, &files, reads)?;
    let loader = grub::make(&options.grub)?;
    let disk = disk::make(&loader, [Some(&slot), options.both.then_some(&slot)])?;
    let disk = look::personalised(disk, options.config.as_deref(), options.store.as_deref())?;
    fs::create_dir_all(&options.out)
        .map_err(|error| format!("cannot make {}: {error}", options.out.display()))?;
    let raw = options.out.join("cairn.raw");
    tool::write(&raw, &disk)?;
    tool::write(&options.out.join("cairn.cdx.json"), sbom.as_bytes())?;
    tool::write(&options.out.join("licences.txt"), licences.as_bytes())?;
    // What another build can start from.
    kernel.write(&options.out.join("vmlinuz"))?;
    program.write(&options.out.join("cairn"))?;
    if let Some(key) = &options.sign {
        let bundle = bundle::make(&slot, &said, key)?;
        tool::write(&options.out.join("cairn.bundle"), &bundle)?;
    }
    for format in &options.format {
        convert(&raw, *format)?;
    }
    print(&format!("{}  {}", tool::sha256(&disk), raw.display()))
}

/// What is read of packages for an image with this GRUB and these authorities.
fn parts(modules: &Path, roots: &[u8]) -> Result<sbom::Parts, String> {
    let tools = [grub::TOOL, slot::TOOL];
    let [grub_tool, erofs_tool] = tools;
    let mut files = inputs::programs(&tools);
    for name in tools {
        // Its sum stands beside its package's name.
        let file = tool::find(name)?.canonicalize();
        files.remove(&file.map_err(|error| format!("{name}: {error}"))?);
    }
    Ok(sbom::Parts {
        grub_bios: grub::sum(modules, "i386-pc")?,
        grub_efi: grub::sum(modules, "x86_64-efi")?,
        grub_tool: tool::file_sha256(&tool::find(grub_tool)?)?,
        erofs_tool: tool::file_sha256(&tool::find(erofs_tool)?)?,
        roots: tool::sha256(roots),
        libraries: inputs::tell(&files, None)?,
    })
}

/// The same release by another version: only that line is another, as more lines are to follow.
fn renamed(release: &str, version: &str) -> Result<String, String> {
    let is_version = |line: &&str| line.starts_with("version = ");
    if release.lines().filter(is_version).count() != 1 {
        return Err("the program does not say its version".to_owned());
    }
    let lines = release.lines().map(|line| match is_version(&line) {
        true => format!("version = {version:?}\n"),
        false => format!("{line}\n"),
    });
    Ok(lines.collect())
}

/// The certificate authorities that the program trusts.
fn roots(file: &Path) -> Result<Vec<u8>, String> {
    tool::read(file).map_err(|error| format!("{error}; install ca-certificates"))
}

fn convert(raw: &Path, format: Format) -> Result<(), String> {
    let (program, words, name): (_, &[&str], _) = match format {
        Format::Raw => return Ok(()),
        Format::RawZst => ("zstd", &["-19", "-q", "-f", "-T1"], "cairn.raw.zst"),
        Format::Qcow2 => ("qemu-img", &["convert", "-c", "-O", "qcow2"], "cairn.qcow2"),
        Format::Vmdk => (
            "qemu-img",
            &["convert", "-O", "vmdk", "-o", "subformat=streamOptimized"],
            "cairn.vmdk",
        ),
    };
    let to = raw.with_file_name(name);
    let mut command = Command::new(program);
    command.args(words).arg(raw);
    if let Format::RawZst = format {
        command.arg("-o");
    }
    tool::run(command.arg(to)).map(drop)
}
