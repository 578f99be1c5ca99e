//! Broadcasting: the common shape of several operands, and the walk over them without arithmetic per element.

use qloupe_tensor::n_elements;
use rayon::prelude::*;

use crate::{OpError, SymDim};

/// From how many elements on the work is shared among threads.
const PARALLEL: usize = 65_536;

/// How many elements one thread takes at a time.
const BLOCK: usize = 16_384;

/// The shape that all shapes broadcast to.
///
/// # Errors
/// An input whose dimension is neither 1 nor that of the inputs before it.
pub(super) fn broadcast_shape(shapes: &[&[usize]]) -> Result<Vec<usize>, OpError> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let mut common = vec![1; rank];
    for (idx, shape) in shapes.iter().enumerate() {
        let own = &mut common[rank - shape.len()..];
        if own
            .iter()
            .zip(*shape)
            .any(|(&dim, &size)| dim != 1 && size != 1 && size != dim)
        {
            let before = broadcast_shape(&shapes[..idx])?;
            return Err(OpError::input(
                idx,
                format!("shape does not broadcast, expected one that fits {before:?}, got {shape:?}"),
            ));
        }
        for (dim, &size) in own.iter_mut().zip(*shape).filter(|(dim, _)| **dim == 1) {
            *dim = size;
        }
    }
    Ok(common)
}

/// [`broadcast_shape`] of dimensions that may be open: two different open dimensions become their maximum.
///
/// # Errors
/// Two known dimensions that do not broadcast.
pub(super) fn broadcast_dims(shapes: &[&[SymDim]]) -> Result<Vec<SymDim>, OpError> {
    let one = SymDim::known(1);
    let mut common: Vec<SymDim> = Vec::new();
    for (idx, shape) in shapes.iter().enumerate() {
        if shape.len() > common.len() {
            let missing = shape.len() - common.len();
            common.splice(0..0, vec![one.clone(); missing]);
        }
        let skip = common.len() - shape.len();
        for (dim, size) in common[skip..].iter_mut().zip(*shape) {
            if *dim == *size || *size == one {
                continue;
            }
            *dim = match (dim.as_known(), size.as_known()) {
                (Some(1), _) => size.clone(),
                (Some(a), Some(b)) => {
                    return Err(OpError::input(
                        idx,
                        format!("dimension does not broadcast, expected 1 or {a}, got {b}"),
                    ));
                }
                (Some(_), None) => continue,
                (None, Some(_)) => size.clone(),
                (None, None) => {
                    let (low, high) = if *dim < *size {
                        (dim.clone(), size.clone())
                    } else {
                        (size.clone(), dim.clone())
                    };
                    SymDim::symbol(&format!("max({low},{high})"))
                }
            };
        }
    }
    Ok(common)
}

/// A vector of `n` elements that `fill` writes, in parallel pieces where it is large; it gets the index of the first element of
/// its piece. (A trait object, so that the code of the threads exists once per element type.)
pub(super) fn fill_pieces<T: Copy + Default + Send>(
    n: usize,
    fill: &(dyn Fn(usize, &mut [T]) + Sync),
) -> Vec<T> {
    let mut out = vec![T::default(); n];
    if n < PARALLEL {
        fill(0, &mut out);
    } else {
        out.par_chunks_mut(BLOCK)
            .enumerate()
            .for_each(|(piece, out)| fill(piece * BLOCK, out));
    }
    out
}

/// What [`Broadcast::fill`] calls: a contiguous piece of the output, and for each operand the offset of its first element
/// and whether it advances.
type Run<'a, T, const N: usize> = dyn Fn(&mut [T], [usize; N], [bool; N]) + Sync + 'a;

/// The walk over `N` operands that broadcast together.
///
/// Neighbouring dimensions over which every operand is either contiguous or constant are merged, so that equal shapes,
/// a scalar, a row or a channel operand all become long runs in which an operand advances by 1 or stays.
#[derive(Debug)]
pub(crate) struct Broadcast<const N: usize> {
    shape: Vec<usize>,
    n_elements: usize,
    outer: Vec<(usize, [usize; N])>,
    inner: usize,
    steps: [bool; N],
}

impl<const N: usize> Broadcast<N> {
    /// Plans the walk.
    ///
    /// # Errors
    /// As [`broadcast_shape`].
    pub(crate) fn new(shapes: [&[usize]; N]) -> Result<Self, OpError> {
        let shape = broadcast_shape(&shapes)?;
        let n_elements = n_elements(&shape).ok_or_else(|| {
            OpError::input(
                0,
                format!("shape {shape:?} after broadcasting has more elements than memory can hold"),
            )
        })?;
        let mut strides = [1_usize; N];
        let mut merged: Vec<(usize, [usize; N])> = Vec::new();
        for axis in (0..shape.len()).rev() {
            let mut here = [0; N];
            for (operand, dims) in shapes.iter().enumerate() {
                let size = (axis + dims.len())
                    .checked_sub(shape.len())
                    .map_or(1, |a| dims[a]);
                here[operand] = if size == 1 { 0 } else { strides[operand] };
                strides[operand] *= size;
            }
            if shape[axis] == 1 {
                continue;
            }
            match merged.last_mut() {
                Some((size, inner)) if (0..N).all(|o| here[o] == inner[o] * *size) => *size *= shape[axis],
                _ => merged.push((shape[axis], here)),
            }
        }
        let (inner, inner_strides) = if merged.is_empty() {
            (1, [0; N])
        } else {
            merged.remove(0)
        };
        merged.reverse();
        Ok(Self {
            shape,
            n_elements,
            outer: merged,
            inner,
            steps: inner_strides.map(|s| s != 0),
        })
    }

    /// The common shape.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Fills an output of the common shape.
    pub(crate) fn fill<T: Copy + Default + Send>(
        &self,
        run: impl Fn(&mut [T], [usize; N], [bool; N]) + Sync,
    ) -> Vec<T> {
        let run: &Run<'_, T, N> = &run;
        fill_pieces(self.n_elements, &|start, piece| {
            self.fill_piece(start, piece, run)
        })
    }

    fn fill_piece<T>(&self, start: usize, mut out: &mut [T], run: &Run<'_, T, N>) {
        if out.is_empty() {
            return;
        }
        let mut within = start % self.inner;
        let mut counter = vec![0; self.outer.len()];
        let mut offsets = [0; N];
        let mut rest = start / self.inner;
        for (count, (size, strides)) in counter.iter_mut().zip(&self.outer).rev() {
            *count = rest % size;
            rest /= size;
            for operand in 0..N {
                offsets[operand] += *count * strides[operand];
            }
        }
        loop {
            let (piece, remaining) = out.split_at_mut(out.len().min(self.inner - within));
            let mut first = offsets;
            for (first, &advances) in first.iter_mut().zip(&self.steps) {
                *first += if advances { within } else { 0 };
            }
            run(piece, first, self.steps);
            if remaining.is_empty() {
                return;
            }
            (out, within) = (remaining, 0);
            for (count, (size, strides)) in counter.iter_mut().zip(&self.outer).rev() {
                *count += 1;
                for operand in 0..N {
                    offsets[operand] += strides[operand];
                }
                if *count < *size {
                    break;
                }
                *count = 0;
                for operand in 0..N {
                    offsets[operand] -= size * strides[operand];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_do_not_fit_are_named() {
        let error = broadcast_shape(&[&[2, 3], &[4, 3]]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "input 1: shape does not broadcast, expected one that fits [2, 3], got [4, 3]"
        );
        let (two, four) = ([SymDim::known(2)], [SymDim::known(4)]);
        assert_eq!(
            broadcast_dims(&[&two, &four]).unwrap_err().to_string(),
            "input 1: dimension does not broadcast, expected 1 or 2, got 4"
        );
    }

    #[test]
    fn open_dimensions_broadcast_as_far_as_they_are_known() {
        let dim = |text: &str| text.parse().map_or_else(|_| SymDim::symbol(text), SymDim::known);
        for (a, b, expected) in [
            ("n", "n", "n"),
            ("n", "1", "n"),
            ("1", "n", "n"),
            ("n", "3", "3"),
            ("3", "n", "3"),
            ("n", "m", "max(m,n)"),
            ("1", "1", "1"),
        ] {
            let common = broadcast_dims(&[&[dim(a)], &[dim(b)]]).unwrap();
            assert_eq!(common[0].to_string(), expected, "{a} and {b}");
        }
    }

    #[test]
    fn the_walk_agrees_with_index_arithmetic() {
        let shapes: [[usize; 4]; 7] = [
            [2, 3, 4, 5],
            [1, 1, 1, 1],
            [1, 3, 1, 1],
            [2, 1, 1, 5],
            [1, 1, 4, 5],
            [2, 1, 4, 1],
            [2, 3, 1, 1],
        ];
        for a in shapes {
            for b in shapes {
                let plan = Broadcast::new([&a, &b]).unwrap();
                let offset = |shape: [usize; 4], idx: [usize; 4]| {
                    (0..4).fold(0, |o, d| o * shape[d] + if shape[d] == 1 { 0 } else { idx[d] })
                };
                let got = plan.fill(|out: &mut [(usize, usize)], [i, j], [p, q]| {
                    for (k, o) in out.iter_mut().enumerate() {
                        *o = (i + if p { k } else { 0 }, j + if q { k } else { 0 });
                    }
                });
                let &[n, c, h, w] = plan.shape() else {
                    panic!("rank")
                };
                let expected: Vec<_> = (0..n * c * h * w)
                    .map(|e| [e / (c * h * w), e / (h * w) % c, e / w % h, e % w])
                    .map(|idx| (offset(a, idx), offset(b, idx)))
                    .collect();
                assert_eq!(got, expected, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_scalar_and_many_elements_run_in_parallel_pieces() {
        let plan = Broadcast::new([&[300, 401], &[401]]).unwrap();
        let got = plan.fill(|out: &mut [usize], [i, j], _| {
            for (k, o) in out.iter_mut().enumerate() {
                *o = (i + k) * 1000 + j + k;
            }
        });
        assert!(
            got.iter().enumerate().all(|(e, &v)| v == e * 1000 + e % 401),
            "a piece starts at the wrong offset"
        );
        assert_eq!(
            Broadcast::new([&[2, 0], &[1]])
                .unwrap()
                .fill(|_: &mut [u8], _, _| ()),
            []
        );
    }
}
