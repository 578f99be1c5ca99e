//! Min: the smallest of all inputs.

use qloupe_ir::Node;
use qloupe_kernels::BinaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise_gradient::extremum_pullback;
use super::{
    elementwise::{PairFunction, arithmetic, infer_arithmetic},
    number::Number,
};
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext, SymDim,
};

/// `y = min(x0, x1, ...)`, broadcast; NaN wins.
#[derive(Debug)]
pub(super) struct Min;

impl Operator for Min {
    fn op_type(&self) -> &'static str {
        "Min"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_arithmetic(ctx, |a, b| {
            if a == b {
                return Some(a.clone());
            }
            Some(SymDim::known(a.as_known()?.min(b.as_known()?)))
        })
    }

    fn elements(&self, ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::binary(BinaryKernel::Min, ctx)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        arithmetic::<Self>(ctx)
    }
}

impl Differentiable for Min {
    fn covers(&self, _node: &Node, _input_idx: usize) -> bool {
        true
    }

    fn reads_outputs(&self) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        extremum_pullback(ctx)
    }
}

impl PairFunction for Min {
    fn apply<T: Number>(a: T, b: T) -> T {
        a.smaller(b)
    }
}
