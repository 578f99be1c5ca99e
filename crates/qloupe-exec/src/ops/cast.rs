//! Cast: converts elements to another dtype.

use qloupe_tensor::{
    DType, PowerRounding, Tensor, TensorError, decode, decode_integer, encode_float, has_codes,
};

use super::broadcast::fill_pieces;
use super::movement_gradient::reshaped;
use super::number::{Castable, Exact, each_castable};
use super::parameters::dtype_of_number;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback, PullbackContext,
};

/// `y = x` as the dtype `to`.
///
/// # Edge cases
/// Floats round once, ties to even; floats to integers truncate and saturate, NaN becomes 0; integers wrap; anything
/// but 0 is `true`; strings are parsed, and numbers print as the shortest text that reads back as the same number.
/// Floats of 4 and 8 bits saturate unless `saturate` is 0; float8e8m0 rounds by `round_mode`. Integers of 2 and 4 bits
/// take the low bits of the truncated number.
/// # Errors
/// Complex numbers; a string that is no number.
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

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let to = target(ctx.node.int("to"))?;
        Ok(vec![cast_by(ctx.require(0)?, to, SmallFloatRule::of(ctx)?)?])
    }
}

impl Differentiable for Cast {
    fn reads_outputs(&self) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        reshaped(ctx)
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
    dtype_of_number(number, "to")
}

/// How numbers become floats of 4 and 8 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct SmallFloatRule {
    /// Numbers beyond the range become the largest number.
    pub(super) saturate: bool,
    /// For float8e8m0.
    pub(super) rounding: PowerRounding,
}

impl SmallFloatRule {
    /// The attributes of Cast and CastLike.
    ///
    /// # Errors
    /// An unknown `round_mode`.
    pub(super) fn of(ctx: &EvalContext<'_>) -> Result<Self, OpError> {
        let rounding = match ctx.string("round_mode", "up") {
            "up" => PowerRounding::Up,
            "down" => PowerRounding::Down,
            "nearest" => PowerRounding::Nearest,
            other => {
                return Err(OpError::attribute(
                    "round_mode",
                    format!("unknown mode, expected up, down or nearest, got \"{other}\""),
                ));
            }
        };
        Ok(Self {
            saturate: ctx.int("saturate", 1) != 0,
            rounding,
        })
    }
}

/// Converts a tensor; floats of 4 and 8 bits saturate.
///
/// # Errors
/// As [`Cast`].
pub(super) fn cast(x: &Tensor, to: DType) -> Result<Tensor, OpError> {
    let rule = SmallFloatRule {
        saturate: true,
        rounding: PowerRounding::Up,
    };
    cast_by(x, to, rule)
}

/// Converts a tensor.
///
/// # Errors
/// As [`Cast`].
pub(super) fn cast_by(x: &Tensor, to: DType, rule: SmallFloatRule) -> Result<Tensor, OpError> {
    let from = x.dtype();
    if from == to {
        return Ok(x.clone());
    }
    if let Some(strings) = x.as_strings() {
        if has_codes(to) {
            return cast_by(&cast(x, DType::Float64)?, to, rule);
        }
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
    if has_codes(to) {
        let code = |exact| code_of(exact, to, rule);
        let codes = fill_pieces::<u8>(x.len(), &|start, out| source.map_into(start, out, code));
        return Ok(Tensor::from_codes(to, x.shape(), codes)?);
    }
    each_castable!(to, T => {
        let values = fill_pieces::<T>(x.len(), &|start, out| source.map_into(start, out, T::narrow));
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
        let dtype = x.dtype();
        if let Some(codes) = x.codes() {
            let numbers: Vec<Exact> = (0..=u8::MAX).map(|code| exact_of(dtype, code)).collect();
            let widen = move |start: usize, out: &mut [Exact]| {
                for (out, &code) in out.iter_mut().zip(&codes[start..]) {
                    *out = numbers[usize::from(code)];
                }
            };
            return Some(Self {
                dtype,
                widen: Box::new(widen),
            });
        }
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

    /// Converts the elements from `start` on, by way of a small buffer.
    fn map_into<T>(&self, start: usize, out: &mut [T], convert: impl Fn(Exact) -> T) {
        let mut buffer = [Exact::Signed(0); 256];
        for (block, out) in out.chunks_mut(buffer.len()).enumerate() {
            let exact = &mut buffer[..out.len()];
            (self.widen)(start + block * 256, exact);
            for (out, exact) in out.iter_mut().zip(exact) {
                *out = convert(*exact);
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

/// The number of a code.
fn exact_of(dtype: DType, code: u8) -> Exact {
    match decode_integer(dtype, code) {
        Some(integer) => Exact::Signed(i64::from(integer)),
        None => Exact::Float(decode(dtype, code).expect("invariant: the dtype has codes")),
    }
}

/// The code of a number; bits above those of the dtype may be set.
fn code_of(exact: Exact, to: DType, rule: SmallFloatRule) -> u8 {
    let float = f64::narrow(exact);
    encode_float(to, float, rule.saturate, rule.rounding).unwrap_or_else(|| i64::narrow(exact) as u8)
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
    fn small_types_cast_both_ways() {
        struct Case {
            to: DType,
            codes: [u8; 4],
            back: [f32; 4],
        }
        let case = |to, codes, back| Case { to, codes, back };
        let x = Tensor::vector(vec![-2.5_f32, 0.3, 7.0, 500.0]);
        let cases = [
            case(DType::Int4, [14, 0, 7, 4], [-2.0, 0.0, 7.0, 4.0]),
            case(DType::UInt2, [2, 0, 3, 0], [2.0, 0.0, 3.0, 0.0]),
            case(DType::Float4E2M1, [0x0c, 1, 7, 7], [-2.0, 0.5, 6.0, 6.0]),
            case(
                DType::Float8E4M3FN,
                [0xc2, 0x2a, 0x4e, 0x7e],
                [-2.5, 0.3125, 7.0, 448.0],
            ),
        ];
        for Case { to, codes, back } in cases {
            let y = cast(&x, to).unwrap();
            assert_eq!(y.codes().unwrap().as_ref(), codes, "{to}");
            assert_eq!(
                cast(&y, DType::Float32).unwrap().as_slice::<f32>().unwrap(),
                back,
                "{to}"
            );
        }
        let words = Tensor::from_strings(&[1], vec!["-3".into()]).unwrap();
        assert_eq!(cast(&words, DType::Int4).unwrap().codes().unwrap().as_ref(), [13]);
    }

    #[test]
    fn what_cannot_be_cast_is_named() {
        let text = Tensor::from_strings(&[1], vec!["ten".into()]).unwrap();
        assert_eq!(
            cast(&text, DType::Int32).unwrap_err().to_string(),
            "input 0: element is no number, expected int32, got \"ten\""
        );
        assert_eq!(
            cast(&Tensor::scalar(1.0_f32), DType::Complex64)
                .unwrap_err()
                .to_string(),
            "cannot convert float32 to complex64"
        );
        assert_eq!(
            target(Some(99)).unwrap_err().to_string(),
            "attribute \"to\": unknown dtype, expected a TensorProto.DataType, got 99"
        );
    }
}
