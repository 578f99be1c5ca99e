//! com.microsoft.FusedMatMul: a scaled matrix product of transposed operands. `TransposeMatMul` is its old name.

use qloupe_tensor::Tensor;

use super::cast::cast;
use super::composed::{MICROSOFT, plain};
use super::elementwise::{FLOATS, widened, wrong_dtype};
use super::mat_mul::multiply;
use super::matrix_product::infer_product;
use super::movement::View;
use super::mul::Mul;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `y = alpha * a' * b'`, with the batch dimensions broadcast.
///
/// `transA` and `transB` exchange the last two axes; `transBatchA` and `transBatchB` first move the first axis to the
/// place before the last. A vector is taken as it is.
#[derive(Debug)]
pub(super) struct FusedMatMul;

impl Operator for FusedMatMul {
    fn op_type(&self) -> &'static str {
        "FusedMatMul"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let dtype = ctx.require(0)?.dtype.or(ctx.require(1)?.dtype);
        let (Some(a), Some(b)) = (ctx.shape(0), ctx.shape(1)) else {
            return Ok(vec![Fact::new(dtype, None)]);
        };
        let turned = |side: usize, shape: &[SymDim]| -> Vec<SymDim> {
            let order = order_of(side, shape.len(), |name| ctx.node.int(name));
            order.into_iter().map(|axis| shape[axis].clone()).collect()
        };
        Ok(vec![Fact::new(
            dtype,
            Some(infer_product(&turned(0, a), &turned(1, b), 1)?),
        )])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let dtype = ctx.require(0)?.dtype();
        if !dtype.is_float() {
            return Err(wrong_dtype(0, FLOATS, dtype));
        }
        let operand = |side| {
            let x = widened(ctx, side, dtype)?;
            let order = order_of(side, x.rank(), |name| ctx.node.int(name));
            let shape: Vec<usize> = order.iter().map(|&axis| x.shape()[axis]).collect();
            View::transposed(x.shape(), &order).copy(&x, &shape)
        };
        let product = multiply(&operand(0)?, &operand(1)?)?;
        let alpha = cast(&Tensor::scalar(ctx.float("alpha", 1.0)), product.dtype())?;
        Ok(vec![cast(&plain(&Mul, &[(0, &product), (1, &alpha)])?, dtype)?])
    }
}

/// The order in which the axes of an operand are taken.
fn order_of(side: usize, rank: usize, int: impl Fn(&str) -> Option<i64>) -> Vec<usize> {
    let is_set = |names: [&str; 2]| int(names[side]).unwrap_or(0) != 0;
    let mut order: Vec<usize> = (0..rank).collect();
    if rank < 2 {
        return order;
    }
    if is_set(["transBatchA", "transBatchB"]) {
        order[..rank - 1].rotate_left(1);
    }
    if is_set(["transA", "transB"]) {
        order.swap(rank - 2, rank - 1);
    }
    order
}

/// The former name of [`FusedMatMul`].
#[derive(Debug)]
pub(super) struct TransposeMatMul;

impl Operator for TransposeMatMul {
    fn op_type(&self) -> &'static str {
        "TransposeMatMul"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        FusedMatMul.infer(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        FusedMatMul.eval(ctx)
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;
    use crate::Layout;

    #[test]
    fn operands_are_transposed_and_the_product_is_scaled() {
        let node = Node::default()
            .with_attribute("transA", AttributeValue::Int(1))
            .with_attribute("alpha", AttributeValue::Float(0.5));
        let a = Tensor::new(&[2, 1], vec![1_f32, 2.0]).unwrap();
        let b = Tensor::new(&[2, 2], vec![2_f32, 4.0, 6.0, 8.0]).unwrap();
        let run = |b: &Tensor| {
            TransposeMatMul.eval(&EvalContext {
                node: &node,
                opset: 1,
                layout: Layout::Plain,
                inputs: &[Some(&a), Some(b)],
            })
        };
        assert_eq!(
            run(&b).unwrap(),
            [Tensor::new(&[1, 2], vec![7_f32, 10.0]).unwrap()]
        );
        assert_eq!(
            run(&a.clone().reshape(&[1, 2]).unwrap()).unwrap_err().to_string(),
            "input 1: wrong number of rows, expected 2 for [1, 2], got 1 in [1, 2]"
        );
    }

    #[test]
    fn the_first_axis_moves_before_the_last() {
        let order =
            |names: &'static [&'static str]| order_of(0, 4, |name| Some(i64::from(names.contains(&name))));
        assert_eq!(order(&["transBatchA"]), [1, 2, 0, 3]);
        assert_eq!(order(&["transBatchA", "transA"]), [1, 2, 3, 0]);
        assert_eq!(order(&["transB"]), [0, 1, 2, 3]);
    }
}
