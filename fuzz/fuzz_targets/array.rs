//! Fuzzes what `crates/qloupe/tests/hostile/array.rs` does with the bytes of a file.

#![no_main]

#[path = "../../crates/qloupe/tests/hostile/array.rs"]
mod array;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| array::exercise(bytes));
