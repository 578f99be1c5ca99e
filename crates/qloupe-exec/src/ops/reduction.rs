//! Reductions over axes: which axes, the loop, and the shared parts of inference.
//!
//! # Numerics
//! Every output element is one in-order chain in document order. Floats accumulate in f64 and round once, integers
//! accumulate in 64 bits and wrap: the same bits on any machine and any number of threads.

use qloupe_tensor::{DType, Element, Tensor};

use super::cast::{cast, computing_dtype};
use super::elementwise::{NUMBERS, wrong_dtype};
use super::movement::View;
use super::number::{Castable, Exact, Number};
use super::parameters::{integers, open_dim, resolve_axes};
use super::rows::{Around, for_each_row};
use crate::{EvalContext, Fact, InferContext, OpError, SymDim};

/// Rows that are reduced side by side, so that their chains overlap in time.
const SIDE_BY_SIDE: usize = 8;

/// What a reduction computes; the accumulator is f64, i64 or u64.
pub(super) trait Reduction {
    /// The opset from which on the axes are an input.
    const AXES_INPUT_SINCE: i64 = 18;

    /// The accumulator of no elements.
    fn start<A: Number>() -> A {
        A::ZERO
    }

    /// The accumulator after one more element.
    fn step<A: Number>(acc: A, x: A) -> A;

    /// The result from the accumulator of `n` elements.
    fn finish<A: Number>(acc: A, _n: usize) -> A {
        acc
    }
}

/// Applies a function to an accumulator as f64.
pub(super) fn through_f64<A: Number>(acc: A, f: impl Fn(f64) -> f64) -> A {
    A::narrow(Exact::Float(f(f64::narrow(acc.widen()))))
}

/// Reduces input 0.
///
/// # Errors
/// An absent input, a dtype that is not numeric, an axis outside the rank.
pub(super) fn reduce<R: Reduction>(ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.require(0)?;
    let axes = Axes::of_call(ctx, R::AXES_INPUT_SINCE)?;
    let wide = widened(x)?;
    let reduced = match wide.dtype() {
        DType::Float32 => run::<R, f32, f64>(&wide, &axes)?,
        DType::Float64 => run::<R, f64, f64>(&wide, &axes)?,
        DType::Int64 if x.is_empty() => {
            let (min, max) = match x.dtype() {
                DType::Bool => (0, 1),
                dtype => dtype.integer_range().unwrap_or((i64::MIN, i64::MAX)),
            };
            let reduced = run::<R, i64, i64>(&wide, &axes)?.into_vec::<i64>()?;
            Tensor::new(
                &axes.output,
                reduced.into_iter().map(|v| v.clamp(min, max)).collect(),
            )?
        }
        DType::Int64 => run::<R, i64, i64>(&wide, &axes)?,
        _ => run::<R, u64, u64>(&wide, &axes)?,
    };
    Ok(vec![cast(&reduced, x.dtype())?])
}

/// A numeric tensor, or bools as numbers, in the type that it computes in.
///
/// # Errors
/// Strings and types that are only carried.
pub(super) fn widened(x: &Tensor) -> Result<Tensor, OpError> {
    let target = match x.dtype() {
        DType::Bool => DType::Int64,
        dtype => computing_dtype(dtype),
    };
    cast(x, target)
        .ok()
        .filter(|_| x.as_strings().is_none())
        .ok_or_else(|| wrong_dtype(0, NUMBERS, x.dtype()))
}

fn run<R: Reduction, T: Number, A: Number>(x: &Tensor, axes: &Axes) -> Result<Tensor, OpError> {
    let (x, around) = axes.rows_of(x)?;
    let acc = fold_axis(&x.into_vec::<T>()?, around, R::start, |acc: A, x: T| {
        R::step(acc, A::narrow(x.widen()))
    });
    let values = acc.into_iter().map(|acc| R::finish(acc, around.n)).collect();
    Ok(Tensor::new(&axes.output, values)?)
}

/// Folds `[outer, n, inner]` over `n`, each output element in order.
pub(super) fn fold_axis<T: Element, A: Element>(
    x: &[T],
    around: Around,
    start: impl Fn() -> A,
    step: impl Fn(A, T) -> A + Sync,
) -> Vec<A> {
    let Around { outer, n, inner } = around;
    let mut out = vec![start(); outer * inner];
    if inner == 1 {
        for_each_row(&mut out, SIDE_BY_SIDE, x.len(), &|block, acc| {
            let rows = &x[block * SIDE_BY_SIDE * n..];
            if let Ok(acc) = <&mut [A; SIDE_BY_SIDE]>::try_from(&mut *acc) {
                for i in 0..n {
                    for (row, acc) in acc.iter_mut().enumerate() {
                        *acc = step(*acc, rows[row * n + i]);
                    }
                }
            } else {
                for (row, acc) in acc.iter_mut().enumerate() {
                    *acc = rows[row * n..][..n].iter().fold(*acc, |acc, &x| step(acc, x));
                }
            }
        });
    } else {
        for_each_row(&mut out, inner, x.len(), &|o, acc| {
            for row in x[o * n * inner..][..n * inner].chunks_exact(inner) {
                for (acc, &x) in acc.iter_mut().zip(row) {
                    *acc = step(*acc, x);
                }
            }
        });
    }
    out
}

/// The axes of a reduction on a shape.
#[derive(Debug)]
pub(super) struct Axes {
    reduced: Vec<bool>,
    /// The shape of the result.
    pub(super) output: Vec<usize>,
}

impl Axes {
    /// The axes of a call. With `noop_with_empty_axes` there may be none: then each element is reduced alone.
    ///
    /// # Errors
    /// An axis outside the rank, or twice.
    pub(super) fn of_call(ctx: &EvalContext<'_>, input_since: i64) -> Result<Self, OpError> {
        let shape = ctx.require(0)?.shape();
        let given = if ctx.opset >= input_since {
            ctx.input(1).map(|axes| integers(axes, 1)).transpose()?
        } else {
            ctx.node.ints("axes").map(<[i64]>::to_vec)
        };
        let given = given.unwrap_or_default();
        let reduced = if given.is_empty() && ctx.int("noop_with_empty_axes", 0) != 0 {
            vec![false; shape.len()]
        } else {
            reduced_axes(&given, shape.len())?
        };
        let keepdims = ctx.int("keepdims", 1) != 0;
        let output = shape
            .iter()
            .zip(&reduced)
            .filter(|&(_, &reduced)| keepdims || !reduced)
            .map(|(&size, &reduced)| if reduced { 1 } else { size })
            .collect();
        Ok(Self { reduced, output })
    }

    /// The shape of the result with every reduced axis kept as a dimension of 1.
    pub(super) fn kept_shape(&self, shape: &[usize]) -> Vec<usize> {
        let dims = shape.iter().zip(&self.reduced);
        dims.map(|(&size, &reduced)| if reduced { 1 } else { size })
            .collect()
    }

    /// The tensor with the reduced axes next to each other, as `[outer, n, inner]`.
    ///
    /// # Errors
    /// Those of copying.
    pub(super) fn rows_of(&self, x: &Tensor) -> Result<(Tensor, Around), OpError> {
        let shape = x.shape();
        let of = |reduced: bool| (0..shape.len()).filter(move |&a| self.reduced[a] == reduced);
        let (Some(first), Some(last)) = (of(true).min(), of(true).max()) else {
            return Ok((x.clone(), Around::axes(shape, shape.len(), shape.len())));
        };
        if of(true).count() == last + 1 - first {
            return Ok((x.clone(), Around::axes(shape, first, last + 1)));
        }
        let permutation: Vec<usize> = of(false).chain(of(true)).collect();
        let permuted: Vec<usize> = permutation.iter().map(|&a| shape[a]).collect();
        let moved = View::transposed(shape, &permutation).copy(x, &permuted)?;
        let around = Around::axes(&permuted, of(false).count(), shape.len());
        Ok((moved, around))
    }
}

fn reduced_axes(given: &[i64], rank: usize) -> Result<Vec<bool>, OpError> {
    if given.is_empty() {
        return Ok(vec![true; rank]);
    }
    let mut reduced = vec![false; rank];
    for axis in resolve_axes(given, rank)? {
        reduced[axis] = true;
    }
    Ok(reduced)
}

/// The fact of a reduction.
///
/// # Errors
/// An axis outside the rank, or twice.
pub(super) fn infer_reduction(ctx: &InferContext<'_>, input_since: i64) -> Result<Vec<Fact>, OpError> {
    let x = ctx.require(0)?;
    let Some(shape) = &x.shape else {
        return Ok(vec![Fact::new(x.dtype, None)]);
    };
    let keepdims = ctx.node.int("keepdims") != Some(0);
    let given = if ctx.opset < input_since {
        Some(ctx.node.ints("axes").map_or_else(Vec::new, <[i64]>::to_vec))
    } else if ctx.input(1).is_none() {
        Some(Vec::new())
    } else {
        ctx.known_elements(1)
    };
    let Some(given) = given else {
        let dims = keepdims.then(|| (0..shape.len()).map(|a| open_dim(ctx, 0, a)).collect());
        return Ok(vec![Fact::new(x.dtype, dims)]);
    };
    if given.is_empty() && ctx.node.int("noop_with_empty_axes").unwrap_or(0) != 0 {
        return Ok(vec![Fact::new(x.dtype, Some(shape.clone()))]);
    }
    let reduced = reduced_axes(&given, shape.len())?;
    let mut fact = Fact::new(x.dtype, Some(reduced_dims(shape, &reduced, keepdims)));
    let is_shape_product = |op: &str| ctx.node.op_type == op && shape.len() == 1 && reduced == [true];
    if let Some(elements) = &x.elements {
        let (one, zero) = (SymDim::known(1), SymDim::known(0));
        if is_shape_product("ReduceProd") {
            fact.elements = Some(vec![elements.iter().fold(one, |p, e| p.times(e))]);
        } else if is_shape_product("ReduceSum") {
            fact.elements = Some(vec![elements.iter().fold(zero, |s, e| s.plus(e))]);
        }
    }
    Ok(vec![fact])
}

/// The dimensions after a reduction.
pub(super) fn reduced_dims(shape: &[SymDim], reduced: &[bool], keepdims: bool) -> Vec<SymDim> {
    let kept = shape.iter().zip(reduced).filter(|&(_, &r)| keepdims || !r);
    kept.map(|(dim, &r)| if r { SymDim::known(1) } else { dim.clone() })
        .collect()
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;
    use crate::Layout;

    struct Total;

    impl Reduction for Total {
        fn step<A: Number>(acc: A, x: A) -> A {
            acc.plus(x)
        }
    }

    fn total(x: &Tensor, axes: &[i64]) -> Result<Tensor, OpError> {
        let node = Node::default()
            .with_attribute("axes", AttributeValue::Ints(axes.to_vec()))
            .with_attribute("keepdims", AttributeValue::Int(0));
        let ctx = EvalContext {
            node: &node,
            opset: 13,
            layout: Layout::Plain,
            inputs: &[Some(x)],
        };
        Ok(reduce::<Total>(&ctx)?.remove(0))
    }

    #[test]
    fn any_axes() {
        let x = Tensor::new(&[2, 3, 2], (0..12_i32).collect()).unwrap();
        let cases: [(&[i64], Tensor); 5] = [
            (&[-1], Tensor::new(&[2, 3], vec![1, 5, 9, 13, 17, 21]).unwrap()),
            (&[1], Tensor::new(&[2, 2], vec![6, 9, 24, 27]).unwrap()),
            (&[0, 2], Tensor::vector(vec![14, 22, 30])),
            (&[0, 1], Tensor::vector(vec![30, 36])),
            (&[], Tensor::scalar(66)),
        ];
        for (axes, expected) in cases {
            assert_eq!(total(&x, axes).unwrap(), expected, "axes {axes:?}");
        }
        let error = total(&x, &[3]).unwrap_err().to_string();
        assert!(error.contains("expected [-3, 3), got 3"), "{error}");
        let text = Tensor::from_strings(&[1], vec!["1".into()]).unwrap();
        assert_eq!(
            total(&text, &[0]).unwrap_err().to_string(),
            "input 0: wrong dtype, expected a numeric type, got string"
        );
    }

    #[test]
    fn without_axes_each_element_is_reduced_alone() {
        let node = Node::default().with_attribute("noop_with_empty_axes", AttributeValue::Int(1));
        let x = Tensor::vector(vec![-1.0_f32, 2.0]);
        for (op_type, expected) in [
            ("ReduceSum", [-1.0_f32, 2.0]),
            ("ReduceL1", [1.0, 2.0]),
            ("ReduceSumSquare", [1.0, 4.0]),
            ("ReduceLogSumExp", [-1.0, 2.0]),
        ] {
            let operator = super::super::find(op_type, "").expect("invariant: in the list");
            let ctx = EvalContext {
                node: &node,
                opset: 18,
                layout: Layout::Plain,
                inputs: &[Some(&x)],
            };
            assert_eq!(
                operator.eval(&ctx).unwrap(),
                [Tensor::vector(expected.to_vec())],
                "{op_type}"
            );
        }
    }

    #[test]
    fn rows_side_by_side_and_threads_keep_the_order() {
        let (rows, n) = (103, 1001);
        let x: Vec<f32> = (0..rows * n)
            .map(|i| ((i * 7919) % 1013) as f32 * 0.1 - 50.0)
            .collect();
        let expected: Vec<f32> = x
            .chunks(n)
            .map(|row| row.iter().fold(0.0_f64, |sum, &v| sum + f64::from(v)) as f32)
            .collect();
        let got = total(&Tensor::new(&[rows, n], x).unwrap(), &[1]).unwrap();
        assert_eq!(got, Tensor::vector(expected));
    }
}
