//! Backups of a server elsewhere, and back to one.

use std::io::{self, Read, Write};
use std::time::Duration;

use zeroize::Zeroizing;

use super::http::Body;
use super::{Client, Remote, broken, encoded, say, tell};
use crate::cli::Failure;
use crate::cli::part::Part;
use crate::service::backup::SoFar;

/// How often a backup is gone on with that was broken off at the same place.
const TRIES: u32 = 5;

/// Between two of them.
const PAUSE: Duration = Duration::from_secs(2);

/// Bytes that are read at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Takes a backup, or the rest of one. When the connection breaks it goes on with what there is.
pub(in crate::cli) fn back_up(remote: &Remote, part: &mut Part) -> Result<(), Failure> {
    let authorization = remote.authorization()?;
    let mut tries = 0;
    loop {
        let before = part.so_far();
        let taken = remote
            .connect(Some(authorization.clone()))
            .and_then(|mut client| back_up_on(&mut client, before.as_ref(), part));
        let error = match taken {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => broken(&error),
            // It may be starting again. A server that cannot be reached at all is not waited for.
            Err(failure) if tries == 0 => return Err(failure),
            Err(failure) => failure,
        };
        part.open_again()?;
        tries = match part.so_far() == before {
            true => tries + 1,
            false => 1,
        };
        if tries > TRIES {
            return Err(error);
        }
        std::thread::sleep(PAUSE);
    }
}

/// The inner error is that of a connection that broke.
fn back_up_on(
    client: &mut Client,
    so_far: Option<&SoFar>,
    part: &mut Part,
) -> Result<io::Result<()>, Failure> {
    let path = match so_far {
        None => "/admin/backup".to_owned(),
        Some(so_far) => format!(
            "/admin/backup?after={}&store={}&begun={}",
            encoded(&so_far.last),
            encoded(&so_far.store),
            so_far.begun_ms
        ),
    };
    let mut reply = client.request("GET", &path, Body::None)?;
    if reply.status != 200 {
        return tell(reply).map(|_| Ok(()));
    }
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match reply.read(&mut piece) {
            Ok(0) if part.is_whole() => return Ok(Ok(())),
            Ok(0) => return Ok(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => part
                .write_all(&piece[..read])
                .map_err(|error| part.cannot_write(&error))?,
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// Restores a backup of so many bytes on a server that nobody has claimed.
pub(in crate::cli) fn restore(
    remote: &Remote,
    code: &str,
    input: &mut dyn Read,
    bytes: u64,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let authorization = Zeroizing::new(format!("Claim {code}"));
    let mut client = remote.connect(Some(authorization))?;
    say(
        client.request("PUT", "/restore", Body::Bytes(input, bytes))?,
        output,
    )
}
