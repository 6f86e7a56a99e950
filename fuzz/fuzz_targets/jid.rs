//! See `cairn_fuzz::jid`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::bounded(cairn_fuzz::jid, data));

#[cfg(not(fuzzing))]
fn main() {}
