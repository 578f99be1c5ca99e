//! Pullbacks of matrix products: `da = dy * b^T`, `db = a^T * dy`.

use qloupe_kernels::{GemmF32, Head, run_chain};
use qloupe_tensor::Tensor;

use super::elementwise_gradient::sum_to;
use super::mat_mul::multiply;
use super::movement::View;
use crate::{OpError, PreparedPullback, Pullback, PullbackContext};

/// A tensor with its last two axes exchanged.
///
/// # Errors
/// Those of copying.
pub(super) fn transposed_matrices(x: &Tensor) -> Result<Tensor, OpError> {
    let rank = x.rank();
    if rank < 2 {
        return Ok(x.clone());
    }
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(rank - 2, rank - 1);
    let shape: Vec<usize> = order.iter().map(|&axis| x.shape()[axis]).collect();
    View::transposed(x.shape(), &order).copy(x, &shape)
}

/// An operand as a matrix: one of rank 1 is a row on the left, a column on the right.
fn as_matrix(x: &Tensor, left: bool) -> Result<Tensor, OpError> {
    match *x.shape() {
        [n] if left => Ok(x.clone().reshape(&[1, n])?),
        [n] => Ok(x.clone().reshape(&[n, 1])?),
        _ => Ok(x.clone()),
    }
}

/// The pullback of `y = a * b` with broadcast batches.
///
/// # Errors
/// An absent input, another type than float.
pub(super) fn product_pullback<'a>(ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
    let (a, b) = (ctx.call.require(0)?, ctx.call.require(1)?);
    let wanted = [ctx.wants(0), ctx.wants(1)];
    let (left, right) = (as_matrix(&a.to_f32()?, true)?, as_matrix(&b.to_f32()?, false)?);
    let turned_left = wanted[1].then(|| transposed_matrices(&left)).transpose()?;
    let turned_right = wanted[0].then(|| transposed_matrices(&right)).transpose()?;
    Ok(Pullback::new(move |mut gradients| {
        let Some(gradient) = gradients.first_mut().and_then(Option::take) else {
            return Ok(Vec::new());
        };
        let mut shape = gradient.shape().to_vec();
        if a.rank() == 1 {
            shape.insert(shape.len() - usize::from(b.rank() > 1), 1);
        }
        if b.rank() == 1 {
            shape.push(1);
        }
        let gradient = gradient.reshape(&shape)?;
        let of_a = match &turned_right {
            Some(right) => Some(sum_to(multiply(&gradient, right)?, left.shape())?.reshape(a.shape())?),
            None => None,
        };
        let of_b = match &turned_left {
            Some(left) => Some(sum_to(multiply(left, &gradient)?, right.shape())?.reshape(b.shape())?),
            None => None,
        };
        Ok(vec![of_a, of_b])
    }))
}

/// The pullback to the left side of a product with a constant right matrix, packed.
#[derive(Debug)]
pub(super) struct PackedProduct {
    transposed: GemmF32,
    columns: usize,
}

impl PackedProduct {
    /// Packs the matrix `[k, n]` for `dy * b^T`.
    ///
    /// # Errors
    /// Another rank or type.
    pub(super) fn new(b: &Tensor) -> Result<Self, OpError> {
        let &[k, n] = b.shape() else {
            return Err(OpError::input(
                1,
                format!("wrong rank, expected 2, got {}", b.rank()),
            ));
        };
        let turned = transposed_matrices(&b.to_f32()?)?;
        Ok(Self {
            transposed: GemmF32::new(turned.require()?, n, k, None),
            columns: n,
        })
    }

    /// `dy * b^T`
    ///
    /// # Errors
    /// A gradient that does not fit.
    pub(super) fn times(&self, gradient: &Tensor, shape: &[usize]) -> Result<Tensor, OpError> {
        let values = gradient.require::<f32>()?;
        if shape.contains(&0) || values.is_empty() {
            return Ok(Tensor::new(shape, vec![0.0_f32; shape.iter().product()])?);
        }
        let rows = values.len() / self.columns;
        // A chain of nothing but its head: the result is not filled with zeros before.
        let head = Head::Product(&self.transposed, values, rows);
        let mut results = run_chain(head, &[], &[], &[true], None);
        Ok(Tensor::new(shape, results.pop().flatten().unwrap_or_default())?)
    }
}

impl PreparedPullback for PackedProduct {
    fn pullback<'a>(&'a self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let shape = ctx.call.require(0)?.shape();
        Ok(Pullback::of_first(move |gradient| self.times(&gradient, shape)))
    }
}
