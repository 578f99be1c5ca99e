//! com.microsoft.BiasSoftmax: the softmax of a sum.

use qloupe_tensor::Tensor;

use super::cast::cast;
use super::composed::{MICROSOFT, with_bias};
use super::softmax::Softmax;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// The operator set in which a row of Softmax is everything from `axis` on.
const FLATTENING_OPSET: i64 = 11;

/// `y = softmax(x + bias)` over all axes from `axis` (1 by default) on. A bias of fewer axes has the last ones.
#[derive(Debug)]
pub(super) struct BiasSoftmax;

impl Operator for BiasSoftmax {
    fn op_type(&self) -> &'static str {
        "BiasSoftmax"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let sum = with_bias(ctx, 1)?;
        let rows = EvalContext {
            opset: FLATTENING_OPSET,
            inputs: &[Some(&sum)],
            ..*ctx
        };
        let y = Softmax.eval(&rows)?.remove(0);
        Ok(vec![cast(&y, ctx.require(0)?.dtype())?])
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;

    use super::*;
    use crate::Layout;

    #[test]
    fn a_row_is_everything_from_the_axis_on() {
        let x = Tensor::new(&[2, 2, 1], vec![1_f32, 2.0, 3.0, 4.0]).unwrap();
        let bias = Tensor::new(&[2, 1, 1], vec![5_f32, f32::NEG_INFINITY]).unwrap();
        let hidden = Tensor::new(&[2, 1], vec![0_f32, f32::NEG_INFINITY]).unwrap();
        let run = |bias| {
            let ctx = EvalContext {
                node: &Node::default(),
                opset: 1,
                layout: Layout::Plain,
                inputs: &[Some(&x), Some(bias)],
            };
            BiasSoftmax
                .eval(&ctx)
                .unwrap()
                .remove(0)
                .into_vec::<f32>()
                .unwrap()
        };
        assert_eq!(run(&hidden), [1.0, 0.0, 1.0, 0.0]);
        let y = run(&bias);
        assert!((y[0] + y[1] - 1.0).abs() <= f32::EPSILON && y[1] > y[0], "{y:?}");
        assert!(y[2].is_nan(), "a row without a finite score: {y:?}");
    }
}
