//! com.microsoft.QLinearSoftmax: Softmax of a quantized tensor in integers.

use qloupe_tensor::Tensor;

use super::composed::MICROSOFT;
use super::quant_parameters::params_at;
use crate::integer::qlinear_softmax;
use crate::operator::resolve_axis;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, Stored};

/// Softmax along `axis` by a table of 256 exponentials and an integer division; where the attribute `opset` is below
/// 13, over all axes from `axis` on, which then is 1 by default.
#[derive(Debug)]
pub(super) struct QLinearSoftmax;

impl Operator for QLinearSoftmax {
    fn op_type(&self) -> &'static str {
        "QLinearSoftmax"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let flattens = ctx.int("opset", 13) < 13;
        let axis = resolve_axis(ctx.int("axis", if flattens { 1 } else { -1 }), x.rank())?;
        let (input, output) = (params_at(ctx, 1, 0)?, params_at(ctx, 3, 0)?);
        if input.dtype() != x.dtype() || output.dtype() != x.dtype() {
            return Err(OpError::input(
                0,
                format!(
                    "dtypes differ, expected {} and {}, got {}",
                    input.dtype(),
                    output.dtype(),
                    x.dtype()
                ),
            ));
        }
        let (view, axis) = if flattens {
            let rows: usize = x.shape()[..axis].iter().product();
            let columns = x.shape()[axis..].iter().product();
            (x.clone().reshape(&[rows, columns])?, 1)
        } else {
            (x.clone(), i64::try_from(axis).unwrap_or(i64::MAX))
        };
        let kernel = qlinear_softmax(axis, input.scale()[0], &output);
        let outputs = kernel.run(&[&Stored::plain(view)])?;
        let reshape = |y: &Stored| Ok(y.to_plain().clone().reshape(x.shape())?);
        outputs.iter().map(reshape).collect()
    }
}
