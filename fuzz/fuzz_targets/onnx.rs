//! Fuzzes what `crates/qloupe/tests/hostile/onnx.rs` does with the bytes of a file.

#![no_main]

#[path = "../../crates/qloupe/tests/hostile/onnx.rs"]
mod onnx;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| onnx::exercise(bytes));
