//! Div: `a / b`.

use qloupe_ir::Node;
use qloupe_kernels::BinaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise::{PairFunction, arithmetic, infer_arithmetic, widened};
use super::elementwise::{map, zip_tensors};
use super::elementwise_gradient::{Factor, broadcast_pullback};
use super::number::Number;
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext, SymDim,
};

/// `c = a / b`, broadcast; integers truncate.
///
/// # Errors
/// An integer divisor that is 0.
#[derive(Debug)]
pub(super) struct Div;

impl Operator for Div {
    fn op_type(&self) -> &'static str {
        "Div"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_arithmetic(ctx, |a, b| match (a.as_known(), b.as_known()) {
            (Some(a), Some(b)) => a.checked_div(b).map(SymDim::known),
            (_, Some(0)) => None,
            _ => Some(a.floor_div(b)),
        })
    }

    fn elements(&self, ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        ElementSteps::binary(BinaryKernel::Div, ctx)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        require_nonzero(ctx)?;
        arithmetic::<Self>(ctx)
    }
}

impl Differentiable for Div {
    fn covers(&self, _node: &Node, _input_idx: usize) -> bool {
        true
    }

    fn reads_outputs(&self) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let b = ctx.call.require(1)?.to_f32()?;
        let of_a = Tensor::new(b.shape(), map(b.require()?, |b: f32| 1.0 / b))?;
        let of_b = if ctx.wants(1) {
            let y = ctx.output(0)?.to_f32()?;
            Some(Factor::Tensor(zip_tensors(&y, &b, |y: f32, b: f32| -y / b)?))
        } else {
            None
        };
        broadcast_pullback(ctx, vec![Some(Factor::Tensor(of_a)), of_b])
    }
}

impl PairFunction for Div {
    fn apply<T: Number>(a: T, b: T) -> T {
        a.over(b)
    }
}

/// Checks that no element of an integer divisor, input 1, is 0.
///
/// # Errors
/// An element that is 0, an absent input.
pub(super) fn require_nonzero(ctx: &EvalContext<'_>) -> Result<(), OpError> {
    let divisor = ctx.require(1)?;
    if divisor.dtype().is_float() {
        return Ok(());
    }
    let zero = widened(ctx, 1, divisor.dtype())?;
    let zero = match zero.as_slice::<u64>() {
        Some(values) => values.iter().position(|&v| v == 0),
        None => zero.require::<i64>()?.iter().position(|&v| v == 0),
    };
    zero.map_or(Ok(()), |idx| {
        Err(OpError::input(
            1,
            format!("integer division by zero, expected divisors other than 0, got 0 at element {idx}"),
        ))
    })
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;

    use super::*;
    use crate::Layout;

    #[test]
    fn integers_truncate_and_a_zero_divisor_is_an_error() {
        let node = Node::default();
        let run = |a: Vec<i32>, b: Vec<i32>| {
            let (a, b) = (Tensor::vector(a), Tensor::vector(b));
            Div.eval(&EvalContext {
                node: &node,
                opset: 14,
                layout: Layout::Plain,
                inputs: &[Some(&a), Some(&b)],
            })
        };
        let quotients = run(vec![7, -7, i32::MIN], vec![2, 2, -1]).unwrap();
        assert_eq!(quotients[0].as_slice::<i32>().unwrap(), [3, -3, i32::MIN]);
        assert_eq!(
            run(vec![1, 1], vec![1, 0]).unwrap_err().to_string(),
            "input 1: integer division by zero, expected divisors other than 0, got 0 at element 1"
        );
    }
}
