//! One case: inputs, expected outputs and tolerances, as `tools/onnx_node_cases.py` writes them.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use qloupe_tensor::{DType, Tensor, has_codes};

/// Tensors with their names.
type Named = Vec<(String, Tensor)>;

/// Inputs, expected outputs and tolerances of a case.
#[derive(Debug)]
pub(super) struct Case {
    relative: f64,
    absolute: f64,
    pub(super) inputs: Named,
    outputs: Named,
}

impl Case {
    /// Reads a file of the form that `tools/onnx_node_cases.py` describes.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut reader = Reader(&bytes);
        Ok(Self {
            relative: f64::from_le_bytes(reader.array()?),
            absolute: f64::from_le_bytes(reader.array()?),
            inputs: reader.tensors()?,
            outputs: reader.tensors()?,
        })
    }

    /// Checks computed outputs: integers exactly, floats within the tolerances.
    pub(super) fn compare(&self, outputs: &[(String, Tensor)]) -> anyhow::Result<()> {
        for (name, expected) in &self.outputs {
            let (_, got) = outputs
                .iter()
                .find(|(n, _)| n == name)
                .with_context(|| format!("output \"{name}\" is absent"))?;
            let describe = |t: &Tensor| format!("{} {:?}", t.dtype(), t.shape());
            if (got.dtype(), got.shape()) != (expected.dtype(), expected.shape()) {
                bail!(
                    "output \"{name}\" is {}, expected {}",
                    describe(got),
                    describe(expected)
                );
            }
            let n_wrong = if expected.dtype().is_float() {
                let pairs = expected.to_f64_vec()?.into_iter().zip(got.to_f64_vec()?);
                pairs
                    .filter(|&(expected, got)| !self.close(expected, got))
                    .count()
            } else {
                usize::from(got != expected)
            };
            ensure!(n_wrong == 0, "output \"{name}\" has wrong values");
        }
        Ok(())
    }

    fn close(&self, expected: f64, got: f64) -> bool {
        let equal = expected.partial_cmp(&got).is_some_and(std::cmp::Ordering::is_eq);
        let near = (expected - got).abs() <= self.absolute + self.relative * expected.abs();
        equal || (expected.is_nan() && got.is_nan()) || (expected.is_finite() && near)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> anyhow::Result<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n).context("the file ends too early")?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn size(&mut self) -> anyhow::Result<usize> {
        Ok(u64::from_le_bytes(self.array()?).try_into()?)
    }

    fn count(&mut self) -> anyhow::Result<usize> {
        Ok(u32::from_le_bytes(self.array()?).try_into()?)
    }

    fn tensors(&mut self) -> anyhow::Result<Named> {
        let count = self.count()?;
        (0..count).map(|_| self.tensor()).collect()
    }

    fn tensor(&mut self) -> anyhow::Result<(String, Tensor)> {
        let name_len = self.count()?;
        let name = String::from_utf8(self.take(name_len)?.to_vec())?;
        let [number] = self.array()?;
        let dtype =
            DType::from_onnx(i32::from(number)).with_context(|| format!("no dtype has number {number}"))?;
        let rank = self.count()?;
        let shape = (0..rank)
            .map(|_| self.size())
            .collect::<anyhow::Result<Vec<usize>>>()?;
        let n_bytes = self.size()?;
        Ok((name, tensor_of_bytes(dtype, &shape, self.take(n_bytes)?)?))
    }
}

/// A tensor of little-endian elements.
fn tensor_of_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> anyhow::Result<Tensor> {
    macro_rules! numbers {
        ($($variant:ident: $ty:ty),*) => {
            match dtype {
                $(DType::$variant => {
                    let (elements, _) = bytes.as_chunks::<{ size_of::<$ty>() }>();
                    Tensor::new(shape, elements.iter().map(|&e| <$ty>::from_le_bytes(e)).collect())?
                })*
                DType::Bool => Tensor::new(shape, bytes.iter().map(|&b| b != 0).collect())?,
                _ if has_codes(dtype) => Tensor::from_codes(dtype, shape, bytes.to_vec())?,
                _ => bail!("no case has elements of {dtype}"),
            }
        };
    }
    Ok(numbers!(
        Float32: f32, Float64: f64, Float16: half::f16, BFloat16: half::bf16, UInt8: u8, Int8: i8, UInt16: u16, Int16: i16, UInt32: u32,
        Int32: i32, UInt64: u64, Int64: i64
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_close_and_nan_equals_nan() {
        let case = Case {
            relative: 0.1,
            absolute: 0.0,
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        let rows = [
            (1.0, 1.05, true),
            (1.0, 1.2, false),
            (f64::NAN, f64::NAN, true),
            (f64::INFINITY, f64::INFINITY, true),
            (f64::INFINITY, 1.0, false),
        ];
        for (expected, got, close) in rows {
            assert_eq!(case.close(expected, got), close, "{expected} {got}");
        }
    }

    #[test]
    fn a_tensor_is_read() {
        let bytes = [
            &[1, 0, 0, 0, b'x', 3, 1, 0, 0, 0][..],
            &2_u64.to_le_bytes(),
            &2_u64.to_le_bytes(),
            &[1, 255],
        ];
        let bytes = bytes.concat();
        let mut reader = Reader(&bytes);
        let (name, tensor) = reader.tensor().unwrap();
        assert_eq!((name.as_str(), tensor), ("x", Tensor::vector(vec![1_i8, -1])));
        assert_eq!(reader.count().unwrap_err().to_string(), "the file ends too early");
    }
}
