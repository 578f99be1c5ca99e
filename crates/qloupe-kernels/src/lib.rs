//! Packed convolution, GEMM, element-wise, layout and quantization kernels over NHWC slices.
//!
//! Same input, same bits: on every instruction set and for any number of threads. A float dot product is one chain of
//! fused multiply-adds per output element, in the order (kh, kw, ic), starting at the bias; integer kernels are exact;
//! exp, log, tanh and the like are polynomials of this crate. A NaN is a NaN everywhere, but its payload is not fixed.
//! Work is split over the current rayon pool by outputs only. `specification` and `qloupe-tensor` hold the slow forms
//! that the fast ones are tested against.
//!
//! Slices of a wrong length are bugs of the caller and panic.

mod accumulators;
mod allocator;
#[cfg(target_arch = "x86_64")]
mod bands;
mod binary;
mod buffer;
mod bytes;
mod chain;
mod compare;
mod conv_f32;
mod conv_i8;
mod conv_transpose_f32;
#[cfg(target_arch = "x86_64")]
mod dense;
#[cfg(target_arch = "x86_64")]
mod depthwise;
mod epilogue;
#[cfg(target_arch = "x86_64")]
mod f32;
mod fp16;
mod gemm_f32;
mod gemm_i8;
mod geometry;
#[cfg(target_arch = "x86_64")]
mod i8;
mod isa;
mod layout;
#[cfg(target_arch = "x86_64")]
mod layout_avx2;
mod lookup;
mod math;
mod matmul_quantized;
mod multiversion;
mod numbers;
mod parallel;
mod pool;
mod pool_quantized;
mod quantize;
mod quantized_binary;
mod real_binary;
mod rounded;
mod softmax;
mod softmax_quantized;
mod specification;
mod statistics;
mod strided;
mod tile_permission;
mod unary;
#[cfg(target_arch = "x86_64")]
mod unroll;

pub use accumulators::{dequantize_accumulators, requantize_accumulators, subtract_window_sums, window_sums};
pub use allocator::LayerAllocator;
pub use binary::{BinaryKernel, binary, binary_row, binary_scalar};
pub use chain::{ChainStep, ElementWise, Head, Operand, Source, Watch, run_chain};
pub use compare::{MAX_PAIRS, PairSums, ReferenceSums, pair_sums};
pub use conv_f32::ConvF32;
pub use conv_i8::ConvI8;
pub use conv_transpose_f32::ConvTransposeF32;
pub use epilogue::{Epilogue, QuantizedSlice, QuantizedSliceMut};
pub use fp16::round_to_fp16;
pub use gemm_f32::{GemmF32, batched_matmul_f32, matmul_f32};
pub use gemm_i8::GemmI8;
pub use geometry::{ConvGeometry, ConvTransposeGeometry, PoolGeometry};
pub use isa::{Isa, isa};
pub use layout::{nchw_to_nhwc, nhwc_to_nchw};
pub use lookup::{ConcatMember, concat_quantized, lookup, lookup_quantized};
pub use matmul_quantized::MatMulQuantized;
pub use numbers::Numbers;
pub use pool::{average_pool, global_average_pool, max_pool, row_means};
pub use pool_quantized::{AveragePoolQuantized, QuantizedElement, global_sum, max_pool_quantized};
pub use quantize::{dequantize, dequantize_to_vec, fake_quantize, quantize, quantize_to_i8, quantize_to_u8};
pub use quantized_binary::{QuantizedBinary, QuantizedBinaryKernel};
pub use real_binary::real_binary;
pub use softmax::softmax_rows;
pub use softmax_quantized::SoftmaxQuantized;
pub use statistics::{MinMax, min_max};
pub use strided::copy_strided;
pub use unary::{UnaryKernel, unary, unary_in_place};

#[doc(hidden)]
pub use accumulators::{dequantize_accumulators_with_isa, requantize_accumulators_with_isa};
#[doc(hidden)]
pub use chain::run_chain_with_isa;
#[doc(hidden)]
pub use fp16::round_to_fp16_with_isa;
#[doc(hidden)]
pub use lookup::{concat_quantized_with_isa, lookup_with_isa};
#[doc(hidden)]
pub use pool_quantized::{global_sum_with_isa, max_pool_quantized_with_isa};
#[doc(hidden)]
pub use quantize::quantize_with_isa;
#[doc(hidden)]
pub use softmax::softmax_rows_with_isa;
#[doc(hidden)]
pub use unary::unary_with_isa;
