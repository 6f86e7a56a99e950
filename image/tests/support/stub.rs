//! What a debugger does to the machine's processor, by QEMU's own stub: the machine has no shell that
//! could signal a process, but its processor can be made to fail one.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long the machine runs between two looks.
const RUNS: Duration = Duration::from_millis(7);
/// Looks until the server is known from other processes, and given up after.
const LOOKS_MAX: u32 = 5_000;
/// Looks at user code that show whose it is.
const SEEN: u32 = 12;
/// Bits of CR3 that do not tell which process it is of: the context's number, and the half of the
/// page tables that user code sees.
const NOT_THE_PROCESS: u64 = 0x1fff | 1 << 63;

/// A connection to the stub.
pub struct Stub {
    stream: UnixStream,
}

/// What is looked at of the processor.
struct Looked {
    /// It runs user code.
    is_user: bool,
    /// Of which process.
    process: u64,
}

impl Stub {
    /// The words for QEMU.
    pub fn options(socket: &Path) -> Vec<String> {
        let place = format!("unix:{},server=on,wait=off", socket.display());
        vec!["-gdb".to_owned(), place]
    }

    /// Stops the machine.
    pub fn connect(socket: &Path) -> Stub {
        let stream = UnixStream::connect(socket).expect("the stub listens");
        let mut stub = Stub { stream };
        // Asked for the names of registers it takes orders for single ones.
        stub.ask("qXfer:features:read:target.xml:0,ffb");
        stub
    }

    /// Makes whoever computes most, which is the server under load, jump to where there is nothing,
    /// and lets the machine run on.
    pub fn fail_the_busiest(mut self) {
        let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
        for _ in 0..LOOKS_MAX {
            let looked = self.look();
            if looked.is_user {
                let count = seen.entry(looked.process).or_default();
                *count += 1;
                let count = *count;
                let all: u32 = seen.values().sum();
                if count >= SEEN && count * 4 >= all * 3 {
                    assert_eq!(self.ask("P10=0000000000000000"), "OK");
                    assert_eq!(self.ask("D"), "OK");
                    println!("looks at user code, by process: {seen:x?}");
                    return;
                }
            }
            self.run_for_a_moment();
        }
        panic!("nobody computes: {seen:x?}");
    }

    fn look(&mut self) -> Looked {
        let hex = self.ask("g");
        let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex");
        // 16 registers of 8 bytes, RIP; flags and six segments of 4; three bases, CR0, CR2, CR3.
        let (code_segment, cr3) = (140, 204);
        let cr3: [u8; 8] = std::array::from_fn(|index| byte(cr3 + index));
        Looked {
            is_user: byte(code_segment) & 3 == 3,
            process: u64::from_le_bytes(cr3) & !NOT_THE_PROCESS,
        }
    }

    fn run_for_a_moment(&mut self) {
        self.send("c");
        self.stream.set_read_timeout(Some(RUNS)).expect("a timeout");
        let mut byte = [0];
        // The acknowledgement, and then nothing.
        while let Ok(1) = self.stream.read(&mut byte) {}
        self.stream.set_read_timeout(None).expect("no timeout");
        self.stream.write_all(&[3]).expect("it reads");
        let said = self.hear();
        assert!(said.starts_with('T'), "{said}");
    }

    fn ask(&mut self, what: &str) -> String {
        self.send(what);
        loop {
            let said = self.hear();
            // That it has stopped for whoever connects, some versions say unasked.
            if !said.starts_with('T') {
                return said;
            }
        }
    }

    fn send(&mut self, what: &str) {
        let sum = what.bytes().fold(0_u8, u8::wrapping_add);
        let packet = format!("${what}#{sum:02x}");
        self.stream.write_all(packet.as_bytes()).expect("it reads");
    }

    /// The next packet, acknowledged.
    fn hear(&mut self) -> String {
        while self.byte() != b'$' {}
        let mut said = Vec::new();
        loop {
            match self.byte() {
                b'#' => break,
                byte => said.push(byte),
            }
        }
        // Its sum.
        self.byte();
        self.byte();
        self.stream.write_all(b"+").expect("it reads");
        String::from_utf8_lossy(&said).into_owned()
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        loop {
            match self.stream.read_exact(&mut byte) {
                Ok(()) => return byte[0],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("the stub is gone: {error}"),
            }
        }
    }
}
