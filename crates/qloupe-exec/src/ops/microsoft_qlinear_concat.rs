//! com.microsoft.QLinearConcat: quantized tensors one after the other.

use qloupe_tensor::Tensor;

use super::composed::MICROSOFT;
use super::concat::Concat;
use super::quant_parameters::params_at;
use super::quantized_kernel::infer_of;
use crate::integer::{apply, requantize_table};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Stored};

/// Concat of tensors that are brought to the scale of the output first, each by a table of all 256 inputs; those that
/// have it already are copied. The inputs are scale and zero point of y, then tensor, scale and zero point of each.
#[derive(Debug)]
pub(super) struct QLinearConcat;

impl Operator for QLinearConcat {
    fn op_type(&self) -> &'static str {
        "QLinearConcat"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let members: Vec<usize> = (2..ctx.inputs.len()).step_by(3).collect();
        infer_of(ctx, &members, |ctx| Concat.infer(ctx))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        if ctx.inputs.len() < 5 || !(ctx.inputs.len() - 2).is_multiple_of(3) {
            return Err(OpError::input(
                ctx.inputs.len().saturating_sub(1),
                format!(
                    "wrong number of inputs, expected 2 and 3 for each tensor, got {}",
                    ctx.inputs.len()
                ),
            ));
        }
        let output = params_at(ctx, 0, 2)?;
        let mut members = Vec::new();
        for idx in (2..ctx.inputs.len()).step_by(3) {
            let (x, params) = (ctx.require(idx)?, params_at(ctx, idx + 1, idx)?);
            members.push(if params == output {
                x.clone()
            } else {
                let mapped = apply(
                    &requantize_table(&params, &output)?,
                    &Stored::plain(x.clone()),
                    output.dtype(),
                )?;
                mapped.physical().clone()
            });
        }
        let inputs: Vec<Option<&Tensor>> = members.iter().map(Some).collect();
        Concat.eval(&EvalContext {
            node: ctx.node,
            opset: ctx.opset,
            layout: ctx.layout,
            inputs: &inputs,
        })
    }
}
