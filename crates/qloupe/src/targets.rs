//! Targets: what a device or runtime does with each operator, as data. A new one is a file and two lines here.

mod fp16;
mod onnxruntime;
mod rockchip;

use qloupe_tensor::{DType, QuantScheme, Requantize};

use crate::Error;

pub(crate) use onnxruntime::ONNXRUNTIME;

/// What a target does with an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Reads and writes 8-bit integers, with this requantization.
    Int8(Requantize),
    /// Reads and writes 8-bit integers through a table or by moving them: no arithmetic of its own.
    Int8Exact,
    /// Weights and the data input are 8-bit integers; the arithmetic and the states of a recurrent network are float.
    Int8Weights,
    /// Computes in float16.
    Fp16,
    /// Computes in float32.
    Float,
}

impl Support {
    /// True when integers go in.
    pub fn is_integer(self) -> bool {
        matches!(self, Self::Int8(_) | Self::Int8Exact | Self::Int8Weights)
    }
}

/// A group of operators that the target executes as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// A Relu after Conv, ConvTranspose, Gemm, MatMul, Add.
    Relu,
    /// A Clip with constant bounds after the same.
    Clip,
    /// `x * Sigmoid(x)`.
    Silu,
    /// `x * Clip(x + 3, 0, 6) / 6`, also with HardSigmoid.
    HardSwish,
    /// `x * (1 + erf(x / sqrt(2))) / 2`: supported as Gelu is.
    Gelu,
    /// `(x - mean) / sqrt(variance + epsilon)`, scale and bias: supported as LayerNormalization is.
    LayerNormalization,
}

/// What a device or runtime does with a network.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The id, `rk3588`.
    pub id: &'static str,
    /// One line for lists.
    pub title: &'static str,
    /// The scheme of activations; `None` for a target without integers.
    pub activation: Option<QuantScheme>,
    /// The integer type of weights.
    pub weight_dtype: DType,
    /// What it does with operators of the default set; others fall back.
    pub operators: &'static [(&'static str, Support)],
    /// What it does with operators that are not listed.
    pub fallback: Support,
    /// What it executes as one.
    pub fusions: &'static [Fusion],
    /// Operators whose output has the scale of their input.
    pub shared_scale: &'static [&'static str],
    /// What a reader of its reports has to know.
    pub note: Option<&'static str>,
}

/// Every target, by id.
pub const ALL: &[&Target] = &[
    &fp16::FP16,
    &onnxruntime::ONNXRUNTIME,
    &rockchip::RK3562,
    &rockchip::RK3566,
    &rockchip::RK3568,
    &rockchip::RK3576,
    &rockchip::RK3588,
    &rockchip::RV1103,
    &rockchip::RV1106,
    &rockchip::RV1126B,
];

impl Target {
    /// What it does with an operator.
    pub fn support(&self, op_type: &str, domain: &str) -> Support {
        let known = self
            .operators
            .iter()
            .find(|(name, _)| *name == op_type && domain.is_empty());
        known.map_or(self.fallback, |(_, support)| *support)
    }

    /// True when it executes these as one.
    pub fn fuses(&self, fusion: Fusion) -> bool {
        self.fusions.contains(&fusion)
    }
}

/// The target of an id.
///
/// # Errors
/// [`Error::UnknownChoice`] with all ids.
pub fn find(id: &str) -> Result<&'static Target, Error> {
    ALL.iter()
        .copied()
        .find(|t| t.id == id)
        .ok_or_else(|| Error::unknown_choice("target", id, ALL.iter().map(|t| t.id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sorted_unique_and_well_formed() {
        assert!(
            ALL.windows(2).all(|pair| pair[0].id < pair[1].id),
            "the list is sorted by id"
        );
        for target in ALL {
            assert!(
                target
                    .id
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                "{}",
                target.id
            );
        }
    }

    #[test]
    fn shared_scale_operators_are_integer_operators() {
        for target in ALL.iter().filter(|t| t.activation.is_some()) {
            for op in target.shared_scale {
                assert!(
                    matches!(target.support(op, ""), Support::Int8(_) | Support::Int8Exact),
                    "{} of {}",
                    op,
                    target.id
                );
            }
        }
    }

    #[test]
    fn an_unknown_target_lists_the_choices() {
        assert_eq!(
            find("rk3588s").unwrap_err().to_string(),
            "unknown target \"rk3588s\", did you mean \"rk3588\"? expected one of fp16, onnxruntime, rk3562, rk3566, rk3568, rk3576, rk3588, rv1103, rv1106, rv1126b"
        );
    }
}
