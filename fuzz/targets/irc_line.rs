#![no_main]

#[path = "../../tests/it/fuzz/irc_line.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
