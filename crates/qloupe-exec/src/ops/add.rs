//! Add: `a + b`.

use qloupe_ir::Node;
use qloupe_kernels::BinaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise_gradient::{Factor, broadcast_pullback};
use super::{
    elementwise::{PairFunction, arithmetic, infer_arithmetic},
    number::Number,
};
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext,
};

/// `c = a + b`, broadcast; integers wrap.
#[derive(Debug)]
pub(super) struct Add;

impl Operator for Add {
    fn op_type(&self) -> &'static str {
        "Add"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_arithmetic(ctx, |a, b| Some(a.plus(b)))
    }

    fn elements(&self, ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::binary(BinaryKernel::Add, ctx)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        arithmetic::<Self>(ctx)
    }
}

impl Differentiable for Add {
    fn covers(&self, _node: &Node, _input_idx: usize) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let factors = ctx.call.inputs.iter().map(|_| Some(Factor::Number(1.0)));
        broadcast_pullback(ctx, factors.collect())
    }
}

impl PairFunction for Add {
    fn apply<T: Number>(a: T, b: T) -> T {
        a.plus(b)
    }
}
