//! PRelu: Relu with a learned slope.

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use super::broadcast::Broadcast;
use super::elementwise::{PairFunction, arithmetic};
use super::elementwise::{map, zip_tensors};
use super::elementwise_gradient::{Factor, broadcast_pullback};
use super::number::Number;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback, PullbackContext,
};

/// `y = x` for `x >= 0`, `slope * x` below; the slope broadcasts to `x`.
#[derive(Debug)]
pub(super) struct PRelu;

impl Operator for PRelu {
    fn op_type(&self) -> &'static str {
        "PRelu"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (x, slope) = (ctx.require(0)?, ctx.require(1)?);
        if Broadcast::new([x.shape(), slope.shape()])?.shape() != x.shape() {
            return Err(OpError::input(
                1,
                format!(
                    "slope does not broadcast to x, expected a shape that fits {:?}, got {:?}",
                    x.shape(),
                    slope.shape()
                ),
            ));
        }
        arithmetic::<Self>(ctx)
    }
}

impl Differentiable for PRelu {
    fn covers(&self, _node: &Node, _input_idx: usize) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let (x, slope) = (ctx.call.require(0)?.to_f32()?, ctx.call.require(1)?.to_f32()?);
        let of_x = zip_tensors(&x, &slope, |x: f32, slope: f32| if x < 0.0 { slope } else { 1.0 })?;
        let of_slope = Tensor::new(x.shape(), map(x.require()?, |x: f32| x.min(0.0)))?;
        broadcast_pullback(
            ctx,
            vec![Some(Factor::Tensor(of_x)), Some(Factor::Tensor(of_slope))],
        )
    }
}

impl PairFunction for PRelu {
    fn apply<T: Number>(x: T, slope: T) -> T {
        if x < T::ZERO { slope.times(x) } else { x }
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;

    use super::*;
    use crate::Layout;

    #[test]
    fn the_slope_must_not_enlarge_x() {
        let (x, slope) = (Tensor::vector(vec![-1.0_f32]), Tensor::vector(vec![1.0_f32, 2.0]));
        let error = PRelu
            .eval(&EvalContext {
                node: &Node::default(),
                opset: 16,
                layout: Layout::Plain,
                inputs: &[Some(&x), Some(&slope)],
            })
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "input 1: slope does not broadcast to x, expected a shape that fits [1], got [2]"
        );
    }
}
