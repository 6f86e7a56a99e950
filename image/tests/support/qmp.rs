//! What QEMU says of a machine that it runs, and what it does to it: its machine protocol (QMP),
//! a line of JSON for each command and answer.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

/// The name of the first disk.
const DISK: &str = "virtio0";

/// A monitor of QEMU, which was started with `-qmp unix:PATH,server=on,wait=off`.
pub struct Qmp {
    stream: BufReader<UnixStream>,
    /// Names of what has happened since it was connected, as far as it was read.
    events: Vec<String>,
}

/// Bytes that a disk has given and taken since the machine was started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub read: u64,
    pub written: u64,
    /// How often it was told to make what it took last.
    pub flushes: u64,
}

impl Qmp {
    /// The words that QEMU has to be started with.
    pub fn words(socket: &Path) -> [String; 2] {
        let words = format!("unix:{},server=on,wait=off", socket.display());
        ["-qmp".to_owned(), words]
    }

    pub fn connect(socket: &Path) -> io::Result<Qmp> {
        let mut stream = BufReader::new(UnixStream::connect(socket)?);
        let mut greeting = String::new();
        stream.read_line(&mut greeting)?;
        let mut qmp = Qmp {
            stream,
            events: Vec::new(),
        };
        qmp.ask(&json!({ "execute": "qmp_capabilities" }))?;
        Ok(qmp)
    }

    fn ask(&mut self, command: &Value) -> io::Result<Value> {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{command}\n").as_bytes())?;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut answer: Value = serde_json::from_str(&line)?;
            if let Some(error) = answer.get("error") {
                return Err(io::Error::other(error.to_string()));
            }
            // Between answers stand events.
            if let Some(event) = answer["event"].as_str() {
                self.events.push(event.to_owned());
            }
            if answer.get("return").is_some() {
                return Ok(answer["return"].take());
            }
        }
    }

    /// How often this has happened since the monitor was connected: what QEMU tells before an answer
    /// has happened before it.
    pub fn times(&mut self, event: &str) -> io::Result<usize> {
        self.ask(&json!({ "execute": "query-status" }))?;
        Ok(self.events.iter().filter(|name| *name == event).count())
    }

    /// An interrupt that cannot be masked, to all processors.
    pub fn interrupt(&mut self) -> io::Result<()> {
        self.ask(&json!({ "execute": "inject-nmi" })).map(drop)
    }

    /// What has gone through the first disk.
    pub fn traffic(&mut self) -> io::Result<Traffic> {
        let disks = self.ask(&json!({ "execute": "query-blockstats" }))?;
        let mut disks = disks.as_array().into_iter().flatten();
        let disk = disks.find(|disk| disk["device"] == DISK);
        let stats = disk.map(|disk| &disk["stats"]);
        let figure = |name: &str| stats.and_then(|stats| stats[name].as_u64()).unwrap_or(0);
        Ok(Traffic {
            read: figure("rd_bytes"),
            written: figure("wr_bytes"),
            flushes: figure("flush_operations"),
        })
    }

    /// The rows of the screen in VGA's text mode, with those that have gone up beyond its edge. What
    /// is no ASCII is a question mark; `file` is where QEMU puts it for us.
    pub fn text_screen(&mut self, file: &Path) -> io::Result<Vec<String>> {
        const BEGIN: u64 = 0xb8000;
        const END: u64 = 0xc0000;
        // A character and its colours for each of 80 columns.
        const ROW: usize = 160;
        self.ask(&json!({
            "execute": "pmemsave",
            "arguments": { "val": BEGIN, "size": END - BEGIN, "filename": file },
        }))?;
        let character = |cell: &[u8]| match cell[0] {
            byte @ b' '..=b'~' => char::from(byte),
            0 => ' ',
            _ => '?',
        };
        let bytes = std::fs::read(file)?;
        let rows = bytes.chunks_exact(ROW);
        Ok(rows
            .map(|row| row.chunks_exact(2).map(character).collect())
            .collect())
    }

    /// From now on the first disk is no faster than that, in bytes a second each way; 0: as fast
    /// as it can be.
    pub fn slow_down(&mut self, read: u64, written: u64) -> io::Result<()> {
        self.ask(&json!({
            "execute": "block_set_io_throttle",
            "arguments": {
                "device": DISK, "bps": 0, "bps_rd": read, "bps_wr": written,
                "iops": 0, "iops_rd": 0, "iops_wr": 0,
            },
        }))?;
        Ok(())
    }
}
