//! Normalizer: rows divided by their norm.

use qloupe_tensor::{DType, Tensor};

use super::normalization::{each_row, rounded};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = x / norm(x)` for each row along the last axis, as float32; `norm` is `MAX` (of the values), `L1` or `L2`. A row of
/// norm 0 stays as it is.
///
/// # Shapes
/// x: `[C]` or `[N, C]`.
/// # Numerics
/// In f64 with in-order sums, rounded once.
#[derive(Debug)]
pub(super) struct Normalizer;

impl Operator for Normalizer {
    fn op_type(&self) -> &'static str {
        "Normalizer"
    }

    fn domain(&self) -> &'static str {
        "ai.onnx.ml"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        Ok(vec![Fact::new(Some(DType::Float32), x.shape.clone())])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let norm: fn(&[f64]) -> f64 = match ctx.string("norm", "MAX") {
            "MAX" => |row| row.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            "L1" => |row| row.iter().fold(0.0, |sum, v| sum + v.abs()),
            "L2" => |row| row.iter().fold(0.0, |sum, v| sum + v * v).sqrt(),
            other => {
                return Err(OpError::attribute(
                    "norm",
                    format!("unknown, expected MAX, L1 or L2, got {other}"),
                ));
            }
        };
        let mut values = x.to_f64_vec()?;
        each_row(&mut values, x.shape().last().copied().unwrap_or(1), |_, row| {
            let norm = norm(row);
            if norm != 0.0 {
                row.iter_mut().for_each(|v| *v /= norm);
            }
        });
        Ok(vec![rounded(x.shape(), values, DType::Float32)?])
    }
}
