//! com.microsoft.BiasAdd: an input, a bias for each channel and a residual.

use qloupe_tensor::Tensor;

use super::add::Add;
use super::cast::cast;
use super::composed::{MICROSOFT, plain, with_bias};
use super::elementwise::widened;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = x + bias + skip`; channels are the last axis.
#[derive(Debug)]
pub(super) struct BiasAdd;

impl Operator for BiasAdd {
    fn op_type(&self) -> &'static str {
        "BiasAdd"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let skip = widened(ctx, 2, x.dtype())?;
        if skip.shape() != x.shape() {
            return Err(OpError::input(
                2,
                format!("wrong shape, expected {:?}, got {:?}", x.shape(), skip.shape()),
            ));
        }
        let sum = plain(&Add, &[(0, &with_bias(ctx, 1)?), (2, &skip)])?;
        Ok(vec![cast(&sum, x.dtype())?])
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;

    use super::*;
    use crate::Layout;

    #[test]
    fn everything_is_added() {
        let x = Tensor::new(&[1, 1, 2], vec![1_f32, 2.0]).unwrap();
        let bias = Tensor::vector(vec![10_f32, 20.0]);
        let run = |skip| {
            BiasAdd.eval(&EvalContext {
                node: &Node::default(),
                opset: 1,
                layout: Layout::Plain,
                inputs: &[Some(&x), Some(&bias), Some(skip)],
            })
        };
        assert_eq!(
            run(&x).unwrap(),
            [Tensor::new(&[1, 1, 2], vec![12_f32, 24.0]).unwrap()]
        );
        assert_eq!(
            run(&bias).unwrap_err().to_string(),
            "input 2: wrong shape, expected [1, 1, 2], got [2]"
        );
    }
}
