//! libFuzzer's way in to [`zero2ai_fuzz::outcomes::outcome`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zero2ai_fuzz::outcomes::outcome(bytes));
