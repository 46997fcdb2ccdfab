#![no_main]

#[path = "../../tests/it/fuzz/logics.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
