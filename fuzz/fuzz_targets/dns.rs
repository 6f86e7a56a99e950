//! See `cairn_fuzz::dns`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| cairn_fuzz::bounded(cairn_fuzz::dns, data));

#[cfg(not(fuzzing))]
fn main() {}
