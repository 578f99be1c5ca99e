//! The matrix product of 8-bit integers with exact int32 sums: what the integer matrix products share.

use qloupe_kernels::{Epilogue, GemmI8};
use qloupe_tensor::{DType, Tensor, n_elements};

use super::integer_parts::Parts;
use super::matrix_product::MatrixProduct;
use super::quant_parameters::{accumulator, differences, require_8_bit};
use crate::integer::{quantized_slice, write_quantized};
use crate::{OpError, PrepareContext};

/// The right-hand side of `(a - a_zero_point) * (b - b_zero_point) + bias`, packed.
#[derive(Debug)]
pub(crate) struct IntegerMatrix {
    shape: Vec<usize>,
    /// Which input it is, for messages.
    idx: usize,
    k: usize,
    n: usize,
    matrices: Matrices,
}

#[derive(Debug)]
enum Matrices {
    /// Sums that int32 holds whatever the left-hand side is: one for each matrix of the batch.
    Packed(Vec<Parts<GemmI8>>),
    /// All others: differences to the zero point and the bias; each sum is checked.
    Checked(Vec<i16>, Option<Vec<i32>>),
}

/// Exact sums, and how they lie.
#[derive(Debug)]
pub(super) struct Sums {
    /// The sums, in the order of the output.
    pub(super) sums: Vec<i32>,
    /// The shapes.
    pub(super) product: MatrixProduct,
}

impl IntegerMatrix {
    /// Packs the matrices of input `idx`; the zero point is one, one for each column, or one for each column of each
    /// matrix. The bias has one number for each column.
    ///
    /// # Errors
    /// Rank 0, dtypes or zero points that do not fit.
    pub(crate) fn new(
        idx: usize,
        b: &Tensor,
        zero_point: (usize, Option<&Tensor>),
        bias: Option<&[i32]>,
    ) -> Result<Self, OpError> {
        let (batch, k, n) = match *b.shape() {
            [] => return Err(OpError::input(idx, "wrong rank, expected at least 1, got 0")),
            [k] => (1, k, 1),
            [ref batch @ .., k, n] => (n_elements(batch).unwrap_or(0), k, n),
        };
        let n_zero_points = zero_point.1.map_or(1, Tensor::len);
        let columns = if n_zero_points == batch * n { batch * n } else { n };
        let column = |i: usize| (i / (k * n) * n + i % n) % columns;
        let differences = differences(idx, b, zero_point, columns, column)?;
        let packed: Option<Vec<_>> = if k * n == 0 {
            None
        } else {
            let pack = |b: &[i8], bias: Option<&[i32]>| GemmI8::new(b, k, n, bias);
            differences
                .chunks(k * n)
                .map(|matrix| Parts::new(matrix, bias, pack, GemmI8::max_abs_accumulator_bound))
                .collect()
        };
        Ok(Self {
            shape: b.shape().to_vec(),
            idx,
            k,
            n,
            matrices: match packed {
                Some(packed) => Matrices::Packed(packed),
                None => Matrices::Checked(differences, bias.map(<[i32]>::to_vec)),
            },
        })
    }

    /// [`IntegerMatrix::new`] for a node whose matrix and zero point are constants; `None` when they are not.
    ///
    /// # Errors
    /// As [`IntegerMatrix::new`].
    pub(super) fn prepare(
        ctx: &PrepareContext<'_>,
        idx: usize,
        zero_point_idx: usize,
    ) -> Result<Option<Self>, OpError> {
        let constant = |idx: usize| ctx.constants.get(idx).and_then(Option::as_ref);
        let zero_point = constant(zero_point_idx);
        let computed = ctx.node.input(zero_point_idx).is_some() && zero_point.is_none();
        match constant(idx) {
            Some(b) if !computed => Self::new(idx, b, (zero_point_idx, zero_point), None).map(Some),
            _ => Ok(None),
        }
    }

    /// The number of columns.
    pub(super) fn n_columns(&self) -> usize {
        self.n
    }

    /// The number of matrices in the batch.
    pub(super) fn n_matrices(&self) -> usize {
        let inner = self.shape.len().saturating_sub(2);
        self.shape[..inner].iter().product()
    }

    /// The exact sums for a left-hand side with one zero point, one for each row, or one for each row of each matrix.
    ///
    /// # Errors
    /// Shapes, dtypes or zero points that do not fit; a sum that int32 does not hold.
    pub(super) fn sums(&self, a: &Tensor, zero_point: &[i32]) -> Result<Sums, OpError> {
        require_8_bit(0, a)?;
        let product = MatrixProduct::new(a.shape(), &self.shape, self.idx)?;
        let rows = a.len() / product.k.max(1);
        if zero_point.len() != 1 && zero_point.len() != product.m && zero_point.len() != rows {
            return Err(OpError::input(
                0,
                format!(
                    "wrong number of zero points, expected 1 or {}, got {}",
                    product.m,
                    zero_point.len()
                ),
            ));
        }
        let sums = match &self.matrices {
            Matrices::Packed(packed) if product.m > 0 => self.sums_packed(packed, a, zero_point, &product)?,
            Matrices::Packed(_) => Vec::new(),
            Matrices::Checked(b, bias) => self.sums_checked(b, bias.as_deref(), a, zero_point, &product)?,
        };
        Ok(Sums { sums, product })
    }

    fn sums_packed(
        &self,
        packed: &[Parts<GemmI8>],
        a: &Tensor,
        zero_point: &[i32],
        product: &MatrixProduct,
    ) -> Result<Vec<i32>, OpError> {
        let (m, k, n) = (product.m, self.k, self.n);
        let a = quantized_slice(a)?;
        if let ([matrix], [zero_point]) = (packed, zero_point) {
            return Ok(matrix.accumulate(|packed| packed.accumulate(a, a.len() / k, *zero_point)));
        }
        let mut sums = Vec::with_capacity(product.offsets.len() * m * n);
        for &(a_offset, b_offset) in &product.offsets {
            let matrix = &packed[b_offset / (k * n)];
            let of_rows = |first: usize, rows: usize, zero_point: i32| {
                let rows_of_a = a.part(first * k, rows * k);
                matrix.accumulate(|packed| packed.accumulate(rows_of_a, rows, zero_point))
            };
            let first = a_offset / k;
            if let [zero_point] = zero_point {
                sums.extend(of_rows(first, m, *zero_point));
            } else {
                for row in first..first + m {
                    sums.extend(of_rows(row, 1, zero_point[row % zero_point.len()]));
                }
            }
        }
        Ok(sums)
    }

    fn sums_checked(
        &self,
        b: &[i16],
        bias: Option<&[i32]>,
        a: &Tensor,
        zero_point: &[i32],
        product: &MatrixProduct,
    ) -> Result<Vec<i32>, OpError> {
        let k = product.k.max(1);
        let zero_points = Tensor::vector(zero_point.to_vec());
        let n_zero_points = zero_point.len();
        let a = differences(0, a, (0, Some(&zero_points)), n_zero_points, |i| {
            i / k % n_zero_points
        })?;
        let widen = |values: &[i16]| values.iter().map(|&v| i64::from(v)).collect::<Vec<_>>();
        let mut sums = product.compute(&widen(&a), &widen(b));
        if let Some(bias) = bias {
            for row in sums.chunks_mut(bias.len().max(1)) {
                row.iter_mut()
                    .zip(bias)
                    .for_each(|(sum, &bias)| *sum += i64::from(bias));
            }
        }
        sums.into_iter().enumerate().map(accumulator).collect()
    }

    /// The requantized sums, for one zero point of a.
    ///
    /// # Errors
    /// As [`IntegerMatrix::sums`].
    pub(crate) fn requantized(
        &self,
        a: &Tensor,
        zero_point: i32,
        epilogue: &Epilogue,
        dtype: DType,
    ) -> Result<Tensor, OpError> {
        if let Matrices::Packed(packed) = &self.matrices
            && let [matrix] = packed.as_slice()
            && let Some(whole) = matrix.whole()
        {
            require_8_bit(0, a)?;
            let product = MatrixProduct::new(a.shape(), &self.shape, self.idx)?;
            let a = quantized_slice(a)?;
            return write_quantized(dtype, &product.output, |out| {
                whole.run(a, a.len() / self.k, zero_point, epilogue, out);
                Ok(())
            });
        }
        let Sums { sums, product } = self.sums(a, &[zero_point])?;
        write_quantized(dtype, &product.output, |mut out| {
            epilogue.apply(&sums, self.n, &mut out);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number between 0 and 255 that looks random.
    fn byte(i: usize) -> u8 {
        ((i * 2_654_435_761) >> 9) as u8
    }

    #[test]
    fn packed_matrices_equal_checked_sums() {
        struct Case {
            a: &'static [usize],
            b: &'static [usize],
            a_zero_point: Vec<i32>,
            b_zero_point: Vec<u8>,
        }
        let case = |a, b, a_zero_point, b_zero_point| Case {
            a,
            b,
            a_zero_point,
            b_zero_point,
        };
        let cases = [
            case(&[3, 5], &[5, 4], vec![7], vec![128]),
            case(&[2, 3, 5], &[5, 4], vec![7], vec![0]),
            case(&[2, 3, 5], &[2, 5, 4], vec![1, 2, 3], vec![0, 1, 128, 255]),
            case(&[3, 5], &[2, 5, 4], vec![0], (0..8).map(|i| i * 30).collect()),
            case(&[5], &[5], vec![9], vec![3]),
            case(&[2, 0], &[0, 3], vec![9], vec![3]),
        ];
        for (idx, c) in cases.into_iter().enumerate() {
            let tensor = |shape: &[usize], salt: usize| {
                let n: usize = shape.iter().product();
                Tensor::new(shape, (0..n).map(|i| byte(i + salt)).collect()).unwrap()
            };
            let (a, b) = (tensor(c.a, 5), tensor(c.b, 500));
            let zero_point = Tensor::vector(c.b_zero_point);
            let matrix = IntegerMatrix::new(1, &b, (3, Some(&zero_point)), None).unwrap();
            let Sums { sums, product } = matrix.sums(&a, &c.a_zero_point).unwrap();
            let n_columns = if zero_point.len() == 1 {
                1
            } else {
                zero_point.len()
            };
            let column = |i: usize| {
                (i / (product.k * product.n).max(1) * product.n + i % product.n.max(1)) % n_columns
            };
            let all = differences(1, &b, (3, Some(&zero_point)), n_columns, column).unwrap();
            let expected = matrix
                .sums_checked(&all, None, &a, &c.a_zero_point, &product)
                .unwrap();
            assert_eq!(sums, expected, "case {idx}");
        }
    }

    #[test]
    fn zero_points_that_do_not_fit_are_named() {
        let b = Tensor::new(&[2, 3], vec![0_u8; 6]).unwrap();
        let wrong = Tensor::vector(vec![0_u8; 2]);
        assert_eq!(
            IntegerMatrix::new(1, &b, (3, Some(&wrong)), None)
                .unwrap_err()
                .to_string(),
            "input 3: wrong number of zero points, expected 1 or 3, got 2"
        );
        let matrix = IntegerMatrix::new(1, &b, (3, None), None).unwrap();
        let a = Tensor::new(&[3, 2], vec![0_u8; 6]).unwrap();
        assert_eq!(
            matrix.sums(&a, &[1, 2]).unwrap_err().to_string(),
            "input 0: wrong number of zero points, expected 1 or 3, got 2"
        );
    }
}
