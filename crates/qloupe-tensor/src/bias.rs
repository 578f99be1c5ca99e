//! The int32 bias of an integer convolution or GEMM.

use crate::{Rounding, rounding::clip_to_i32};

/// Largest bias magnitude that is used: leaves headroom of half the int32 range for the accumulation.
const MAX_BIAS: f64 = 1_073_741_824.0;

/// What happened to one channel of a bias.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BiasOutcome {
    /// The bias fits.
    Normal,
    /// The bias would overflow int32 at this weight scale; it fits at `weight_scale`.
    BiasOverflow {
        /// Which output channel.
        channel: usize,
        /// The smallest weight scale at which the bias fits.
        weight_scale: f32,
    },
}

/// Quantizes a bias to int32 with scale `input_scale * weight_scale[c]` and zero point 0.
///
/// # Shapes
/// bias: `[C]`; weight_scale: `[C]` or `[1]`; output: `[C]`.
/// # Edge cases
/// A channel whose bias exceeds 2^30 steps is clipped and reported with the weight scale that would hold it, so that
/// the caller can raise the scale.
/// # Source
/// ONNX QLinearConv: bias scale is the product of input and weight scale.
pub fn quantize_bias(bias: &[f32], input_scale: f32, weight_scale: &[f32]) -> (Vec<i32>, Vec<BiasOutcome>) {
    let mut outcomes = Vec::new();
    let quantized = bias
        .iter()
        .enumerate()
        .map(|(channel, &b)| {
            let w = if weight_scale.len() == 1 {
                weight_scale[0]
            } else {
                weight_scale[channel]
            };
            let steps = f64::from(b) / (f64::from(input_scale) * f64::from(w));
            if steps.abs() > MAX_BIAS {
                #[expect(
                    clippy::as_conversions,
                    reason = "a scale is an f32; the next one up keeps the bias inside"
                )]
                let weight_scale =
                    (f64::from(b).abs() / MAX_BIAS / f64::from(input_scale)) as f32 * (1.0 + f32::EPSILON);
                outcomes.push(BiasOutcome::BiasOverflow {
                    channel,
                    weight_scale,
                });
            }
            clip_to_i32(
                Rounding::TiesEven.round(b / (input_scale * w)),
                -1_073_741_824.0,
                1_073_741_824.0,
            )
        })
        .collect();
    (quantized, outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflowing_channel_is_named_with_the_scale_that_holds_it() {
        let (q, outcomes) = quantize_bias(&[1.0, 100.0], 1e-4, &[1e-2, 1e-6]);
        assert_eq!(q, [1_000_000, 1_073_741_824]);
        let [
            BiasOutcome::BiasOverflow {
                channel: 1,
                weight_scale,
            },
        ] = outcomes[..]
        else {
            panic!("{outcomes:?}")
        };
        assert!(
            quantize_bias(&[100.0], 1e-4, &[weight_scale]).1.is_empty(),
            "{weight_scale} does not hold the bias"
        );
    }
}
