//! Scaler: features shifted and scaled.

use qloupe_tensor::{DType, Tensor};

use super::normalization::rounded;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y[.., i] = (x[.., i] - offset[i]) * scale[i]`, as float32; a list of one number applies to every feature.
///
/// # Numerics
/// In f64, rounded once.
#[derive(Debug)]
pub(super) struct Scaler;

impl Operator for Scaler {
    fn op_type(&self) -> &'static str {
        "Scaler"
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
        let n = x.shape().last().copied().unwrap_or(1);
        let list = |name: &'static str, absent: f64| {
            let list = ctx.node.floats(name).unwrap_or_default();
            match list.len() {
                0 => Ok(vec![absent; n]),
                1 => Ok(vec![f64::from(list[0]); n]),
                len if len == n => Ok(list.iter().map(|&v| f64::from(v)).collect()),
                len => Err(OpError::attribute(
                    name,
                    format!("wrong length, expected 1 or {n}, got {len}"),
                )),
            }
        };
        let (offsets, scales) = (list("offset", 0.0)?, list("scale", 1.0)?);
        let mut values = x.to_f64_vec()?;
        for row in values.chunks_exact_mut(n.max(1)) {
            for ((v, offset), scale) in row.iter_mut().zip(&offsets).zip(&scales) {
                *v = (*v - offset) * scale;
            }
        }
        Ok(vec![rounded(x.shape(), values, DType::Float32)?])
    }
}
