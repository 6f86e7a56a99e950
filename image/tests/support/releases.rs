//! Releases that follow each other, and the administrator who brings them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{Disk, Options, PASSWORD, Vm, cairn, succeeds, tool};

/// What the machines are told.
pub const CONFIG: &str = "domain = \"chat.example\"\n";

/// Images of the same program and kernel, called by other versions.
pub struct Releases {
    folder: tempfile::TempDir,
    /// Where the kernel and the program are.
    made: PathBuf,
}

impl Releases {
    pub fn new(image: &Path) -> Releases {
        let folder = tempfile::tempdir().expect("a folder");
        let releases = Releases {
            folder,
            made: image.parent().expect("a folder").to_owned(),
        };
        for key in ["ours", "theirs"] {
            succeeds(tool().arg("keys").arg(releases.file(key)));
        }
        releases
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Builds one that trusts our key; returns its image.
    pub fn build(&self, version: &str, key: &str, program: Option<&Path>) -> PathBuf {
        let out = self.file(&format!("{version}-{key}"));
        let mut build = tool();
        build.args(["build", "--release", version, "--kernel"]);
        build.arg(self.made.join("vmlinuz"));
        build.arg("--binary");
        build.arg(program.map_or_else(|| self.made.join("cairn"), Path::to_owned));
        build.arg("--trust").arg(self.file("ours.pub"));
        build.arg("--sign").arg(self.file(key));
        build.arg("--out").arg(&out);
        succeeds(&mut build);
        out.join("cairn.raw")
    }

    pub fn bundle(&self, version: &str, key: &str, program: Option<&Path>) -> PathBuf {
        self.build(version, key, program)
            .with_file_name("cairn.bundle")
    }

    /// A program that hangs as PID 1 (`hangs.c`).
    pub fn hanging(&self) -> PathBuf {
        self.compiled("hangs", &[])
    }

    /// The program as it is, on a kernel that panics when [`Qmp::interrupt`] is called (`falls.c`).
    ///
    /// [`Qmp::interrupt`]: super::qmp::Qmp::interrupt
    pub fn falling(&self) -> PathBuf {
        let program = format!("-DPROGRAM={:?}", self.made.join("cairn"));
        self.compiled("falls", &[&program])
    }

    fn compiled(&self, name: &str, more: &[&str]) -> PathBuf {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support");
        let program = self.file(name);
        let mut compile = Command::new("cc");
        compile.arg("-static").args(more).arg("-o").arg(&program);
        succeeds(compile.arg(sources.join(name).with_extension("c")));
        program
    }
}

/// An administrator elsewhere.
pub struct Administrator {
    pub token: PathBuf,
    pub pin: String,
}

impl Administrator {
    /// Alice, by a token that was made before the machine started.
    pub fn of(disk: &Disk, vm: &mut Vm) -> Administrator {
        Administrator {
            token: disk.file("token"),
            pin: vm.pin(),
        }
    }

    /// `cairn`, with whom it talks to.
    fn command(&self, vm: &Vm) -> Command {
        let mut command = cairn();
        command.arg("--server");
        command.arg(format!("https://127.0.0.1:{}", vm.https));
        command.args(["--pin", &self.pin]);
        command.arg("--token-file").arg(&self.token);
        command
    }

    pub fn run(&self, vm: &Vm, words: &[&str]) -> Output {
        self.command(vm).args(words).output().expect("cairn runs")
    }

    /// Makes an account, with the password of all.
    #[track_caller]
    pub fn adds(&self, vm: &Vm, name: &str) {
        let mut add = self.command(vm);
        add.args(["user", "add", "--password-stdin"]);
        add.arg(format!("{name}@chat.example"));
        add.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = add.spawn().expect("cairn runs");
        let mut input = child.stdin.take().expect("it is piped");
        let line = format!("{PASSWORD}\n");
        input.write_all(line.as_bytes()).expect("it reads");
        drop(input);
        assert!(child.wait().expect("it ends").success());
    }

    #[track_caller]
    pub fn does(&self, vm: &Vm, words: &[&str]) -> String {
        let output = self.run(vm, words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The reason why it is not done.
    #[track_caller]
    pub fn fails(&self, vm: &Vm, words: &[&str]) -> String {
        let output = self.run(vm, words);
        assert!(!output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    }
}

pub fn given() -> Options {
    Options {
        config: Some(CONFIG),
        ..Options::default()
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A machine of release 0.1.0 with an administrator, once it has proved itself.
pub fn proved(releases: &Releases) -> (Disk, Vm, Administrator) {
    proved_with(releases, &[])
}

/// The same, with other people.
pub fn proved_with(releases: &Releases, others: &[&str]) -> (Disk, Vm, Administrator) {
    proved_as(releases, others, &given())
}

/// The same, on a machine that is made so.
pub fn proved_as(
    releases: &Releases,
    others: &[&str],
    options: &Options,
) -> (Disk, Vm, Administrator) {
    let disk = Disk::of(&releases.build("0.1.0", "ours", None));
    disk.seed_administrator_and("alice", others);
    let mut vm = Vm::start(&disk, options);
    vm.wait_for("the server accepts log-ins");
    let admin = Administrator::of(&disk, &mut vm);
    vm.wait_for("slot a has proved itself");
    (disk, vm, admin)
}
