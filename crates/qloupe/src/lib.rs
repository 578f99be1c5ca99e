//! Quantize ONNX models and see exactly where accuracy was lost.
//!
//! The facade: a model is read and prepared for a target, samples calibrate a plan, the plan is applied, the result is
//! compared with the float model value by value, and a report says what was found. It knows no command line.

pub mod analyze;
pub mod array;
pub mod bench;
pub mod calibrate;
pub mod compare_plans;
pub mod compare_reports;
mod error;
pub mod evaluate;
pub mod exam;
pub mod export;
pub mod feed;
pub mod findings;
pub mod fix;
pub mod hybrid;
pub mod inspect;
mod leading_axis;
pub mod metrics;
pub mod mixed_fp16;
mod one_unit;
pub mod optimize;
pub mod outputs;
mod own_threads;
pub mod passes;
pub mod plan;
pub mod prepare;
pub mod prequantized;
pub mod qdq;
pub mod quantize;
pub mod ranges;
pub mod recipe;
pub mod report;
mod rknn_cfg;
pub mod runner;
pub mod samples;
pub mod sensitivity;
pub mod session;
pub mod shapes;
#[cfg(test)]
mod small_networks;
pub mod targets;
mod unit_costs;
pub mod units;
pub mod value_map;
pub mod weight_only;
pub mod write;

pub use error::Error;
pub use qloupe_exec::Mode;
pub use qloupe_onnx::write_model;
