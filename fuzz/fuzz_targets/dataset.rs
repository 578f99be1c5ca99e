//! Fuzzes what `crates/qloupe/tests/hostile/dataset.rs` does with the bytes of a file.

#![no_main]

#[path = "../../crates/qloupe/tests/hostile/dataset.rs"]
mod dataset;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dataset::exercise(bytes));
