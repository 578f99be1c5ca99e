//! com.microsoft.NhwcMaxPool: MaxPool with the channels last.

use qloupe_tensor::Tensor;

use super::composed::MICROSOFT;
use super::max_pool::MaxPool;
use super::quantized_kernel::{channels_behind, channels_first, infer_channels};
use crate::{EvalContext, Fact, InferContext, OpError, Operator, Stored};

/// MaxPool of `[N, spatial.., C]`.
#[derive(Debug)]
pub(super) struct NhwcMaxPool;

impl Operator for NhwcMaxPool {
    fn op_type(&self) -> &'static str {
        "NhwcMaxPool"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_channels(ctx, true, |ctx| MaxPool.infer(ctx))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = channels_first(ctx.require(0)?)?;
        let y = MaxPool.eval(&EvalContext {
            node: ctx.node,
            opset: ctx.opset,
            layout: x.layout(),
            inputs: &[Some(x.physical())],
        })?;
        y.into_iter()
            .take(1)
            .map(|y| channels_behind(&Stored::of_call(y, x.layout())))
            .collect()
    }
}
