//! com.microsoft.QGemm: Gemm of quantized numbers, requantized or as real numbers.

use qloupe_tensor::{DType, Tensor};

use super::broadcast::Broadcast;
use super::composed::MICROSOFT;
use super::integer_matrix::{IntegerMatrix, Sums};
use super::matrix_product::infer_product;
use super::movement::View;
use super::quant_parameters::{activation_zero_point, per_tensor, requantization, scales_for};
use crate::integer::write_quantized;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, PrepareContext, Prepared};

/// `acc = (a' - a_zero_point) * (b' - b_zero_point) + c` with `a'`, `b'` transposed where `transA`, `transB` say so; c is
/// int32 with the scale of acc, `alpha * a_scale * b_scale`. y is requantized to the dtype of `y_zero_point`; without
/// one it is `f32(acc)` times that scale.
#[derive(Debug)]
pub(super) struct QGemm;

impl Operator for QGemm {
    fn op_type(&self) -> &'static str {
        "QGemm"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let dtype = if ctx.input(8).is_some() {
            ctx.dtype(8)
        } else {
            Some(DType::Float32)
        };
        let order = |idx: usize, attribute: &str| {
            let mut dims = ctx.require(idx)?.shape.clone();
            if let Some(dims) = dims.as_mut().filter(|_| ctx.node.int(attribute) == Some(1)) {
                dims.reverse();
            }
            Ok::<_, OpError>(dims)
        };
        let shape = match (order(0, "transA")?, order(3, "transB")?) {
            (Some(a), Some(b)) => Some(infer_product(&a, &b, 3)?),
            _ => None,
        };
        Ok(vec![Fact::new(dtype, shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let b = ordered(3, ctx.require(3)?, ctx.int("transB", 0) == 1)?;
        multiply(&IntegerMatrix::new(3, &b, (5, ctx.input(5)), None)?, ctx)
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let constant = |idx: usize| ctx.constants.get(idx).and_then(Option::as_ref);
        let (Some(b), Some(zero_point)) = (constant(3), constant(5)) else {
            return Ok(None);
        };
        let b = ordered(3, b, ctx.node.int("transB") == Some(1))?;
        let b = IntegerMatrix::new(3, &b, (5, Some(zero_point)), None)?;
        Ok(Some(Box::new(PreparedQGemm(b))))
    }
}

#[derive(Debug)]
struct PreparedQGemm(IntegerMatrix);

impl Prepared for PreparedQGemm {
    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        multiply(&self.0, ctx)
    }
}

/// A matrix, transposed or not.
fn ordered(idx: usize, matrix: &Tensor, transpose: bool) -> Result<Tensor, OpError> {
    let &[rows, columns] = matrix.shape() else {
        return Err(OpError::input(
            idx,
            format!("wrong rank, expected 2, got {}", matrix.rank()),
        ));
    };
    if !transpose {
        return Ok(matrix.clone());
    }
    View::transposed(&[rows, columns], &[1, 0]).copy(matrix, &[columns, rows])
}

fn multiply(b: &IntegerMatrix, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
    let a = ordered(0, ctx.require(0)?, ctx.int("transA", 0) == 1)?;
    let zero_point = activation_zero_point(ctx, 2, &a)?;
    let (a_scale, _) = per_tensor(ctx, 1, a.dtype())?;
    let alpha = ctx.float("alpha", 1.0);
    let b_scale = scales_for(ctx, 4, b.n_columns())?;
    let scale: Vec<f32> = b_scale.iter().map(|b| alpha * a_scale * b).collect();
    let Sums { mut sums, product } = b.sums(&a, &[zero_point])?;
    if let Some(c) = ctx.input(6) {
        add(&mut sums, &product.output, c)?;
    }
    let n = b.n_columns();
    if ctx.input(8).is_none() {
        let real = |(i, &sum): (usize, &i32)| sum as f32 * scale[i % n % scale.len()];
        let y = sums.iter().enumerate().map(real).collect();
        return Ok(vec![Tensor::new(&product.output, y)?]);
    }
    let (epilogue, dtype) = requantization(ctx, 7, scale.into_iter())?;
    let y = write_quantized(dtype, &product.output, |mut out| {
        epilogue.apply(&sums, n, &mut out);
        Ok(())
    })?;
    Ok(vec![y])
}

/// Adds c, broadcast to `shape`.
fn add(sums: &mut [i32], shape: &[usize], c: &Tensor) -> Result<(), OpError> {
    let values = c
        .as_slice::<i32>()
        .ok_or_else(|| super::elementwise::wrong_dtype(6, DType::Int32, c.dtype()))?;
    let plan = Broadcast::new([shape, c.shape()])?;
    if plan.shape() != shape {
        return Err(OpError::input(
            6,
            format!(
                "does not broadcast, expected a shape that fits {shape:?}, got {:?}",
                c.shape()
            ),
        ));
    }
    let wide: Vec<i32> = plan.fill(|out, [_, start], [_, advances]| {
        for (i, out) in out.iter_mut().enumerate() {
            *out = values[if advances { start + i } else { start }];
        }
    });
    for (idx, (sum, c)) in sums.iter_mut().zip(wide).enumerate() {
        *sum = sum.checked_add(c).ok_or_else(|| {
            OpError::input(
                6,
                format!("accumulator {idx} overflows, expected an int32, got {sum} + {c}"),
            )
        })?;
    }
    Ok(())
}
