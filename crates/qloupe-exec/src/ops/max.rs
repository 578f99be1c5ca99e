//! Max: the largest of all inputs.

use qloupe_kernels::BinaryKernel;
use qloupe_tensor::Tensor;

use super::{
    elementwise::{PairFunction, arithmetic, infer_arithmetic},
    number::Number,
};
use crate::{
    ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, PrepareContext, SymDim,
};

/// `y = max(x0, x1, ...)`, broadcast; NaN wins.
#[derive(Debug)]
pub(super) struct Max;

impl Operator for Max {
    fn op_type(&self) -> &'static str {
        "Max"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_arithmetic(ctx, |a, b| {
            if a == b {
                return Some(a.clone());
            }
            Some(SymDim::known(a.as_known()?.max(b.as_known()?)))
        })
    }

    fn elements(&self, ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::binary(BinaryKernel::Max, ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        arithmetic::<Self>(ctx)
    }
}

impl PairFunction for Max {
    fn apply<T: Number>(a: T, b: T) -> T {
        a.larger(b)
    }
}
