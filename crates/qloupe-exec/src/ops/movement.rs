//! Moving elements of any dtype: every data-movement operator says which runs of its sources make up the output.

use std::sync::Arc;

use qloupe_tensor::{DType, Data, Element, Tensor, TensorError, has_codes, n_elements};

use crate::OpError;
use crate::size_limit::check_size;

/// Elements `start, start + stride, ..` of one of the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Which source.
    pub(super) source: usize,
    /// The first element.
    pub(super) start: usize,
    /// The distance between elements; 0 repeats one element.
    pub(super) stride: isize,
    /// The number of elements.
    pub(super) len: usize,
}

impl Run {
    /// `len` neighbouring elements of the first source.
    pub(super) fn contiguous(start: usize, len: usize) -> Self {
        Self {
            source: 0,
            start,
            stride: 1,
            len,
        }
    }
}

/// The concatenation of runs, as a tensor of `shape`. Runs must lie inside their sources.
pub(super) fn copy_runs(
    sources: &[&Tensor],
    shape: &[usize],
    runs: impl IntoIterator<Item = Run>,
) -> Result<Tensor, OpError> {
    let first = sources.first().ok_or(OpError::MissingInput { idx: 0 })?;
    let dtype = first.dtype();
    if let Some((idx, other)) = sources.iter().enumerate().find(|(_, s)| s.dtype() != dtype) {
        return Err(OpError::input(
            idx,
            format!("wrong dtype, expected {dtype}, got {}", other.dtype()),
        ));
    }
    check_size(0, dtype, shape)?;
    let n = count(shape)?;
    macro_rules! by_variant {
        ($($variant:ident),*) => {
            match first.data() {
                $(Data::$variant(values) => {
                    let slices = slices_like(values, sources);
                    Tensor::new(shape, collect(&slices, n, runs)?)
                })*
                Data::String(_) => {
                    let slices: Vec<&[String]> = sources.iter().filter_map(|s| s.as_strings()).collect();
                    Tensor::from_strings(shape, collect(&slices, n, runs)?)
                }
                Data::Opaque(..) => return copy_opaque(dtype, sources, shape, n, runs),
            }
        };
    }
    Ok(by_variant!(
        Float32, Float64, Float16, BFloat16, UInt8, Int8, UInt16, Int16, UInt32, Int32, UInt64, Int64, Bool
    )?)
}

fn slices_like<'a, T: Element>(_: &Arc<Vec<T>>, sources: &[&'a Tensor]) -> Vec<&'a [T]> {
    sources
        .iter()
        .map(|s| s.as_slice::<T>().expect("invariant: the dtypes were compared"))
        .collect()
}

fn collect<T: Clone>(
    sources: &[&[T]],
    n: usize,
    runs: impl IntoIterator<Item = Run>,
) -> Result<Vec<T>, OpError> {
    let mut out = reserved(n)?;
    for run in runs {
        let source = sources[run.source];
        match run.stride {
            1 => out.extend_from_slice(&source[run.start..run.start + run.len]),
            0 if run.len > 0 => out.extend(std::iter::repeat_n(source[run.start].clone(), run.len)),
            stride => {
                let mut at = run.start;
                out.extend((0..run.len).map(|_| {
                    let value = source[at].clone();
                    at = at.wrapping_add_signed(stride);
                    value
                }));
            }
        }
    }
    Ok(out)
}

/// The number of elements of a shape that a model may have chosen too large.
pub(super) fn count(shape: &[usize]) -> Result<usize, OpError> {
    let overflow = || TensorError::Overflow {
        shape: shape.to_vec(),
    };
    Ok(n_elements(shape).ok_or_else(overflow)?)
}

/// An empty vector with room for `n` elements, which a model may have chosen too large.
pub(super) fn reserved<T>(n: usize) -> Result<Vec<T>, OpError> {
    let mut out = Vec::new();
    match out.try_reserve_exact(n) {
        Ok(()) => Ok(out),
        Err(_) => Err(OpError::unsupported(format!("an output of {n} elements"))),
    }
}

/// A vector that repeats a value, for a shape that a model may have chosen too large.
pub(super) fn repeated<T: Clone>(value: T, shape: &[usize]) -> Result<Vec<T>, OpError> {
    let n = count(shape)?;
    let mut out = reserved(n)?;
    out.resize(n, value);
    Ok(out)
}

/// Types without a Rust type: complex numbers move as arrays of bytes, the others as codes.
fn copy_opaque(
    dtype: DType,
    sources: &[&Tensor],
    shape: &[usize],
    n: usize,
    runs: impl IntoIterator<Item = Run>,
) -> Result<Tensor, OpError> {
    if has_codes(dtype) {
        let codes: Vec<_> = sources.iter().filter_map(|s| s.codes()).collect();
        let slices: Vec<&[u8]> = codes.iter().map(AsRef::as_ref).collect();
        return Ok(Tensor::from_codes(dtype, shape, collect(&slices, n, runs)?)?);
    }
    let bytes: Vec<&[u8]> = sources
        .iter()
        .filter_map(|s| match s.data() {
            Data::Opaque(_, bytes) => Some(bytes.as_slice()),
            _ => None,
        })
        .collect();
    let moved = match dtype {
        DType::Complex64 => collect(&elements_of_width::<8>(&bytes), n, runs)?.into_flattened(),
        DType::Complex128 => collect(&elements_of_width::<16>(&bytes), n, runs)?.into_flattened(),
        _ => return Err(OpError::unsupported(format!("moving elements of {dtype}"))),
    };
    Ok(Tensor::from_opaque(dtype, shape, moved)?)
}

fn elements_of_width<'a, const BYTES: usize>(sources: &[&'a [u8]]) -> Vec<&'a [[u8; BYTES]]> {
    sources.iter().map(|s| s.as_chunks::<BYTES>().0).collect()
}

/// Row-major strides of a shape.
pub(super) fn strides_of(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1_usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis].max(1));
    }
    strides
}

/// A strided view of a tensor: its elements in row-major order of `shape`.
#[derive(Clone, Debug)]
pub(crate) struct View {
    start: usize,
    shape: Vec<usize>,
    strides: Vec<isize>,
}

impl View {
    /// A view of `shape` that begins at element `start` and walks `strides`.
    pub(super) fn new(start: usize, shape: &[usize], strides: Vec<isize>) -> Self {
        Self {
            start,
            shape: shape.to_vec(),
            strides,
        }
    }

    /// The axes of a row-major tensor of `shape` in the order of `permutation`.
    pub(crate) fn transposed(shape: &[usize], permutation: &[usize]) -> Self {
        let strides = strides_of(shape);
        Self {
            start: 0,
            shape: permutation.iter().map(|&axis| shape[axis]).collect(),
            strides: permutation.iter().map(|&axis| strides[axis] as isize).collect(),
        }
    }

    /// Copies the view out, under `shape`.
    pub(crate) fn copy(&self, x: &Tensor, shape: &[usize]) -> Result<Tensor, OpError> {
        count(&self.shape)?;
        let forward: Option<Vec<(usize, usize)>> = self
            .shape
            .iter()
            .zip(&self.strides)
            .map(|(&size, &stride)| Some((size, usize::try_from(stride).ok()?)))
            .collect();
        let Some(axes) = forward.filter(|_| !self.shape.contains(&0)) else {
            return copy_runs(&[x], shape, self.runs());
        };
        check_size(0, x.dtype(), shape)?;
        macro_rules! by_variant {
            ($($variant:ident),*) => {
                match x.data() {
                    $(Data::$variant(values) => Tensor::new(shape, strided(&values[self.start..], &axes, shape)?)?,)*
                    Data::String(_) | Data::Opaque(..) => return copy_runs(&[x], shape, self.runs()),
                }
            };
        }
        Ok(by_variant!(
            Float32, Float64, Float16, BFloat16, UInt8, Int8, UInt16, Int16, UInt32, Int32, UInt64, Int64,
            Bool
        ))
    }

    /// The runs of the view.
    pub(super) fn runs(&self) -> Runs {
        let empty = self.shape.contains(&0);
        let mut axes: Vec<(usize, isize)> = Vec::with_capacity(self.shape.len());
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev().filter(|_| !empty) {
            match axes.last_mut() {
                _ if size == 1 => {}
                Some((inner, step)) if stride == *step * (*inner as isize) => *inner *= size,
                _ => axes.push((size, stride)),
            }
        }
        let (len, stride) = if axes.is_empty() { (1, 1) } else { axes.remove(0) };
        Runs {
            next: (!empty).then_some(self.start),
            stride,
            len,
            counters: vec![0; axes.len()],
            axes,
        }
    }
}

fn strided<T: Copy + Default + Send + Sync + 'static>(
    x: &[T],
    axes: &[(usize, usize)],
    shape: &[usize],
) -> Result<Vec<T>, OpError> {
    let mut out = repeated(T::default(), shape)?;
    qloupe_kernels::copy_strided(x, axes, &mut out);
    Ok(out)
}

/// The runs of a [`View`].
#[derive(Debug)]
pub(super) struct Runs {
    next: Option<usize>,
    stride: isize,
    len: usize,
    /// The outer axes, innermost first.
    axes: Vec<(usize, isize)>,
    counters: Vec<usize>,
}

impl Iterator for Runs {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let start = self.next?;
        let mut at = start;
        self.next = None;
        for (counter, &(size, stride)) in self.counters.iter_mut().zip(&self.axes) {
            *counter += 1;
            at = at.wrapping_add_signed(stride);
            if *counter < size {
                self.next = Some(at);
                break;
            }
            *counter = 0;
            at = at.wrapping_add_signed(-stride * (size as isize));
        }
        Some(Run {
            source: 0,
            start,
            stride: self.stride,
            len: self.len,
        })
    }
}

/// A rank-0 tensor of a number; the number must be 0 for types that are not computed with.
pub(super) fn number(dtype: DType, value: u8) -> Result<Tensor, OpError> {
    use half::{bf16, f16};
    Ok(match dtype {
        DType::Float32 => Tensor::scalar(f32::from(value)),
        DType::Float64 => Tensor::scalar(f64::from(value)),
        DType::Float16 => Tensor::scalar(f16::from(value)),
        DType::BFloat16 => Tensor::scalar(bf16::from(value)),
        DType::UInt8 => Tensor::scalar(value),
        DType::Int8 => Tensor::scalar(value as i8),
        DType::UInt16 => Tensor::scalar(u16::from(value)),
        DType::Int16 => Tensor::scalar(i16::from(value)),
        DType::UInt32 => Tensor::scalar(u32::from(value)),
        DType::Int32 => Tensor::scalar(i32::from(value)),
        DType::UInt64 => Tensor::scalar(u64::from(value)),
        DType::Int64 => Tensor::scalar(i64::from(value)),
        DType::Bool => Tensor::scalar(value != 0),
        DType::String => Tensor::from_strings(&[], vec![String::new()])?,
        other if value == 0 => {
            let bytes = other.size_bytes(1).unwrap_or(0);
            Tensor::from_opaque(other, &[], vec![0; bytes])?
        }
        other => {
            return Err(OpError::unsupported(format!(
                "the number {value} of type {other}"
            )));
        }
    })
}

/// A tensor of `shape` that repeats the only element of `value`.
pub(super) fn filled(value: &Tensor, shape: &[usize]) -> Result<Tensor, OpError> {
    let len = count(shape)?;
    copy_runs(
        &[value],
        shape,
        [Run {
            source: 0,
            start: 0,
            stride: 0,
            len,
        }],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_merge_neighbouring_axes() {
        let view = View::transposed(&[2, 3, 4], &[1, 0, 2]);
        let starts: Vec<usize> = view.runs().map(|r| r.start).collect();
        assert_eq!(starts, [0, 12, 4, 16, 8, 20]);
        let whole: Vec<Run> = View::transposed(&[2, 3, 4], &[0, 1, 2]).runs().collect();
        assert_eq!(whole, [Run::contiguous(0, 24)]);
        assert_eq!(View::transposed(&[2, 0], &[1, 0]).runs().count(), 0);
    }

    #[test]
    fn every_kind_of_element_moves() {
        let reversed = [Run {
            source: 0,
            start: 2,
            stride: -1,
            len: 3,
        }];
        let words = ["a", "b", "c"].map(str::to_owned).to_vec();
        let strings = Tensor::from_strings(&[3], words).unwrap();
        let y = copy_runs(&[&strings], &[3], reversed).unwrap();
        assert_eq!(y.as_strings().unwrap(), ["c", "b", "a"]);
        // Elements 1, 2, 3 of four bits.
        let nibbles = Tensor::from_opaque(DType::UInt4, &[3], vec![0x21, 0x03]).unwrap();
        let y = copy_runs(&[&nibbles], &[3], reversed).unwrap();
        assert_eq!(
            y,
            Tensor::from_opaque(DType::UInt4, &[3], vec![0x23, 0x01]).unwrap()
        );
    }

    #[test]
    fn sources_of_two_dtypes_are_refused() {
        let (a, b) = (Tensor::scalar(1_f32), Tensor::scalar(1_i64));
        let error = copy_runs(&[&a, &b], &[1], []).unwrap_err();
        assert_eq!(
            error.to_string(),
            "input 1: wrong dtype, expected float32, got int64"
        );
    }
}
