//! com.microsoft.QLinearWhere: one of two quantized values, by a condition.

use qloupe_tensor::Tensor;

use super::composed::MICROSOFT;
use super::quant_parameters::params_at;
use super::quantized_kernel::infer_of;
use super::r#where::Where;
use crate::integer::{apply, requantize_table};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Stored};

/// `z = condition ? x : y`, broadcast; x and y are brought to the scale of z first, each by a table of all 256 inputs.
#[derive(Debug)]
pub(super) struct QLinearWhere;

impl Operator for QLinearWhere {
    fn op_type(&self) -> &'static str {
        "QLinearWhere"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_of(ctx, &[0, 1, 4], |ctx| Where.infer(ctx))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let output = params_at(ctx, 7, 1)?;
        let mapped = |idx: usize| {
            let (x, params) = (ctx.require(idx)?, params_at(ctx, idx + 1, idx)?);
            if params == output {
                return Ok(x.clone());
            }
            let table = requantize_table(&params, &output)?;
            apply(&table, &Stored::plain(x.clone()), output.dtype()).map(|y| y.physical().clone())
        };
        let (x, y) = (mapped(1)?, mapped(4)?);
        Where.eval(&EvalContext {
            node: ctx.node,
            opset: ctx.opset,
            layout: ctx.layout,
            inputs: &[Some(ctx.require(0)?), Some(&x), Some(&y)],
        })
    }
}
