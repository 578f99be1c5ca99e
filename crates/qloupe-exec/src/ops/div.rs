//! Div: `a / b`.

use qloupe_kernels::BinaryKernel;
use qloupe_tensor::Tensor;

use super::elementwise::{PairFunction, arithmetic, infer_arithmetic, widened};
use super::number::Number;
use crate::{
    ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, PrepareContext, SymDim,
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

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        require_nonzero(ctx)?;
        arithmetic::<Self>(ctx)
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
