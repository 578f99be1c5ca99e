//! ConvInteger: the convolution of 8-bit integers as int32.

use qloupe_tensor::{DType, Tensor};

use super::integer_conv::{ConvInputs, IntegerConv, infer_conv};
use super::quant_parameters::activation_zero_point;
use crate::{
    EvalContext, Fact, InferContext, Layout, LayoutRule, OpError, Operator, PrepareContext, Prepared,
};

/// `y = conv(x - x_zero_point, w - w_zero_point)`, exact; the zero point of w may be one for each output channel.
///
/// # Errors
/// A sum that int32 does not hold.
#[derive(Debug)]
pub(super) struct ConvInteger;

const INPUTS: ConvInputs = ConvInputs {
    weight: 1,
    weight_zero_point: 3,
    bias: None,
};

impl Operator for ConvInteger {
    fn op_type(&self) -> &'static str {
        "ConvInteger"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Nhwc
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_conv(ctx, 1, Some(DType::Int32), false)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        convolve(&IntegerConv::new(ctx.node, INPUTS, |idx| ctx.input(idx))?, ctx)
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let conv = IntegerConv::prepare(ctx, INPUTS)?;
        Ok(conv.map(|conv| Box::new(PreparedConvInteger(conv)) as Box<dyn Prepared>))
    }
}

#[derive(Debug)]
struct PreparedConvInteger(IntegerConv);

impl Prepared for PreparedConvInteger {
    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        convolve(&self.0, ctx)
    }
}

fn convolve(conv: &IntegerConv, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.require(0)?;
    let zero_point = activation_zero_point(ctx, 2, x)?;
    Ok(vec![conv.sums(x, zero_point, ctx.layout == Layout::Nhwc)?])
}
