//! SwiGLU: a linear input, gated by the Swish of another.

use qloupe_tensor::Tensor;

use super::cast::cast;
use super::composed::apply;
use super::elementwise::widened;
use super::mul::Mul;
use super::swish::Swish;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = a * sigmoid(alpha * a) * b`; `alpha` is 1 by default.
#[derive(Debug)]
pub(super) struct SwiGLU;

impl Operator for SwiGLU {
    fn op_type(&self) -> &'static str {
        "SwiGLU"
    }

    fn since_version(&self) -> i64 {
        28
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let dtype = ctx.require(0)?.dtype();
        let (a, b) = (widened(ctx, 0, dtype)?, widened(ctx, 1, dtype)?);
        if a.shape() != b.shape() {
            return Err(OpError::input(
                1,
                format!("wrong shape, expected {:?}, got {:?}", a.shape(), b.shape()),
            ));
        }
        let gate = apply(&Swish, ctx.node, ctx.layout, &[(0, &a)])?.remove(0);
        let y = apply(&Mul, ctx.node, ctx.layout, &[(0, &gate), (1, &b)])?.remove(0);
        Ok(vec![cast(&y, dtype)?])
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;

    use super::*;
    use crate::Layout;

    #[test]
    fn nothing_is_broadcast() {
        let (a, b) = (Tensor::vector(vec![0_f32; 2]), Tensor::scalar(1_f32));
        let error = SwiGLU.eval(&EvalContext {
            node: &Node::default(),
            opset: 28,
            layout: Layout::Plain,
            inputs: &[Some(&a), Some(&b)],
        });
        assert_eq!(
            error.unwrap_err().to_string(),
            "input 1: wrong shape, expected [2], got []"
        );
    }
}
