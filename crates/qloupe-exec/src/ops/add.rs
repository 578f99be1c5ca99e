//! Add: `a + b`.

use qloupe_kernels::BinaryKernel;
use qloupe_tensor::Tensor;

use super::{
    elementwise::{PairFunction, arithmetic, infer_arithmetic},
    number::Number,
};
use crate::{ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, PrepareContext};

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

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        arithmetic::<Self>(ctx)
    }
}

impl PairFunction for Add {
    fn apply<T: Number>(a: T, b: T) -> T {
        a.plus(b)
    }
}
