//! Descriptors that pass from PID 1 to a child, by number.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

/// Numbers below are standard input, output and error.
const FIRST: RawFd = 3;

/// A copy of `fd` that the next child inherits; the caller drops it once the child was started, and
/// starts no other meanwhile.
pub fn lend(fd: &OwnedFd) -> io::Result<OwnedFd> {
    let lent = fcntl_dupfd_cloexec(fd, FIRST)?;
    fcntl_setfd(&lent, FdFlags::empty())?;
    Ok(lent)
}

/// Takes a descriptor that this process was started with. It is not passed on.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    if number < FIRST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number came on the command line from the parent, which lent it for this alone;
    // it is taken once, before anything else opens a file. A wrong one fails below.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    if let Err(error) = fcntl_setfd(&fd, FdFlags::CLOEXEC) {
        // Nothing is open there: nothing may be closed either.
        std::mem::forget(fd);
        return Err(error.into());
    }
    Ok(fd)
}
