//! ConstantOfShape: a tensor that repeats one number.

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use super::movement::filled;
use super::parameters::{elements_fact, integers, size};
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// A tensor of the shape that `input` holds, filled with `value` (float32 0 by default).
#[derive(Debug)]
pub(super) struct ConstantOfShape;

fn value(node: &Node) -> Result<Tensor, OpError> {
    let Some(stored) = node.tensor("value") else {
        return Ok(Tensor::scalar(0_f32));
    };
    let value = stored
        .tensor()
        .map_err(|error| OpError::attribute("value", error.to_string()))?;
    if value.len() == 1 {
        return Ok(value);
    }
    Err(OpError::attribute(
        "value",
        format!("wrong number of elements, expected 1, got {}", value.len()),
    ))
}

impl Operator for ConstantOfShape {
    fn op_type(&self) -> &'static str {
        "ConstantOfShape"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.require(0)?;
        let value = value(ctx.node)?;
        let dtype = Some(value.dtype());
        let Some(dims) = ctx.elements(0) else {
            return Ok(vec![Fact::new(dtype, None)]);
        };
        let n = dims.iter().try_fold(1_usize, |n, d| n.checked_mul(d.as_size()?));
        Ok(vec![match (integers(&value, 0), n.filter(|&n| n <= 64)) {
            (Ok(number), Some(n)) => elements_fact(dtype, dims.to_vec(), vec![SymDim::known(number[0]); n]),
            _ => Fact::new(dtype, Some(dims.to_vec())),
        }])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let shape = integers(ctx.require(0)?, 0)?
            .into_iter()
            .map(|d| size(d, 0))
            .collect::<Result<Vec<usize>, _>>()?;
        Ok(vec![filled(&value(ctx.node)?, &shape)?])
    }
}
