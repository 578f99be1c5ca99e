//! Why a model cannot become float16.

use qloupe_ir::IrError;

use super::MIN_OPSET;

/// A model that cannot be converted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The model is too old.
    #[error("the model uses opset {opset}, expected at least {MIN_OPSET}: export it again")]
    Opset {
        /// The operator set of the model.
        opset: i64,
    },
    /// A stored tensor cannot be decoded.
    #[error("tensor \"{name}\": {source}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong.
        source: IrError,
    },
    /// Parts of the model that have no float16 form: all of them.
    #[error("the model cannot become float16: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// Stored tensors with finite values that float16 cannot hold: all of them.
    #[error("{} not fit into float16, expected at most 65504: {}", do_not(.0.len()), list(.0))]
    Overflow(Vec<Overflow>),
}

/// A stored tensor with finite values beyond float16.
#[derive(Clone, Debug, PartialEq)]
pub struct Overflow {
    /// The tensor.
    pub tensor: String,
    /// How many elements.
    pub count: usize,
    /// Of how many.
    pub len: usize,
    /// The largest magnitude.
    pub max_abs: f32,
}

fn do_not(n_tensors: usize) -> String {
    match n_tensors {
        1 => "1 tensor does".to_owned(),
        n => format!("{n} tensors do"),
    }
}

fn list(overflows: &[Overflow]) -> String {
    let describe = |o: &Overflow| {
        format!(
            "\"{}\" ({} of {}, up to {:e})",
            o.tensor, o.count, o.len, o.max_abs
        )
    };
    overflows.iter().map(describe).collect::<Vec<_>>().join(", ")
}
