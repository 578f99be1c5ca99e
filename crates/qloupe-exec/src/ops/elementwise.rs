//! Element-wise operators: one function applied to every element, or to every pair of broadcast elements.
//!
//! The files of the operators say which function; this file owns the loops, their threads, and the shared parts of
//! inference. float16 and bfloat16 compute in f32 and round once.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::{DType, Element, Tensor};

use super::broadcast::{Broadcast, broadcast_dims, fill_pieces};
use super::cast::{cast, computing_dtype};
use super::number::{Number, each_number};
use crate::{EvalContext, Fact, InferContext, OpError, SymDim};

/// The floating-point dtypes, for messages.
pub(super) const FLOATS: &str = "float32, float64, float16 or bfloat16";

/// The numeric dtypes, for messages.
pub(super) const NUMBERS: &str = "a numeric type";

/// The integer dtypes, for messages.
pub(super) const INTEGERS: &str = "an integer type";

/// The error of an input of another dtype.
pub(super) fn wrong_dtype(idx: usize, expected: impl std::fmt::Display, got: DType) -> OpError {
    OpError::input(idx, format!("wrong dtype, expected {expected}, got {got}"))
}

/// The elements of an input that must be of type `T`.
///
/// # Errors
/// An absent input, another dtype.
pub(super) fn typed<'a, T: Element>(ctx: &EvalContext<'a>, idx: usize) -> Result<&'a [T], OpError> {
    let x = ctx.require(idx)?;
    x.as_slice().ok_or_else(|| wrong_dtype(idx, T::DTYPE, x.dtype()))
}

/// An input of exactly one element, of any rank.
///
/// # Errors
/// An absent input, another dtype or number of elements.
pub(super) fn scalar<T: Element>(ctx: &EvalContext<'_>, idx: usize) -> Result<T, OpError> {
    match typed::<T>(ctx, idx)? {
        &[value] => Ok(value),
        _ => Err(OpError::input(
            idx,
            format!(
                "wrong shape, expected one element, got {:?}",
                ctx.require(idx)?.shape()
            ),
        )),
    }
}

/// Applies `f` to every element.
pub(super) fn map<T: Element, U: Element>(x: &[T], f: impl Fn(T) -> U + Sync) -> Vec<U> {
    fill_pieces(x.len(), &|start, out| {
        for (out, &x) in out.iter_mut().zip(&x[start..]) {
            *out = f(x);
        }
    })
}

/// Applies `f` to every element of input 0, which must be of type `T`.
///
/// # Errors
/// An absent input, another dtype.
pub(super) fn unary<T: Element, U: Element>(
    ctx: &EvalContext<'_>,
    f: impl Fn(T) -> U + Sync,
) -> Result<Vec<Tensor>, OpError> {
    let x = typed::<T>(ctx, 0)?;
    Ok(vec![Tensor::new(ctx.require(0)?.shape(), map(x, f))?])
}

/// Applies a function to the floating-point input 0: `narrow` on slices of f32, `wide` to each f64.
///
/// # Errors
/// An absent input, a dtype that is not floating-point.
pub(super) fn float_unary(
    ctx: &EvalContext<'_>,
    narrow: impl Fn(&[f32], &mut [f32]) + Sync,
    wide: impl Fn(f64) -> f64 + Sync,
) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.require(0)?;
    let (dtype, shape) = (x.dtype(), x.shape());
    if !dtype.is_float() {
        return Err(wrong_dtype(0, FLOATS, dtype));
    }
    let x = cast(x, computing_dtype(dtype))?;
    let y = if let Some(x) = x.as_slice::<f32>() {
        let piece = |start: usize, out: &mut [f32]| narrow(&x[start..start + out.len()], out);
        Tensor::new(shape, fill_pieces(x.len(), &piece))?
    } else {
        Tensor::new(shape, map(x.require()?, wide))?
    };
    Ok(vec![cast(&y, dtype)?])
}

/// [`float_unary`] for a function that has a kernel.
///
/// # Errors
/// As [`float_unary`].
pub(super) fn float_kernel(
    ctx: &EvalContext<'_>,
    kernel: UnaryKernel,
    wide: impl Fn(f64) -> f64 + Sync,
) -> Result<Vec<Tensor>, OpError> {
    float_unary(ctx, |x, out| qloupe_kernels::unary(kernel, x, out), wide)
}

/// [`float_unary`] for a function of one f32.
///
/// # Errors
/// As [`float_unary`].
pub(super) fn float_map(
    ctx: &EvalContext<'_>,
    narrow: impl Fn(f32) -> f32 + Sync,
    wide: impl Fn(f64) -> f64 + Sync,
) -> Result<Vec<Tensor>, OpError> {
    let each = |x: &[f32], out: &mut [f32]| {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = narrow(x);
        }
    };
    float_unary(ctx, each, wide)
}

/// [`float_map`] for a rare function: f32 is computed in f64 by the standard library and rounded once, so a result
/// differs between machines only where their f64 functions differ by an ulp right at a rounding boundary of f32.
///
/// # Errors
/// As [`float_unary`].
pub(super) fn float_map_wide(
    ctx: &EvalContext<'_>,
    wide: impl Fn(f64) -> f64 + Sync,
) -> Result<Vec<Tensor>, OpError> {
    float_map(ctx, |x| wide(f64::from(x)) as f32, &wide)
}

/// Applies `f` to every pair of broadcast elements.
pub(super) fn zip<A: Element, B: Element, U: Element>(
    plan: &Broadcast<2>,
    a: &[A],
    b: &[B],
    f: impl Fn(A, B) -> U + Sync,
) -> Vec<U> {
    plan.fill(|out, [i, j], steps| {
        let n = out.len();
        match steps {
            [true, true] => {
                for ((out, &a), &b) in out.iter_mut().zip(&a[i..i + n]).zip(&b[j..j + n]) {
                    *out = f(a, b);
                }
            }
            [true, false] => {
                let b = b[j];
                for (out, &a) in out.iter_mut().zip(&a[i..i + n]) {
                    *out = f(a, b);
                }
            }
            [false, true] => {
                let a = a[i];
                for (out, &b) in out.iter_mut().zip(&b[j..j + n]) {
                    *out = f(a, b);
                }
            }
            [false, false] => out.fill(f(a[i], b[j])),
        }
    })
}

/// Applies `f` to every pair of broadcast elements of inputs 0 and 1, which must be of type `T`.
///
/// # Errors
/// An absent input, another dtype, shapes that do not broadcast.
pub(super) fn binary<T: Element, U: Element>(
    ctx: &EvalContext<'_>,
    f: impl Fn(T, T) -> U + Sync,
) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![zip_tensors(ctx.require(0)?, ctx.require(1)?, f)?])
}

/// Applies `f` to every pair of broadcast elements of two tensors of type `T`.
///
/// # Errors
/// Another dtype, shapes that do not broadcast.
pub(super) fn zip_tensors<T: Element, U: Element>(
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(T, T) -> U + Sync,
) -> Result<Tensor, OpError> {
    let of = |idx, x: &Tensor| wrong_dtype(idx, T::DTYPE, x.dtype());
    let x = a.as_slice().ok_or_else(|| of(0, a))?;
    let y = b.as_slice().ok_or_else(|| of(1, b))?;
    let plan = Broadcast::new([a.shape(), b.shape()])?;
    Ok(Tensor::new(plan.shape(), zip(&plan, x, y, f))?)
}

/// A function of one number.
pub(super) trait NumberFunction {
    /// Its value.
    fn apply<T: Number>(x: T) -> T;
}

/// Applies a function to the numeric input 0.
///
/// # Errors
/// An absent input, a dtype that is not numeric.
pub(super) fn numeric<F: NumberFunction>(ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.require(0)?;
    let wide = widened(ctx, 0, x.dtype())?;
    let y = each_number!(
        wide.dtype(), T => Tensor::new(x.shape(), map(wide.require::<T>()?, F::apply))?,
        else return Err(wrong_dtype(0, NUMBERS, x.dtype()))
    );
    Ok(vec![cast(&y, x.dtype())?])
}

/// A function of two numbers.
pub(super) trait PairFunction {
    /// Its value.
    fn apply<T: Number>(a: T, b: T) -> T;
}

/// Folds all inputs, which must be numeric and of one dtype, from the first to the last.
///
/// # Errors
/// An absent input, a dtype that is not numeric or differs, shapes that do not broadcast.
pub(super) fn arithmetic<F: PairFunction>(ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
    let dtype = ctx.require(0)?.dtype();
    let mut folded = widened(ctx, 0, dtype)?;
    for idx in 1..ctx.inputs.len().max(1) {
        let next = widened(ctx, idx, dtype)?;
        folded = each_number!(
            folded.dtype(), T => zip_tensors::<T, T>(&folded, &next, F::apply),
            else Err(wrong_dtype(0, NUMBERS, dtype))
        )
        .map_err(|error| of_input(idx, error))?;
    }
    Ok(vec![cast(&folded, dtype)?])
}

/// A relation of two numbers.
pub(super) trait Relation {
    /// Whether it holds.
    fn holds<T: PartialOrd>(a: T, b: T) -> bool;
}

/// Compares the numeric inputs 0 and 1, which must be of one dtype.
///
/// # Errors
/// As [`arithmetic`].
pub(super) fn compare<F: Relation>(ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
    let dtype = ctx.require(0)?.dtype();
    let (a, b) = (widened(ctx, 0, dtype)?, widened(ctx, 1, dtype)?);
    let holds = each_number!(
        a.dtype(), T => zip_tensors::<T, bool>(&a, &b, F::holds)?,
        else return Err(wrong_dtype(0, NUMBERS, dtype))
    );
    Ok(vec![holds])
}

/// Applies `f` to the bits of the integer inputs 0 and 1, which must be of one dtype.
///
/// # Errors
/// As [`arithmetic`]; a dtype that is not an integer.
pub(super) fn bitwise(
    ctx: &EvalContext<'_>,
    f: impl Fn(u64, u64) -> u64 + Sync,
) -> Result<Vec<Tensor>, OpError> {
    let dtype = ctx.require(0)?.dtype();
    if dtype.is_float() || dtype == DType::Bool {
        return Err(wrong_dtype(0, INTEGERS, dtype));
    }
    let bits = |idx| cast(&widened(ctx, idx, dtype)?, DType::UInt64);
    Ok(vec![cast(&zip_tensors(&bits(0)?, &bits(1)?, f)?, dtype)?])
}

/// An input of a dtype, in the type that it computes in.
///
/// # Errors
/// An absent input, another dtype, one that does not compute.
pub(super) fn widened(ctx: &EvalContext<'_>, idx: usize, dtype: DType) -> Result<Tensor, OpError> {
    let x = ctx.require(idx)?;
    if x.dtype() != dtype {
        return Err(wrong_dtype(idx, dtype, x.dtype()));
    }
    cast(x, computing_dtype(dtype)).map_err(|_| wrong_dtype(idx, NUMBERS, dtype))
}

fn of_input(idx: usize, error: OpError) -> OpError {
    match error {
        OpError::Input { what, .. } => OpError::input(idx, what),
        other => other,
    }
}

/// One output of the broadcast shape of all inputs.
///
/// # Errors
/// An absent input, known dimensions that do not broadcast.
pub(super) fn infer_broadcast(ctx: &InferContext<'_>, dtype: Option<DType>) -> Result<Vec<Fact>, OpError> {
    let mut shapes = Vec::new();
    for idx in 0..ctx.inputs.len().max(1) {
        shapes.push(ctx.require(idx)?.shape.as_deref());
    }
    let shape = shapes
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .map(|shapes| broadcast_dims(&shapes))
        .transpose()?;
    Ok(vec![Fact::new(dtype, shape)])
}

/// [`infer_broadcast`] with the dtype of the first input that has one, and the elements of shape computations: those
/// of the inputs folded by `f`.
///
/// # Errors
/// As [`infer_broadcast`].
pub(super) fn infer_arithmetic(
    ctx: &InferContext<'_>,
    f: impl Fn(&SymDim, &SymDim) -> Option<SymDim>,
) -> Result<Vec<Fact>, OpError> {
    let dtype = (0..ctx.inputs.len()).find_map(|idx| ctx.dtype(idx));
    let mut facts = infer_broadcast(ctx, dtype)?;
    facts[0].elements = fold_elements(ctx, f);
    Ok(facts)
}

fn fold_elements(
    ctx: &InferContext<'_>,
    f: impl Fn(&SymDim, &SymDim) -> Option<SymDim>,
) -> Option<Vec<SymDim>> {
    let mut folded = ctx.elements(0)?.to_vec();
    for idx in 1..ctx.inputs.len() {
        folded = zip_elements(&folded, ctx.elements(idx)?, &f)?;
    }
    Some(folded)
}

/// Applies `f` to broadcast lists of known elements; `None` when one result is unknown.
pub(super) fn zip_elements<T>(
    a: &[SymDim],
    b: &[SymDim],
    f: impl Fn(&SymDim, &SymDim) -> Option<T>,
) -> Option<Vec<T>> {
    let n = if a.len() == 1 { b.len() } else { a.len() };
    if b.len() != n && b.len() != 1 {
        return None;
    }
    let at = |list: &[SymDim], i: usize| list.get(if list.len() == 1 { 0 } else { i }).cloned();
    (0..n).map(|i| f(&at(a, i)?, &at(b, i)?)).collect()
}

#[cfg(test)]
mod tests {
    use half::f16;
    use qloupe_ir::Node;

    use super::*;
    use crate::Layout;

    fn context<'a>(node: &'a Node, inputs: &'a [Option<&'a Tensor>]) -> EvalContext<'a> {
        EvalContext {
            node,
            opset: 21,
            layout: Layout::Plain,
            inputs,
        }
    }

    #[test]
    fn errors_name_the_input_and_what_was_expected() {
        let node = Node::default();
        let (floats, integers) = (
            Tensor::vector(vec![1.0_f32, 2.0]),
            Tensor::vector(vec![1_i64, 2, 3]),
        );
        let more = Tensor::vector(vec![1.0_f32, 2.0, 3.0]);
        let add = |inputs: &[Option<&Tensor>]| {
            binary::<f32, f32>(&context(&node, inputs), |a, b| a + b).unwrap_err()
        };
        let cases = [
            (
                add(&[Some(&floats), Some(&integers)]),
                "input 1: wrong dtype, expected float32, got int64",
            ),
            (
                add(&[Some(&floats), Some(&more)]),
                "input 1: shape does not broadcast, expected one that fits [2], got [3]",
            ),
            (add(&[Some(&floats)]), "input 1 is absent, expected a value"),
            (
                float_map_wide(&context(&node, &[Some(&integers)]), f64::sin).unwrap_err(),
                "input 0: wrong dtype, expected float32, float64, float16 or bfloat16, got int64",
            ),
            (
                scalar::<i64>(&context(&node, &[Some(&integers)]), 0).unwrap_err(),
                "input 0: wrong shape, expected one element, got [3]",
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn half_types_compute_in_f32_and_round_once() {
        let node = Node::default();
        let x = Tensor::vector(vec![f16::from_f32(0.1)]);
        let y = float_map(&context(&node, &[Some(&x)]), |v| v * 3.0 + 1e-4, |v| v).unwrap();
        let expected = f16::from_f32(f16::from_f32(0.1).to_f32() * 3.0 + 1e-4);
        assert_eq!(y[0].as_slice::<f16>().unwrap(), [expected]);
    }

    #[test]
    fn large_inputs_give_the_same_as_small_ones() {
        let x: Vec<i32> = (0..200_000).collect();
        assert!(
            map(&x, |v| v * 2)
                .iter()
                .enumerate()
                .all(|(i, &v)| v as usize == 2 * i),
            "a piece is misplaced"
        );
    }

    #[test]
    fn elements_of_shape_computations_broadcast() {
        let list = |values: &[i64]| values.iter().map(|&v| SymDim::known(v)).collect::<Vec<_>>();
        let sum = |a: &[i64], b: &[i64]| zip_elements(&list(a), &list(b), |a, b| Some(a.plus(b)));
        assert_eq!(sum(&[1, 2], &[10]), Some(list(&[11, 12])));
        assert_eq!(sum(&[], &[10]), Some(list(&[])));
        assert_eq!(sum(&[1, 2], &[1, 2, 3]), None);
    }
}
