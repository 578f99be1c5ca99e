//! Positions that index tensors address, and writing updates to them: what GatherElements, GatherND, ScatterElements
//! and ScatterND share.

use half::{bf16, f16};
use qloupe_ir::Node;
use qloupe_tensor::{Data, Element, Tensor};

use super::movement::{Run, copy_runs, strides_of};
use super::parameters::{integers, resolve_index};
use crate::OpError;
use crate::operator::resolve_axis;

/// The flat position in a tensor of `shape` of each element of `indices` (input 1), which replaces coordinate `axis`.
pub(super) fn element_positions(shape: &[usize], indices: &Tensor, axis: i64) -> Result<Vec<usize>, OpError> {
    let axis = resolve_axis(axis, shape.len())?;
    let fits = indices.rank() == shape.len()
        && (0..shape.len()).all(|i| i == axis || indices.shape()[i] <= shape[i]);
    if !fits {
        return Err(OpError::input(
            1,
            format!(
                "does not fit the data outside axis {axis}, expected at most {shape:?}, got {:?}",
                indices.shape()
            ),
        ));
    }
    let strides = strides_of(shape);
    let mut coordinates = vec![0_usize; shape.len()];
    let mut positions = Vec::with_capacity(indices.len());
    for index in integers(indices, 1)? {
        let index = resolve_index(index, shape[axis], 1)?;
        let position = (0..shape.len()).map(|i| strides[i] * if i == axis { index } else { coordinates[i] });
        positions.push(position.sum());
        advance(&mut coordinates, indices.shape());
    }
    Ok(positions)
}

/// The next coordinates in row-major order.
pub(super) fn advance(coordinates: &mut [usize], shape: &[usize]) {
    for (coordinate, &size) in coordinates.iter_mut().zip(shape).rev() {
        *coordinate += 1;
        if *coordinate < size {
            return;
        }
        *coordinate = 0;
    }
}

/// The slices of a tensor that coordinates address.
#[derive(Debug)]
pub(super) struct Slices {
    /// The first element of each slice.
    pub(super) starts: Vec<usize>,
    /// The elements of a slice.
    pub(super) len: usize,
    /// The first axis of the tensor that lies inside a slice.
    pub(super) first_inner_axis: usize,
}

/// The slices of a tensor of `shape` that `indices` (input 1) addresses after `batch` common leading axes.
pub(super) fn slice_positions(shape: &[usize], indices: &Tensor, batch: usize) -> Result<Slices, OpError> {
    let misfit = || {
        OpError::input(
            1,
            format!(
                "does not fit the data, expected coordinates into {shape:?} after {batch} common axes, got shape {:?}",
                indices.shape()
            ),
        )
    };
    let (&n_coordinates, leading) = indices.shape().split_last().ok_or_else(misfit)?;
    let first_inner_axis = batch.checked_add(n_coordinates).ok_or_else(misfit)?;
    if first_inner_axis > shape.len() || leading.get(..batch) != shape.get(..batch) {
        return Err(misfit());
    }
    let strides = strides_of(shape);
    let n_slices: usize = leading.iter().product();
    let per_batch: usize = leading[batch..].iter().product();
    let batch_stride: usize = shape[batch..].iter().product();
    let values = integers(indices, 1)?;
    let mut starts = Vec::with_capacity(n_slices);
    for slice in 0..n_slices {
        let mut start = slice / per_batch.max(1) * batch_stride;
        for (i, &index) in values[slice * n_coordinates..][..n_coordinates]
            .iter()
            .enumerate()
        {
            start += resolve_index(index, shape[batch + i], 1)? * strides[batch + i];
        }
        starts.push(start);
    }
    Ok(Slices {
        starts,
        len: shape[first_inner_axis..].iter().product(),
        first_inner_axis,
    })
}

/// What an update does to the element that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reduction {
    Replace,
    Add,
    Multiply,
    Minimum,
    Maximum,
}

impl Reduction {
    pub(super) fn of(node: &Node) -> Result<Self, OpError> {
        Ok(match node.string("reduction").unwrap_or("none") {
            "none" => Self::Replace,
            "add" => Self::Add,
            "mul" => Self::Multiply,
            "min" => Self::Minimum,
            "max" => Self::Maximum,
            other => {
                return Err(OpError::attribute(
                    "reduction",
                    format!("unknown, expected none, add, mul, min or max, got {other}"),
                ));
            }
        })
    }
}

/// A number that updates can be combined with. Integers wrap.
trait Combine: Element + PartialOrd {
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;

    fn combine(self, update: Self, reduction: Reduction) -> Self {
        match reduction {
            Reduction::Replace => update,
            Reduction::Add => self.plus(update),
            Reduction::Multiply => self.times(update),
            Reduction::Minimum if self < update => self,
            Reduction::Maximum if self > update => self,
            Reduction::Minimum | Reduction::Maximum => update,
        }
    }
}

macro_rules! combine_integers {
    ($($ty:ty),*) => {$(impl Combine for $ty {
        fn plus(self, other: Self) -> Self {
            self.wrapping_add(other)
        }
        fn times(self, other: Self) -> Self {
            self.wrapping_mul(other)
        }
    })*};
}

macro_rules! combine_floats {
    ($($ty:ty),*) => {$(impl Combine for $ty {
        fn plus(self, other: Self) -> Self {
            self + other
        }
        fn times(self, other: Self) -> Self {
            self * other
        }
    })*};
}

combine_integers!(u8, i8, u16, i16, u32, i32, u64, i64);
combine_floats!(f32, f64, f16, bf16);

impl Combine for bool {
    fn plus(self, other: Self) -> Self {
        self | other
    }
    fn times(self, other: Self) -> Self {
        self & other
    }
}

/// `data` with `updates` (input 2) applied in order: slice `i` of `updates` goes to position `starts[i]`.
pub(super) fn write_updates(
    data: &Tensor,
    updates: &Tensor,
    starts: &[usize],
    len: usize,
    reduction: Reduction,
) -> Result<Tensor, OpError> {
    if updates.dtype() != data.dtype() || updates.len() != starts.len().saturating_mul(len) {
        return Err(OpError::input(
            2,
            format!(
                "updates do not fit, expected {} elements of {}, got shape {:?} of {}",
                starts.len().saturating_mul(len),
                data.dtype(),
                updates.shape(),
                updates.dtype()
            ),
        ));
    }
    macro_rules! by_variant {
        ($($variant:ident),*) => {
            match (data.data(), updates.data()) {
                $((Data::$variant(values), Data::$variant(updates)) => {
                    let mut values = values.to_vec();
                    for (slice, &start) in starts.iter().enumerate() {
                        for (value, &update) in values[start..start + len].iter_mut().zip(&updates[slice * len..]) {
                            *value = value.combine(update, reduction);
                        }
                    }
                    Ok(Tensor::new(data.shape(), values)?)
                })*
                _ if reduction == Reduction::Replace => replace(data, updates, starts, len),
                _ => Err(OpError::unsupported(format!("a reduction of {}", data.dtype()))),
            }
        };
    }
    by_variant!(
        Float32, Float64, Float16, BFloat16, UInt8, Int8, UInt16, Int16, UInt32, Int32, UInt64, Int64, Bool
    )
}

/// Replacement for types that are only carried.
fn replace(data: &Tensor, updates: &Tensor, starts: &[usize], len: usize) -> Result<Tensor, OpError> {
    let mut origin: Vec<(usize, usize)> = (0..data.len()).map(|i| (0, i)).collect();
    for (slice, &start) in starts.iter().enumerate() {
        for i in 0..len {
            origin[start + i] = (1, slice * len + i);
        }
    }
    let runs = origin.into_iter().map(|(source, start)| Run {
        source,
        start,
        stride: 1,
        len: 1,
    });
    copy_runs(&[data, updates], data.shape(), runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_apply_in_order() {
        struct Case(Reduction, [i32; 3]);
        let data = Tensor::vector(vec![1, 2, 3]);
        let updates = Tensor::vector(vec![5, -1]);
        let cases = [
            Case(Reduction::Replace, [1, -1, 3]),
            Case(Reduction::Add, [1, 6, 3]),
            Case(Reduction::Multiply, [1, -10, 3]),
            Case(Reduction::Minimum, [1, -1, 3]),
            Case(Reduction::Maximum, [1, 5, 3]),
        ];
        for Case(reduction, expected) in cases {
            let y = write_updates(&data, &updates, &[1, 1], 1, reduction).unwrap();
            assert_eq!(y.as_slice::<i32>().unwrap(), expected, "{reduction:?}");
        }
    }

    #[test]
    fn strings_are_replaced() {
        let text =
            |s: &[&str]| Tensor::from_strings(&[s.len()], s.iter().map(|&s| s.to_owned()).collect()).unwrap();
        let y = write_updates(&text(&["a", "b"]), &text(&["c"]), &[1], 1, Reduction::Replace).unwrap();
        assert_eq!(y, text(&["a", "c"]));
        let error = write_updates(&text(&["a"]), &text(&["c"]), &[0], 1, Reduction::Add).unwrap_err();
        assert_eq!(error.to_string(), "a reduction of string is not supported");
    }
}
