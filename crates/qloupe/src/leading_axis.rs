//! Parts of tensors along their first axis: cut out, and joined.

use qloupe_tensor::{Data, Tensor, TensorError};

/// `n` indices of the first axis, from `first`; `None` for a dtype that is carried but not computed with.
///
/// # Errors
/// A part that lies beyond the end.
pub(crate) fn cut(tensor: &Tensor, first: usize, n: usize) -> Option<Result<Tensor, TensorError>> {
    let (n_all, tail) = tensor.shape().split_first()?;
    let shape = [&[n], tail].concat();
    let length = tensor.len() / usize::max(*n_all, 1);
    macro_rules! part {
        ($($variant:ident),*) => {
            match tensor.data() {
                $(Data::$variant(values) => {
                    let part = values.iter().skip(first * length).take(n * length).copied();
                    Some(Tensor::new(&shape, part.collect()))
                })*
                Data::String(values) => {
                    let part = values.iter().skip(first * length).take(n * length).cloned();
                    Some(Tensor::from_strings(&shape, part.collect()))
                }
                Data::Opaque(..) => None,
            }
        };
    }
    part!(
        Float32, Float64, Float16, BFloat16, UInt8, Int8, UInt16, Int16, UInt32, Int32, UInt64, Int64, Bool
    )
}

/// The parts one after the other; `None` for a dtype that is carried but not computed with, and without parts.
///
/// # Errors
/// Parts of different dtypes, parts whose other axes differ.
pub(crate) fn join(parts: &[Tensor]) -> Option<Result<Tensor, TensorError>> {
    let first = parts.first()?;
    let tail = first.shape().get(1..).unwrap_or_default();
    let n = parts
        .iter()
        .map(|part| part.shape().first().copied().unwrap_or(1))
        .sum();
    let shape = [&[n], tail].concat();
    macro_rules! join {
        ($($variant:ident),*) => {
            match first.data() {
                $(Data::$variant(_) => {
                    let mut joined = Vec::with_capacity(parts.iter().map(Tensor::len).sum());
                    for part in parts {
                        match part.data() {
                            Data::$variant(values) => joined.extend_from_slice(values),
                            _ => return Some(Err(wrong_dtype(first, part))),
                        }
                    }
                    Some(Tensor::new(&shape, joined))
                })*
                Data::String(_) | Data::Opaque(..) => None,
            }
        };
    }
    join!(
        Float32, Float64, Float16, BFloat16, UInt8, Int8, UInt16, Int16, UInt32, Int32, UInt64, Int64, Bool
    )
}

fn wrong_dtype(expected: &Tensor, got: &Tensor) -> TensorError {
    TensorError::DType {
        expected: expected.dtype(),
        got: got.dtype(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_joins_again() {
        let whole = Tensor::new(&[3, 2], vec![1_u8, 2, 3, 4, 5, 6]).unwrap();
        let parts = [cut(&whole, 0, 1), cut(&whole, 1, 2)].map(|part| part.unwrap().unwrap());
        assert_eq!(parts[1], Tensor::new(&[2, 2], vec![3_u8, 4, 5, 6]).unwrap());
        assert_eq!(join(&parts).unwrap().unwrap(), whole);
        let scalars = [Tensor::scalar(1.0_f32), Tensor::scalar(2.0_f32)];
        assert_eq!(
            join(&scalars).unwrap().unwrap(),
            Tensor::vector(vec![1.0_f32, 2.0])
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let whole = Tensor::new(&[2, 2], vec![1.0_f32; 4]).unwrap();
        assert!(cut(&whole, 1, 2).unwrap().is_err(), "beyond the end");
        let other = Tensor::new(&[1, 2], vec![1_i64; 2]).unwrap();
        assert_eq!(
            join(&[whole.clone(), other]).unwrap().unwrap_err().to_string(),
            "wrong dtype, expected float32, got int64"
        );
        let narrow = Tensor::new(&[2, 1], vec![1.0_f32; 2]).unwrap();
        assert!(join(&[whole, narrow]).unwrap().is_err(), "other axes differ");
        assert!(
            cut(&Tensor::scalar(1_u8), 0, 1).is_none(),
            "a scalar has no first axis"
        );
        assert!(join(&[]).is_none(), "nothing to join");
    }
}
