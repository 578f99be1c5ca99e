//! Shape: the dimensions of a tensor, or of a range of its axes.

use qloupe_tensor::{DType, Tensor};

use super::parameters::elements_fact;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `y = shape(x)[start:end]`, int64; `start` and `end` are clipped to the rank (opset 15).
#[derive(Debug)]
pub(super) struct Shape;

/// The axes that are asked for.
fn axis_range(start: Option<i64>, end: Option<i64>, rank: usize) -> std::ops::Range<usize> {
    let clip = |axis: i64| {
        let signed = rank as i64;
        let axis = if axis < 0 {
            axis.saturating_add(signed)
        } else {
            axis
        };
        axis.clamp(0, signed) as usize
    };
    let (start, end) = (clip(start.unwrap_or(0)), clip(end.unwrap_or(i64::MAX)));
    start..end.max(start)
}

impl Operator for Shape {
    fn op_type(&self) -> &'static str {
        "Shape"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.require(0)?;
        let Some(shape) = ctx.shape(0) else {
            return Ok(vec![Fact::new(Some(DType::Int64), None)]);
        };
        let range = axis_range(ctx.node.int("start"), ctx.node.int("end"), shape.len());
        let elements = shape[range].to_vec();
        Ok(vec![elements_fact(
            Some(DType::Int64),
            vec![SymDim::from(elements.len())],
            elements,
        )])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let shape = ctx.require(0)?.shape();
        let range = axis_range(ctx.node.int("start"), ctx.node.int("end"), shape.len());
        let dims = shape[range].iter().map(|&d| d as i64).collect();
        Ok(vec![Tensor::vector::<i64>(dims)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clipped() {
        struct Case(Option<i64>, Option<i64>, std::ops::Range<usize>);
        let cases = [
            Case(None, None, 0..3),
            Case(Some(-1), None, 2..3),
            Case(Some(1), Some(-1), 1..2),
            Case(Some(-9), Some(9), 0..3),
            Case(Some(2), Some(1), 2..2),
        ];
        for Case(start, end, expected) in cases {
            assert_eq!(axis_range(start, end, 3), expected, "{start:?} {end:?}");
        }
    }
}
