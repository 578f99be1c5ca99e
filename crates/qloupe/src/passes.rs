//! Rewrites of the graph before quantization. Each records what happened to the values it removed.

pub mod convert_fp16;
pub mod fold_batch_norm;
pub mod rescale_concat;
pub mod resolve_branches;
pub mod scale_values;
pub mod shift_values;
pub mod upgrade_opset;

pub use rescale_concat::Rescale;
pub use scale_values::Scaling;
pub use shift_values::Shift;

/// A value of the original graph that the target never has, because the value `into` stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fused {
    /// The value that is gone.
    pub value: String,
    /// The value that stands for it.
    pub into: String,
    /// The pass that did it.
    pub pass: &'static str,
}
