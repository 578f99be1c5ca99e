//! MatMul: the matrix product.

use qloupe_ir::Node;
use qloupe_kernels::{GemmF32, batched_matmul_f32};
use qloupe_tensor::{DType, Tensor};

use super::cast::{cast, computing_dtype};
use super::elementwise::{NUMBERS, widened, wrong_dtype};
use super::matrix_product::{MatrixProduct, infer_product};
use super::number::each_number;
use super::product_gradient::{PackedProduct, product_pullback};
use crate::chain::{ChainHead, HeadKernel};
use crate::{
    Differentiable, EvalContext, Fact, InferContext, OpError, Operator, PrepareContext, Prepared,
    PreparedPullback, Pullback, PullbackContext,
};

/// `y = a * b`, with the batch dimensions broadcast.
///
/// # Numerics
/// Every element of a float32 product is one in-order chain of fused multiply-adds from 0 on.
#[derive(Debug)]
pub(super) struct MatMul;

impl Operator for MatMul {
    fn op_type(&self) -> &'static str {
        "MatMul"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let (a, b) = (ctx.require(0)?, ctx.require(1)?);
        let dtype = a.dtype.or(b.dtype);
        let (Some(a), Some(b)) = (&a.shape, &b.shape) else {
            return Ok(vec![Fact::new(dtype, None)]);
        };
        Ok(vec![Fact::new(dtype, Some(infer_product(a, b, 1)?))])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let dtype = ctx.require(0)?.dtype();
        let (a, b) = (widened(ctx, 0, dtype)?, widened(ctx, 1, dtype)?);
        Ok(vec![cast(&multiply(&a, &b)?, dtype)?])
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let Some(b) = ctx.constants.get(1).and_then(Option::as_ref) else {
            return Ok(None);
        };
        let &[k, n] = b.shape() else {
            return Ok(None);
        };
        let dtype = b.dtype();
        if computing_dtype(dtype) != DType::Float32 {
            return Ok(None);
        }
        let values = cast(b, DType::Float32)?;
        Ok(Some(Box::new(PreparedMatMul {
            gemm: GemmF32::new(values.require()?, k, n, None),
            dtype,
            shape: [k, n],
        })))
    }
}

impl Differentiable for MatMul {
    fn covers(&self, _node: &Node, _input_idx: usize) -> bool {
        true
    }

    fn prepare_pullback(
        &self,
        ctx: &PrepareContext<'_>,
    ) -> Result<Option<Box<dyn PreparedPullback>>, OpError> {
        match ctx.constants.get(1).and_then(Option::as_ref) {
            Some(b) if b.rank() == 2 => Ok(Some(Box::new(PackedProduct::new(b)?))),
            _ => Ok(None),
        }
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        product_pullback(ctx)
    }
}

/// `a * b` of tensors of one type that computes, with the batch dimensions broadcast.
///
/// # Errors
/// Shapes that do not fit, a type that does not compute.
pub(super) fn multiply(a: &Tensor, b: &Tensor) -> Result<Tensor, OpError> {
    let product = MatrixProduct::new(a.shape(), b.shape(), 1)?;
    if let (Some(a), Some(b)) = (a.as_slice::<f32>(), b.as_slice::<f32>()) {
        let (m, k, n) = (product.m, product.k, product.n);
        let mut out = vec![0.0; product.offsets.len() * m * n];
        batched_matmul_f32(a, b, &product.offsets, m, k, n, &mut out);
        return Ok(Tensor::new(&product.output, out)?);
    }
    each_number!(
        a.dtype(), T => Ok(Tensor::new(&product.output, product.compute::<T>(a.require()?, b.require()?))?),
        else Err(wrong_dtype(0, NUMBERS, a.dtype()))
    )
}

/// A product with a constant right matrix, packed.
#[derive(Debug)]
struct PreparedMatMul {
    gemm: GemmF32,
    dtype: DType,
    shape: [usize; 2],
}

impl Prepared for PreparedMatMul {
    fn has_chain_head(&self) -> bool {
        self.dtype == DType::Float32
    }

    fn chain_head<'a>(&'a self, ctx: &EvalContext<'a>) -> Result<Option<ChainHead<'a>>, OpError> {
        let a = ctx.require(0)?;
        let Some(values) = a.as_slice::<f32>() else {
            return Ok(None);
        };
        let product = MatrixProduct::new(a.shape(), &self.shape, 1)?;
        let m = product.offsets.len() * product.m;
        Ok(Some(ChainHead {
            shape: product.output,
            kernel: HeadKernel::Product(&self.gemm, values, m),
        }))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let a = widened(ctx, 0, self.dtype)?;
        let product = MatrixProduct::new(a.shape(), &self.shape, 1)?;
        let m = product.offsets.len() * product.m;
        let mut out = vec![0.0; m * product.n];
        self.gemm.run(a.require()?, m, &mut out);
        Ok(vec![cast(&Tensor::new(&product.output, out)?, self.dtype)?])
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;

    use super::*;
    use crate::Layout;

    #[test]
    fn a_packed_matrix_gives_the_same_bits() {
        let values = |n: usize| {
            (0..n)
                .map(|i| ((i * 37) % 101) as f32 / 7.0 - 6.0)
                .collect::<Vec<_>>()
        };
        let node = Node::new("MatMul", "", &["a", "b"], &["y"]);
        let a = Tensor::new(&[2, 5, 19], values(190)).unwrap();
        let b = Tensor::new(&[19, 33], values(627)).unwrap();
        let ctx = EvalContext {
            node: &node,
            opset: 13,
            layout: Layout::Plain,
            inputs: &[Some(&a), Some(&b)],
        };
        let constants = PrepareContext {
            node: &node,
            opset: 13,
            constants: &[None, Some(b.clone())],
        };
        let prepared = MatMul
            .prepare(&constants)
            .unwrap()
            .expect("invariant: b is constant");
        assert_eq!(prepared.eval(&ctx).unwrap(), MatMul.eval(&ctx).unwrap());
    }
}
