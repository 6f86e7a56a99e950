//! See `cairn_fuzz::dhcp`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::bounded(cairn_fuzz::dhcp, data));

#[cfg(not(fuzzing))]
fn main() {}
