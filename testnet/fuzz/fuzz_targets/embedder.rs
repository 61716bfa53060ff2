//! libFuzzer's way in to [`zero2ai_fuzz::models::embedder`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zero2ai_fuzz::models::embedder(bytes));
