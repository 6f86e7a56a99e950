//! What no library wraps: moving a partition's end, setting the hardware clock, slewing the
//! system's, and addresses of the link layer.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::{LinkAddr, SockaddrLike};

/// `BLKPG` of linux/blkpg.h, and its operation that changes a partition's length while it is in use.
const BLKPG_RESIZE_PARTITION: libc::c_int = 3;

#[repr(C)]
struct BlkpgPartition {
    start: libc::c_longlong,
    length: libc::c_longlong,
    number: libc::c_int,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

#[repr(C)]
struct BlkpgArgument {
    operation: libc::c_int,
    flags: libc::c_int,
    data_bytes: libc::c_int,
    data: *mut BlkpgPartition,
}

/// `struct rtc_time` of linux/rtc.h: UTC, the month from 0, the year from 1900.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcTime {
    /// 0 to 59.
    pub second: libc::c_int,
    /// 0 to 59.
    pub minute: libc::c_int,
    /// 0 to 23.
    pub hour: libc::c_int,
    /// From 1.
    pub day: libc::c_int,
    /// From 0.
    pub month: libc::c_int,
    /// From 1900.
    pub year: libc::c_int,
    /// The kernel does not read these three.
    pub unused: [libc::c_int; 3],
}

mod request {
    use super::{BlkpgArgument, RtcTime};

    nix::ioctl_write_ptr_bad!(blkpg, 0x1269, BlkpgArgument);
    nix::ioctl_write_ptr!(rtc_set_time, b'p', 0x0a, RtcTime);
}

/// Tells the kernel where partition `number` of `disk` ends now.
pub fn resize_partition(
    disk: &File,
    number: u32,
    start_bytes: u64,
    size_bytes: u64,
) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut partition = BlkpgPartition {
        start: start_bytes.try_into().map_err(invalid)?,
        length: size_bytes.try_into().map_err(invalid)?,
        number: number.try_into().map_err(invalid)?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let argument = BlkpgArgument {
        operation: BLKPG_RESIZE_PARTITION,
        flags: 0,
        data_bytes: size_of::<BlkpgPartition>() as libc::c_int,
        data: &raw mut partition,
    };
    // SAFETY: both structures have the layout of linux/blkpg.h and outlive the call.
    unsafe { request::blkpg(disk.as_raw_fd(), &raw const argument) }?;
    Ok(())
}

/// Sets the hardware clock.
pub fn set_rtc(rtc: &File, time: &RtcTime) -> io::Result<()> {
    // SAFETY: the structure has the layout of linux/rtc.h and outlives the call.
    unsafe { request::rtc_set_time(rtc.as_raw_fd(), time) }?;
    Ok(())
}

/// Lets the system's clock run faster or slower by 1/2000 until it has gained `offset_us`, as
/// adjtime(3) does.
pub fn slew(offset_us: i64) -> io::Result<()> {
    // SAFETY: zeros are a valid timex.
    let mut timex: libc::timex = unsafe { mem::zeroed() };
    timex.modes = libc::ADJ_OFFSET_SINGLESHOT;
    timex.offset = offset_us;
    // SAFETY: the structure outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// An address of the link layer, as the `nix` crate has it, which has no safe way to make one.
#[must_use]
pub fn link_address(raw: &libc::sockaddr_ll) -> Option<LinkAddr> {
    let len = u32::try_from(size_of::<libc::sockaddr_ll>()).ok()?;
    let address = std::ptr::from_ref(raw).cast();
    // SAFETY: it points to a whole `sockaddr_ll` of that length, whose family is looked at first.
    unsafe { LinkAddr::from_raw(address, Some(len)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernel_s() {
        assert_eq!(size_of::<RtcTime>(), 36);
        assert_eq!(size_of::<BlkpgPartition>(), 152);
    }

    #[test]
    fn a_file_is_no_disk_and_no_clock() {
        let file = tempfile::tempfile().expect("a file");
        resize_partition(&file, 1, 0, 512).expect_err("a file has no partitions");
        let epoch = RtcTime {
            second: 0,
            minute: 0,
            hour: 0,
            day: 1,
            month: 0,
            year: 70,
            unused: [0; 3],
        };
        set_rtc(&file, &epoch).expect_err("a file does not tick");
    }
}
