//! Fuzzes what `crates/qloupe/tests/hostile/plan.rs` does with the bytes of a file.

#![no_main]

#[path = "../../crates/qloupe/tests/hostile/plan.rs"]
mod plan;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| plan::exercise(bytes));
