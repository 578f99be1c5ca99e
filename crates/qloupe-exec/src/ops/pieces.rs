//! Tensors cut and joined along an axis: Concat, Split, Loop, Scan and sequences.

use qloupe_tensor::Tensor;

use super::movement::{Run, View, copy_runs};
use crate::OpError;

/// The tensors one after the other along `axis`, a physical axis of the first.
///
/// # Errors
/// Tensors that differ in another dimension, or in dtype; the place in `tensors` is the input.
pub(super) fn concatenate(tensors: &[&Tensor], axis: usize) -> Result<Tensor, OpError> {
    let first = *tensors.first().ok_or(OpError::MissingInput { idx: 0 })?;
    let mut shape = first.shape().to_vec();
    shape[axis] = 0;
    for (idx, tensor) in tensors.iter().enumerate() {
        let fits = tensor.rank() == shape.len()
            && (0..shape.len()).all(|i| i == axis || tensor.shape()[i] == first.shape()[i]);
        if !fits {
            return Err(OpError::input(
                idx,
                format!(
                    "shapes differ outside axis {axis}, expected {:?}, got {:?}",
                    first.shape(),
                    tensor.shape()
                ),
            ));
        }
        shape[axis] += tensor.shape()[axis];
    }
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    let lengths: Vec<usize> = tensors.iter().map(|t| t.shape()[axis] * inner).collect();
    let runs = (0..outer).flat_map(|o| {
        lengths.iter().enumerate().map(move |(source, &len)| Run {
            source,
            start: o * len,
            stride: 1,
            len,
        })
    });
    copy_runs(tensors, &shape, runs)
}

/// The tensors as slices of a new axis.
///
/// # Errors
/// As [`concatenate`].
pub(super) fn stack(tensors: &[Tensor], axis: usize) -> Result<Tensor, OpError> {
    let widened: Vec<Tensor> = tensors
        .iter()
        .map(|tensor| {
            let mut shape = tensor.shape().to_vec();
            shape.insert(axis.min(shape.len()), 1);
            Ok(tensor.clone().reshape(&shape)?)
        })
        .collect::<Result<_, OpError>>()?;
    concatenate(&widened.iter().collect::<Vec<_>>(), axis)
}

/// Pieces of `sizes` along `axis`; the sizes add up to the dimension.
///
/// # Errors
/// A dtype that cannot be moved.
pub(super) fn cut(x: &Tensor, axis: usize, sizes: &[usize]) -> Result<Vec<Tensor>, OpError> {
    let outer: usize = x.shape()[..axis].iter().product();
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let total = x.shape()[axis];
    let mut from = 0;
    let mut pieces = Vec::with_capacity(sizes.len());
    for &size in sizes {
        let mut shape = x.shape().to_vec();
        shape[axis] = size;
        let strides = vec![(total * inner) as isize, 1];
        pieces.push(View::new(from * inner, &[outer, size * inner], strides).copy(x, &shape)?);
        from += size;
    }
    Ok(pieces)
}

/// The tensor without a dimension of size 1.
///
/// # Errors
/// The dimension has another size.
pub(super) fn without_axis(x: Tensor, axis: usize) -> Result<Tensor, OpError> {
    let mut shape = x.shape().to_vec();
    shape.remove(axis);
    Ok(x.reshape(&shape)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_and_stack_are_inverse() {
        let x = Tensor::new(&[2, 3], vec![1_i32, 2, 3, 4, 5, 6]).unwrap();
        let columns = cut(&x, 1, &[1, 1, 1]).unwrap();
        let columns: Vec<Tensor> = columns.into_iter().map(|c| without_axis(c, 1).unwrap()).collect();
        assert_eq!(columns[1], Tensor::vector(vec![2, 5]));
        assert_eq!(stack(&columns, 1).unwrap(), x);
        let other = Tensor::vector(vec![1_i32]);
        assert_eq!(
            stack(&[columns[0].clone(), other], 0).unwrap_err().to_string(),
            "input 1: shapes differ outside axis 0, expected [1, 2], got [1, 1]"
        );
    }
}
