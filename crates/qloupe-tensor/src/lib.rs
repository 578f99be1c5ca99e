//! Dtypes, shapes, tensors and all quantization arithmetic of qloupe.
//!
//! This crate is the written specification: scalar, clear, and the only place that rounds, clips or saturates a
//! quantized value. It knows no files, graphs, threads or serialization. `real = (q - zero_point) * scale` everywhere.

#![deny(clippy::as_conversions)]

mod bias;
mod codes;
mod dtype;
mod element;
mod error;
mod fp16;
mod quant_params;
mod quantize;
mod range;
mod requantize;
mod rounding;
mod scheme;
mod small_float;
mod tensor;

pub use bias::{BiasOutcome, quantize_bias};
pub use codes::{decode, decode_integer, encode_float, has_codes};
pub use dtype::DType;
pub use element::Element;
pub use error::TensorError;
pub use fp16::{Fp16Counts, round_to_fp16, round_to_fp16_in_place};
pub use quant_params::{Granularity, QuantParams};
pub use quantize::{dequantize_linear, fake_quantize_linear, fake_quantize_linear_in_place, quantize_linear};
pub use range::{Range, RangeOutcome, params_from_range};
pub use requantize::{Requantize, dequantize_accumulator};
pub use rounding::Rounding;
pub use scheme::QuantScheme;
pub use small_float::{PowerRounding, SmallFloat};
pub use tensor::{Data, Tensor, n_elements};
