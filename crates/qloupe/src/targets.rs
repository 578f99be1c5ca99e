//! Targets: what a device or runtime does with each operator, as data. A new one is a file and two lines here.

mod fp16;
mod onnxruntime;
mod rockchip;

use qloupe_tensor::{DType, Granularity, QuantParams, QuantScheme, Requantize};

use crate::Error;
use crate::plan::{Method, weight_only_word};

pub(crate) use onnxruntime::ONNXRUNTIME;

/// The opset that QuantizeLinear and DequantizeLinear of channels came with.
const OPSET_PER_CHANNEL: i64 = 13;
/// The opset that those to and from 16 bits came with.
const OPSET_16_BIT: i64 = 21;
/// The opset that DequantizeLinear of blocks and of int4 came with.
const OPSET_WEIGHT_ONLY: i64 = 21;

/// What a target does with an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Reads and writes 8-bit integers, with this requantization.
    Int8(Requantize),
    /// Reads and writes 8-bit integers through a table or by moving them: no arithmetic of its own.
    Int8Exact,
    /// Weights and the data input are 8-bit integers; the arithmetic and the states of a recurrent network are float.
    Int8Weights,
    /// Values and arithmetic are float16; the weights are integers.
    WeightOnly,
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
    /// A convolution and the Add of another value behind it, then Relu or Clip: the sum is rounded, not what is added. Not
    /// behind a depthwise convolution, nor behind one that is activated before.
    ConvAdd,
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
    /// The type of weights: float16 for a target without any integers.
    pub weight_dtype: DType,
    /// Input channels that share a scale in each output channel, where the target has blocks: the default there.
    pub weight_block: Option<usize>,
    /// True where the zero point of weights is 0; else their range is that of their elements and 0.
    pub symmetric_weights: bool,
    /// What it does with operators of the default set; others fall back.
    pub operators: &'static [(&'static str, Support)],
    /// What it does with operators that are not listed.
    pub fallback: Support,
    /// What it executes as one.
    pub fusions: &'static [Fusion],
    /// Activations, by operator, that a product computes on what it summed up, before anything is rounded: behind Gemm, MatMul
    /// by a constant and Conv that is not depthwise (as many channels out as in and groups). `Swish`, `HardSwish` and `Gelu` are those that exporters spell out, too.
    pub product_activations: &'static [&'static str],
    /// Operators whose output has the scale of their input.
    pub shared_scale: &'static [&'static str],
    /// What a reader of its reports has to know.
    pub note: Option<&'static str>,
}

/// Every target, by id.
pub const ALL: &[&Target] = &[
    &fp16::FP16,
    &onnxruntime::ONNXRUNTIME,
    &onnxruntime::ONNXRUNTIME_W8A16,
    &rockchip::RK3562,
    &rockchip::RK3562_W8A16,
    &rockchip::RK3566,
    &rockchip::RK3568,
    &rockchip::RK3576,
    &rockchip::RK3576_W4A16,
    &rockchip::RK3588,
    &rockchip::RV1103,
    &rockchip::RV1106,
    &rockchip::RV1126B,
    &rockchip::RV1126B_W4A16,
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

    /// The scheme of weights.
    pub fn weight_scheme(&self, granularity: Granularity) -> QuantScheme {
        if self.symmetric_weights {
            return QuantScheme::symmetric(self.weight_dtype, granularity);
        }
        QuantScheme {
            granularity,
            ..QuantScheme::asymmetric(self.weight_dtype)
        }
    }

    /// True where every value is float16, whatever weights are.
    pub fn keeps_values_float(&self) -> bool {
        self.activation.is_none()
    }

    /// The word for what it computes in where every value is float16: `fp16`, or with integer weights `w4a16` and the like.
    pub fn float_word(&self) -> Option<&'static str> {
        match self.activation {
            Some(_) => None,
            None => weight_only_word(self.weight_dtype).or(Some("fp16")),
        }
    }

    /// True where weights are integers and every value is float16.
    pub fn quantizes_weights_only(&self) -> bool {
        self.keeps_values_float() && self.weight_dtype.integer_range().is_some()
    }

    /// True where weights are integers of this type and every value is float16.
    pub fn has_only_weights_in(&self, dtype: DType) -> bool {
        self.quantizes_weights_only() && self.weight_dtype == dtype
    }

    /// True where nothing is an integer.
    pub fn is_fp16(&self) -> bool {
        self.keeps_values_float() && !self.quantizes_weights_only()
    }

    /// The parameters of a weight as a model for the target holds them: beside float16 values, scales are float16, too.
    pub fn stored_weight_params(&self, params: QuantParams) -> QuantParams {
        if self.quantizes_weights_only() {
            params.with_float16_scales()
        } else {
            params
        }
    }

    /// The scales of weights where none are asked for.
    pub fn default_method(&self) -> Method {
        match self.weight_block {
            Some(_) => Method::Block,
            None => Method::Channel,
        }
    }

    /// The least opset whose QuantizeLinear and DequantizeLinear have its types; `None` for a target without integers.
    pub fn least_opset(&self) -> Option<i64> {
        if self.quantizes_weights_only() {
            return Some(OPSET_WEIGHT_ONLY);
        }
        Some(match self.activation?.dtype {
            DType::Int16 | DType::UInt16 => OPSET_16_BIT,
            _ => OPSET_PER_CHANNEL,
        })
    }

    /// True when a product computes an activation before it rounds.
    pub fn activates_product(&self, op_type: &str) -> bool {
        self.product_activations.contains(&op_type)
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
    fn activations_of_products_are_sorted_and_integer_operators() {
        for target in ALL {
            let list = target.product_activations;
            assert!(list.is_sorted(), "{} of {list:?}", target.id);
            for op in list.iter().filter(|op| **op != "Swish") {
                assert!(target.support(op, "").is_integer(), "{op} of {}", target.id);
            }
        }
    }

    #[test]
    fn an_unknown_target_lists_the_choices() {
        assert_eq!(
            find("rk3588s").unwrap_err().to_string(),
            "unknown target \"rk3588s\", did you mean \"rk3588\"? expected one of fp16, onnxruntime, onnxruntime-w8a16, rk3562, rk3562-w8a16, rk3566, rk3568, rk3576, rk3576-w4a16, rk3588, rv1103, rv1106, rv1126b, rv1126b-w4a16"
        );
    }
}
