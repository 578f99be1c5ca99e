//! com.microsoft.QLinearSigmoid: the logistic function of a quantized tensor.

use qloupe_kernels::{UnaryKernel, unary};
use qloupe_tensor::Tensor;

use super::quant_parameters::params_at;
use super::quantized_kernel::KernelOperator;
use crate::integer::{IntegerKernel, element_wise_kernel};
use crate::{EvalContext, Fact, InferContext, OpError};

/// `y = quantize(1 / (1 + e^-dequantize(x)))`, by a table of all 256 inputs.
#[derive(Debug)]
pub(super) struct QLinearSigmoid;

impl KernelOperator for QLinearSigmoid {
    const OP_TYPE: &'static str = "QLinearSigmoid";
    const ACTIVATIONS: &'static [usize] = &[0];
    const PARAMETERS: &'static [usize] = &[1, 2, 3, 4];

    fn infer_outputs(ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn compile(ctx: &EvalContext<'_>) -> Result<Box<dyn IntegerKernel>, OpError> {
        element_wise_kernel(&params_at(ctx, 1, 0)?, &params_at(ctx, 3, 0)?, |x| {
            let mut y = vec![0.0; x.len()];
            unary(UnaryKernel::Sigmoid, x.require()?, &mut y);
            Ok(Tensor::vector(y))
        })
    }
}
