//! Cast: converts elements to another dtype.

use qloupe_tensor::{DType, Tensor, TensorError};

use super::broadcast::fill_pieces;
use super::number::{Castable, Exact, each_castable};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `y = x` as the dtype `to`.
///
/// # Edge cases
/// Floats round once, ties to even; floats to integers truncate and saturate, NaN becomes 0; integers wrap; anything
/// but 0 is `true`; strings are parsed, and numbers print as the shortest text that reads back as the same number.
/// # Errors
/// Dtypes that are carried but not computed with (complex, float8, sub-byte); a string that is no number.
#[derive(Debug)]
pub(super) struct Cast;

impl Operator for Cast {
    fn op_type(&self) -> &'static str {
        "Cast"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_cast(ctx, Some(target(ctx.node.int("to"))?))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![cast(ctx.require(0)?, target(ctx.node.int("to"))?)?])
    }
}

/// The fact of a cast: elements of shape computations survive between integer types.
pub(super) fn infer_cast(ctx: &InferContext<'_>, dtype: Option<DType>) -> Result<Vec<Fact>, OpError> {
    let x = ctx.require(0)?;
    let mut fact = Fact::new(dtype, x.shape.clone());
    if matches!(dtype, Some(DType::Int32 | DType::Int64)) {
        fact.elements.clone_from(&x.elements);
    }
    Ok(vec![fact])
}

fn target(to: Option<i64>) -> Result<DType, OpError> {
    let number = to.ok_or_else(|| OpError::attribute("to", "is absent, expected a dtype"))?;
    i32::try_from(number)
        .ok()
        .and_then(DType::from_onnx)
        .ok_or_else(|| {
            OpError::attribute(
                "to",
                format!("unknown dtype, expected a TensorProto.DataType, got {number}"),
            )
        })
}

/// Converts a tensor.
///
/// # Errors
/// As [`Cast`].
pub(super) fn cast(x: &Tensor, to: DType) -> Result<Tensor, OpError> {
    let from = x.dtype();
    if from == to {
        return Ok(x.clone());
    }
    if let Some(strings) = x.as_strings() {
        return each_castable!(to, T => {
            let values: Result<Vec<T>, _> = strings.iter().map(|text| parse(text)).collect();
            Ok(Tensor::new(x.shape(), values?)?)
        }, else Err(unsupported(from, to)));
    }
    let source = Source::of(x).ok_or_else(|| unsupported(from, to))?;
    if to == DType::String {
        let texts = (0..x.len()).map(|i| source.print(i)).collect();
        return Ok(Tensor::from_strings(x.shape(), texts)?);
    }
    each_castable!(to, T => {
        let values = fill_pieces::<T>(x.len(), &|start, out| source.narrow_into(start, out));
        Ok(Tensor::new(x.shape(), values)?)
    }, else Err(unsupported(from, to)))
}

/// The type that numbers of a dtype compute in: f32 for half types, i64 for integers that fit, else the type itself.
pub(super) fn computing_dtype(dtype: DType) -> DType {
    match dtype {
        DType::Float16 | DType::BFloat16 => DType::Float32,
        DType::Int8 | DType::Int16 | DType::Int32 | DType::UInt8 | DType::UInt16 | DType::UInt32 => {
            DType::Int64
        }
        other => other,
    }
}

/// Writes the elements from an index on, as many as the buffer holds.
type Widen<'a> = dyn Fn(usize, &mut [Exact]) + Sync + 'a;

/// The elements that a cast starts from.
struct Source<'a> {
    dtype: DType,
    widen: Box<Widen<'a>>,
}

impl<'a> Source<'a> {
    fn of(x: &'a Tensor) -> Option<Self> {
        each_castable!(x.dtype(), T => {
            let values = x.as_slice::<T>()?;
            let widen = move |start: usize, out: &mut [Exact]| {
                for (out, value) in out.iter_mut().zip(&values[start..]) {
                    *out = value.widen();
                }
            };
            Some(Self { dtype: x.dtype(), widen: Box::new(widen) })
        }, else None)
    }

    /// Narrows the elements from `start` on, by way of a small buffer.
    fn narrow_into<T: Castable>(&self, start: usize, out: &mut [T]) {
        let mut buffer = [Exact::Signed(0); 256];
        for (block, out) in out.chunks_mut(buffer.len()).enumerate() {
            let exact = &mut buffer[..out.len()];
            (self.widen)(start + block * 256, exact);
            for (out, exact) in out.iter_mut().zip(exact) {
                *out = T::narrow(*exact);
            }
        }
    }

    fn print(&self, idx: usize) -> String {
        let mut exact = [Exact::Signed(0)];
        (self.widen)(idx, &mut exact);
        match exact[0] {
            Exact::Signed(v) if self.dtype == DType::Bool => if v == 0 { "False" } else { "True" }.to_owned(),
            Exact::Signed(v) => v.to_string(),
            Exact::Unsigned(v) => v.to_string(),
            Exact::Float(v) if self.dtype == DType::Float64 => v.to_string(),
            Exact::Float(v) => (v as f32).to_string(),
        }
    }
}

fn unsupported(from: DType, to: DType) -> OpError {
    TensorError::Cast { from, to }.into()
}

fn parse<T: Castable>(text: &str) -> Result<T, OpError> {
    let text = text.trim();
    let exact = if T::DTYPE.is_float() {
        text.parse().map(Exact::Float).ok()
    } else {
        let integer = text
            .parse()
            .map(Exact::Signed)
            .or_else(|_| text.parse().map(Exact::Unsigned));
        integer.or_else(|_| text.parse().map(Exact::Float)).ok()
    };
    exact.map(T::narrow).ok_or_else(|| {
        OpError::input(
            0,
            format!("element is no number, expected {}, got \"{text}\"", T::DTYPE),
        )
    })
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_kind_of_cast() {
        let x = Tensor::vector(vec![-1.7_f32, 0.0, 300.0]);
        let strings = Tensor::from_strings(&[2], vec!["1e3".into(), " -2.5".into()]).unwrap();
        let cases = [
            (&x, Tensor::vector(vec![-1_i32, 0, 300])),
            (&x, Tensor::vector(vec![0_u8, 0, 255])),
            (&x, Tensor::vector(vec![true, false, true])),
            (&x, Tensor::vector([-1.7, 0.0, 300.0].map(f16::from_f32).to_vec())),
            (
                &x,
                Tensor::from_strings(&[3], ["-1.7", "0", "300"].map(str::to_owned).to_vec()).unwrap(),
            ),
            (&strings, Tensor::vector(vec![1000.0_f32, -2.5])),
        ];
        for (x, expected) in cases {
            assert_eq!(cast(x, expected.dtype()).unwrap(), expected);
        }
    }

    #[test]
    fn what_cannot_be_cast_is_named() {
        let text = Tensor::from_strings(&[1], vec!["ten".into()]).unwrap();
        assert_eq!(
            cast(&text, DType::Int32).unwrap_err().to_string(),
            "input 0: element is no number, expected int32, got \"ten\""
        );
        assert_eq!(
            cast(&Tensor::scalar(1.0_f32), DType::Int4)
                .unwrap_err()
                .to_string(),
            "cannot convert float32 to int4"
        );
        assert_eq!(
            target(Some(99)).unwrap_err().to_string(),
            "attribute \"to\": unknown dtype, expected a TensorProto.DataType, got 99"
        );
    }
}
