//! com.microsoft.QLinearLeakyRelu: LeakyRelu of a quantized tensor.

use qloupe_tensor::Tensor;

use super::quant_parameters::params_at;
use super::quantized_kernel::KernelOperator;
use crate::integer::{IntegerKernel, element_wise_kernel};
use crate::{EvalContext, Fact, InferContext, OpError};

/// `y = quantize(max(x, 0) + alpha * min(x, 0))` of the real numbers, by a table of all 256 inputs.
#[derive(Debug)]
pub(super) struct QLinearLeakyRelu;

impl KernelOperator for QLinearLeakyRelu {
    const OP_TYPE: &'static str = "QLinearLeakyRelu";
    const ACTIVATIONS: &'static [usize] = &[0];
    const PARAMETERS: &'static [usize] = &[1, 2, 3, 4];

    fn infer_outputs(ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn compile(ctx: &EvalContext<'_>) -> Result<Box<dyn IntegerKernel>, OpError> {
        let alpha = ctx.float("alpha", 0.01);
        element_wise_kernel(&params_at(ctx, 1, 0)?, &params_at(ctx, 3, 0)?, |x| {
            let leak = |&v: &f32| if v >= 0.0 { v } else { alpha * v };
            Ok(Tensor::vector(x.require::<f32>()?.iter().map(leak).collect()))
        })
    }
}
