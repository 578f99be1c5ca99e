//! MelWeightMatrix: triangular filters from a linear spectrum to the mel scale.

use qloupe_tensor::{DType, Tensor};

use super::cast::cast;
use super::fourier::one_sided;
use super::movement::repeated;
use super::parameters::{dtype_attribute, one_integer, one_number, open_dim, size};
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// A matrix `[dft_length / 2 + 1, num_mel_bins]` whose columns are triangles with peak 1, evenly spaced on the mel scale
/// `mel(f) = 2595 log10(1 + f / 700)` between the edges.
///
/// # Errors
/// Edges that are not ordered or reach beyond the spectrum.
#[derive(Debug)]
pub(super) struct MelWeightMatrix;

fn mel(hertz: f64) -> f64 {
    2595.0 * (hertz / 700.0).ln_1p() / std::f64::consts::LN_10
}

fn hertz(mel: f64) -> f64 {
    700.0 * (mel / 2595.0 * std::f64::consts::LN_10).exp_m1()
}

impl Operator for MelWeightMatrix {
    fn op_type(&self) -> &'static str {
        "MelWeightMatrix"
    }

    fn since_version(&self) -> i64 {
        17
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let dtype = dtype_attribute(ctx.node, "output_datatype")?.unwrap_or(DType::Float32);
        let one = |idx: usize| ctx.elements(idx).and_then(|e| e.first()).cloned();
        let rows = one(1).and_then(|n| n.as_size());
        let rows = rows.map_or_else(|| open_dim(ctx, 0, 0), |n| SymDim::from(one_sided(n)));
        let columns = one(0).unwrap_or_else(|| open_dim(ctx, 0, 1));
        Ok(vec![Fact::new(Some(dtype), Some(vec![rows, columns]))])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let dtype = dtype_attribute(ctx.node, "output_datatype")?.unwrap_or(DType::Float32);
        let (n_mels, dft_length) = (size(one_integer(ctx, 0)?, 0)?, size(one_integer(ctx, 1)?, 1)?);
        let sample_rate = one_integer(ctx, 2)? as f64;
        let (low, high) = (one_number(ctx, 3)?, one_number(ctx, 4)?);
        let n_bins = one_sided(dft_length);
        let step = (mel(high) - mel(low)) / (n_mels as f64 + 2.0);
        let bin = |i: usize| {
            let at = (dft_length as f64 + 1.0) * hertz(i as f64 * step + mel(low)) / sample_rate;
            at.floor()
        };
        let inside = (0.0..n_bins as f64).contains(&bin(n_mels + 1));
        if !(low >= 0.0 && high >= low && sample_rate > 0.0 && inside) {
            return Err(OpError::input(
                4,
                format!(
                    "edges do not fit the spectrum, expected 0 <= lower <= upper <= {} hertz, got {low} and {high}",
                    sample_rate / 2.0
                ),
            ));
        }
        let mut weights = repeated(0.0, &[n_bins, n_mels])?;
        for column in 0..n_mels {
            let [left, center, right] = [0, 1, 2].map(|i| bin(column + i) as usize);
            for row in left..center {
                weights[row * n_mels + column] = (row - left) as f64 / (center - left) as f64;
            }
            for row in center..right {
                weights[row * n_mels + column] = (right - row) as f64 / (right - center) as f64;
            }
            weights[center * n_mels + column] = 1.0;
        }
        Ok(vec![cast(
            &Tensor::new::<f64>(&[n_bins, n_mels], weights)?,
            dtype,
        )?])
    }
}
