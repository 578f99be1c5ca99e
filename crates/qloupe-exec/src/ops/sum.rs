//! Sum: the sum of all inputs.

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use super::elementwise_gradient::{Factor, broadcast_pullback};
use super::{
    elementwise::{PairFunction, arithmetic, infer_arithmetic},
    number::Number,
};
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback, PullbackContext,
};

/// `y = x0 + x1 + ...` in this order, broadcast.
#[derive(Debug)]
pub(super) struct Sum;

impl Operator for Sum {
    fn op_type(&self) -> &'static str {
        "Sum"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_arithmetic(ctx, |a, b| Some(a.plus(b)))
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        arithmetic::<Self>(ctx)
    }
}

impl Differentiable for Sum {
    fn covers(&self, _node: &Node, _input_idx: usize) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let factors = ctx.call.inputs.iter().map(|_| Some(Factor::Number(1.0)));
        broadcast_pullback(ctx, factors.collect())
    }
}

impl PairFunction for Sum {
    fn apply<T: Number>(a: T, b: T) -> T {
        a.plus(b)
    }
}
