//! PRelu: Relu with a learned slope.

use qloupe_tensor::Tensor;

use super::broadcast::Broadcast;
use super::elementwise::{PairFunction, arithmetic};
use super::number::Number;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

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
