//! Gemm: the matrix product with transposition, scaling and an addend.

use qloupe_ir::Node;
use qloupe_kernels::GemmF32;
use qloupe_tensor::{DType, Tensor};

use super::broadcast::{Broadcast, broadcast_dims};
use super::cast::{cast, computing_dtype};
use super::elementwise::{NUMBERS, widened, wrong_dtype, zip};
use super::gemm_gradient::{PackedGemm, gemm_pullback};
use super::matrix_product::{MatrixProduct, infer_product};
use super::movement::View;
use super::number::{Exact, Number, each_number};
use crate::chain::{ChainHead, HeadKernel};
use crate::{
    Differentiable, EvalContext, Fact, InferContext, OpError, Operator, PrepareContext, Prepared,
    PreparedPullback, Pullback, PullbackContext, SymDim,
};

/// `y = alpha * a' * b' + beta * c`, where `a'` and `b'` are transposed by `transA` and `transB`, and `c` broadcasts.
///
/// # Numerics
/// Every element of a float32 product is one in-order chain of fused multiply-adds. With `alpha = beta = 1` and a `c` of
/// one row the chain starts at `c`; otherwise it starts at 0, is scaled, and `beta * c` is added.
#[derive(Debug)]
pub(super) struct Gemm;

impl Operator for Gemm {
    fn op_type(&self) -> &'static str {
        "Gemm"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let (a, b) = (ctx.require(0)?, ctx.require(1)?);
        let dtype = a.dtype.or(b.dtype);
        let (Some(a), Some(b)) = (&a.shape, &b.shape) else {
            return Ok(vec![Fact::new(dtype, None)]);
        };
        let side = |idx, shape: &[SymDim], name: &str| match shape {
            [rows, columns] if ctx.node.int(name).unwrap_or(0) != 0 => Ok([columns.clone(), rows.clone()]),
            [rows, columns] => Ok([rows.clone(), columns.clone()]),
            _ => Err(wrong_rank(idx, shape.len())),
        };
        let product = infer_product(&side(0, a, "transA")?, &side(1, b, "transB")?, 1)?;
        let shape = match ctx.shape(2) {
            Some(c) => broadcast_dims(&[&product, &[], c])?,
            None => product,
        };
        Ok(vec![Fact::new(dtype, Some(shape))])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let b = ctx.require(1)?;
        if computing_dtype(b.dtype()) == DType::Float32 {
            return PreparedGemm::new(ctx.node, b, ctx.input(2))?.eval(ctx);
        }
        let dtype = ctx.require(0)?.dtype();
        let a = transposed(widened(ctx, 0, dtype)?, 0, ctx.int("transA", 0) != 0)?;
        let b = transposed(widened(ctx, 1, dtype)?, 1, ctx.int("transB", 0) != 0)?;
        let y = each_number!(
            a.dtype(), T => {
                let product = MatrixProduct::new(a.shape(), b.shape(), 1)?;
                let values = product.compute::<T>(a.require()?, b.require()?);
                scale_and_add::<T>(ctx, Tensor::new(&product.output, values)?, dtype)?
            },
            else return Err(wrong_dtype(0, NUMBERS, dtype))
        );
        Ok(vec![cast(&y, dtype)?])
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let constant = |idx: usize| ctx.constants.get(idx).and_then(Option::as_ref);
        let computed_addend = ctx.node.input(2).is_some() && constant(2).is_none();
        match constant(1) {
            Some(b) if computing_dtype(b.dtype()) == DType::Float32 && !computed_addend => {
                Ok(Some(Box::new(PreparedGemm::new(ctx.node, b, constant(2))?)))
            }
            _ => Ok(None),
        }
    }
}

impl Differentiable for Gemm {
    fn covers(&self, _node: &Node, _input_idx: usize) -> bool {
        true
    }

    fn prepare_pullback(
        &self,
        ctx: &PrepareContext<'_>,
    ) -> Result<Option<Box<dyn PreparedPullback>>, OpError> {
        let is_constant = |idx: usize| ctx.constants.get(idx).is_some_and(Option::is_some);
        let constant_addend = ctx.node.input(2).is_none() || is_constant(2);
        match ctx.constants.get(1).and_then(Option::as_ref) {
            Some(b) if constant_addend => Ok(Some(Box::new(PackedGemm::new(ctx.node, b)?))),
            _ => Ok(None),
        }
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        gemm_pullback(ctx)
    }
}

/// A Gemm with its right matrix packed.
#[derive(Debug)]
struct PreparedGemm {
    gemm: GemmF32,
    dtype: DType,
    shape: [usize; 2],
    starts_at_addend: bool,
}

impl PreparedGemm {
    fn new(node: &Node, b: &Tensor, c: Option<&Tensor>) -> Result<Self, OpError> {
        let dtype = b.dtype();
        let b = transposed(cast(b, DType::Float32)?, 1, node.int("transB").unwrap_or(0) != 0)?;
        let &[k, n] = b.shape() else {
            return Err(wrong_rank(1, b.rank()));
        };
        let is_one = |name: &str| node.float(name).is_none_or(|v| v.to_bits() == 1.0_f32.to_bits());
        let row = match c {
            Some(c) if is_one("alpha") && is_one("beta") && c.dtype() == dtype => row_of(c, n)?,
            _ => None,
        };
        Ok(Self {
            gemm: GemmF32::new(b.require()?, k, n, row.as_deref()),
            dtype,
            shape: [k, n],
            starts_at_addend: row.is_some(),
        })
    }
}

/// The addend as one row of `n`, if it is one.
fn row_of(c: &Tensor, n: usize) -> Result<Option<Vec<f32>>, OpError> {
    let is_row = c.len() == n && matches!(*c.shape(), [_] | [1, _]);
    if !is_row {
        return Ok(None);
    }
    Ok(Some(cast(c, DType::Float32)?.into_vec()?))
}

impl Prepared for PreparedGemm {
    fn has_chain_head(&self) -> bool {
        self.starts_at_addend && self.dtype == DType::Float32
    }

    fn chain_head<'a>(&'a self, ctx: &EvalContext<'a>) -> Result<Option<ChainHead<'a>>, OpError> {
        let a = ctx.require(0)?;
        let (Some(values), 0, 2) = (a.as_slice::<f32>(), ctx.int("transA", 0), a.rank()) else {
            return Ok(None);
        };
        let product = MatrixProduct::new(a.shape(), &self.shape, 1)?;
        Ok(Some(ChainHead {
            shape: product.output,
            kernel: HeadKernel::Product(&self.gemm, values, product.m),
        }))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let a = transposed(widened(ctx, 0, self.dtype)?, 0, ctx.int("transA", 0) != 0)?;
        let product = MatrixProduct::new(a.shape(), &self.shape, 1)?;
        let mut out = vec![0.0; product.m * product.n];
        self.gemm.run(a.require()?, product.m, &mut out);
        let mut y = Tensor::new(&product.output, out)?;
        if !self.starts_at_addend {
            y = scale_and_add::<f32>(ctx, y, self.dtype)?;
        }
        Ok(vec![cast(&y, self.dtype)?])
    }
}

/// `alpha * product + beta * c`
fn scale_and_add<T: Number>(ctx: &EvalContext<'_>, product: Tensor, dtype: DType) -> Result<Tensor, OpError> {
    let number = |name: &str| T::narrow(Exact::Float(f64::from(ctx.float(name, 1.0))));
    let (alpha, beta) = (number("alpha"), number("beta"));
    let shape = product.shape().to_vec();
    let mut values = product.into_vec::<T>()?;
    values.iter_mut().for_each(|v| *v = alpha.times(*v));
    if ctx.input(2).is_none() {
        return Ok(Tensor::new(&shape, values)?);
    }
    let c = widened(ctx, 2, dtype)?;
    let plan = Broadcast::new([&shape, c.shape()])
        .ok()
        .filter(|plan| plan.shape() == shape)
        .ok_or_else(|| {
            OpError::input(
                2,
                format!(
                    "addend does not broadcast, expected a shape that fits {shape:?}, got {:?}",
                    c.shape()
                ),
            )
        })?;
    let sum = zip(&plan, &values, c.require::<T>()?, |p: T, c: T| {
        p.plus(beta.times(c))
    });
    Ok(Tensor::new(&shape, sum)?)
}

fn transposed(x: Tensor, idx: usize, transpose: bool) -> Result<Tensor, OpError> {
    let &[rows, columns] = x.shape() else {
        return Err(wrong_rank(idx, x.rank()));
    };
    if transpose {
        View::transposed(x.shape(), &[1, 0]).copy(&x, &[columns, rows])
    } else {
        Ok(x)
    }
}

fn wrong_rank(idx: usize, rank: usize) -> OpError {
    OpError::input(idx, format!("wrong rank, expected 2, got {rank}"))
}

#[cfg(test)]
mod tests {
    use qloupe_ir::AttributeValue;

    use super::*;
    use crate::Layout;

    fn run(node: &Node, inputs: &[Option<&Tensor>]) -> Result<Tensor, OpError> {
        let ctx = EvalContext {
            node,
            opset: 13,
            layout: Layout::Plain,
            inputs,
        };
        Ok(Gemm.eval(&ctx)?.remove(0))
    }

    #[test]
    fn transposition_scaling_and_the_addend() {
        let plain = Node::new("Gemm", "", &["a", "b", "c"], &["y"]);
        let scaled = plain
            .clone()
            .with_attribute("alpha", AttributeValue::Float(2.0))
            .with_attribute("beta", AttributeValue::Float(0.5))
            .with_attribute("transB", AttributeValue::Int(1));
        let a = Tensor::new(&[1, 2], vec![1.0_f32, 2.0]).unwrap();
        let b = Tensor::new(&[2, 2], vec![1.0_f32, 2.0, 3.0, 4.0]).unwrap();
        let c = Tensor::vector(vec![10.0_f32, 20.0]);
        let y = |values: [f32; 2]| Tensor::new(&[1, 2], values.to_vec()).unwrap();
        assert_eq!(
            run(&plain, &[Some(&a), Some(&b), Some(&c)]).unwrap(),
            y([17.0, 30.0])
        );
        assert_eq!(run(&plain, &[Some(&a), Some(&b)]).unwrap(), y([7.0, 10.0]));
        assert_eq!(
            run(&scaled, &[Some(&a), Some(&b), Some(&c)]).unwrap(),
            y([15.0, 32.0])
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let node = Node::new("Gemm", "", &["a", "b", "c"], &["y"]);
        let a = Tensor::new(&[1, 2], vec![1.0_f32, 2.0]).unwrap();
        let c = Tensor::vector(vec![0.0_f32; 3]);
        let error = |b: &Tensor| {
            run(&node, &[Some(&a), Some(b), Some(&c)])
                .unwrap_err()
                .to_string()
        };
        assert_eq!(error(&c), "input 1: wrong rank, expected 2, got 1");
        assert_eq!(
            error(&Tensor::new(&[2, 2], vec![0.0_f32; 4]).unwrap()),
            "input 2: addend does not broadcast, expected a shape that fits [1, 2], got [3]"
        );
    }
}
