//! People who write to somebody who is not there.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::{Vm, succeeds};

/// Accounts are made from outside, so that the store stays as small as its partition.
pub const CONFIG: &str = "domain = \"chat.example\"\n\
                      [registration]\nmode = \"open\"\n\
                      [limits]\noffline_bytes = 100000000\n";

/// `load.py` with a machine.
pub struct Load {
    python: PathBuf,
    place: String,
}

impl Load {
    pub fn new(python: &Path, vm: &Vm) -> Load {
        Load {
            python: python.to_owned(),
            place: format!("127.0.0.1:{}", vm.port),
        }
    }

    fn command(&self, what: &str, word: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/load.py"));
        command.args([what, &self.place, word]);
        command
    }

    #[track_caller]
    pub fn run(&self, what: &str, word: &str) -> String {
        succeeds(&mut self.command(what, word))
    }

    pub fn start(&self, what: &str, word: &str) -> (Child, BufReader<ChildStdout>) {
        let mut command = self.command(what, word);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("Python runs");
        let said = BufReader::new(child.stdout.take().expect("it is piped"));
        (child, said)
    }

    /// Bob writes to Alice, who is offline, until so many messages of this round are acknowledged;
    /// the name of the last of them. More may be on their way.
    #[track_caller]
    pub fn acknowledged(&self, round: u32, count: usize) -> String {
        let (mut sender, said) = self.start("send", &round.to_string());
        let last = said.lines().nth(count - 1).expect("a line").expect("UTF-8");
        let _ = sender.kill();
        let _ = sender.wait();
        last
    }

    /// Alice gets all messages of each round, up to these.
    #[track_caller]
    pub fn all_there(&self, last: &[String]) {
        let last = last.join(",");
        assert_eq!(self.run("receive", &last).trim(), "all there", "{last}");
    }
}
