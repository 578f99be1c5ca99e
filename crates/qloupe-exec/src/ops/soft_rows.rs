//! Rows of Softmax, LogSoftmax and Hardmax: which elements make a row, in old and new opsets.

use qloupe_tensor::{DType, Tensor};

use super::cast::{cast, computing_dtype};
use super::elementwise::{FLOATS, wrong_dtype};
use super::rows::{Around, for_each_row};
use crate::operator::resolve_axis;
use crate::{EvalContext, OpError, Pullback};

/// Applies `narrow(x, row length, out)` to contiguous rows of f32, or `wide` to each row of f64 in place.
///
/// # Errors
/// A dtype that is not floating-point, an axis outside the rank.
pub(super) fn soft_rows(
    ctx: &EvalContext<'_>,
    narrow: impl Fn(&[f32], usize, &mut [f32]),
    wide: impl Fn(&mut [f64]),
) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.require(0)?;
    let (dtype, shape) = (x.dtype(), x.shape());
    if !dtype.is_float() {
        return Err(wrong_dtype(0, FLOATS, dtype));
    }
    let around = rows_of(ctx, shape)?;
    let y = over_rows(&cast(x, computing_dtype(dtype))?, around, narrow, wide)?;
    Ok(vec![cast(&y, dtype)?])
}

/// [`soft_rows`] of a tensor of type float32 or float64.
///
/// # Errors
/// Another dtype.
pub(super) fn over_rows(
    x: &Tensor,
    around: Around,
    narrow: impl Fn(&[f32], usize, &mut [f32]),
    wide: impl Fn(&mut [f64]),
) -> Result<Tensor, OpError> {
    let shape = x.shape();
    if x.is_empty() {
        return Ok(x.clone());
    }
    if x.dtype() == DType::Float64 {
        let mut rows = around.gather(x.require::<f64>()?);
        rows.chunks_mut(around.n).for_each(wide);
        return Ok(Tensor::new(shape, around.scatter(&rows))?);
    }
    let x = x.require::<f32>()?;
    let mut out = vec![0.0; x.len()];
    if around.inner == 1 {
        narrow(x, around.n, &mut out);
        Ok(Tensor::new(shape, out)?)
    } else {
        narrow(&around.gather(x), around.n, &mut out);
        Ok(Tensor::new(shape, around.scatter(&out))?)
    }
}

/// The pullback of rows: each gradient becomes `result(gradient, y, sum of term(gradient, y) over the row)`.
pub(super) fn over_gradient_rows<'a>(
    around: Around,
    y: Vec<f32>,
    term: impl Fn(f32, f32) -> f32 + Send + Sync + 'a,
    result: impl Fn(f32, f32, f32) -> f32 + Send + Sync + 'a,
) -> Pullback<'a> {
    let Around { n, inner, .. } = around;
    Pullback::of_first(move |gradient| {
        let shape = gradient.shape().to_vec();
        let mut values = gradient.into_vec::<f32>()?;
        let work = values.len();
        for_each_row(&mut values, n * inner, work, &|row, values| {
            let y = &y[row * n * inner..][..values.len()];
            let mut sums = vec![0.0_f64; inner];
            for (values, y) in values.chunks(inner.max(1)).zip(y.chunks(inner.max(1))) {
                for ((sum, &g), &y) in sums.iter_mut().zip(values).zip(y) {
                    *sum += f64::from(term(g, y));
                }
            }
            for (values, y) in values.chunks_mut(inner.max(1)).zip(y.chunks(inner.max(1))) {
                for ((&sum, g), &y) in sums.iter().zip(values).zip(y) {
                    *g = result(*g, y, sum as f32);
                }
            }
        });
        Ok(Tensor::new(&shape, values)?)
    })
}

/// Which elements make a row.
///
/// # Errors
/// An axis outside the rank.
pub(super) fn rows_of(ctx: &EvalContext<'_>, shape: &[usize]) -> Result<Around, OpError> {
    if shape.is_empty() {
        return Ok(Around {
            outer: 1,
            n: 1,
            inner: 1,
        });
    }
    if ctx.opset < 13 {
        let axis = ctx.int("axis", 1);
        let start = if usize::try_from(axis) == Ok(shape.len()) {
            shape.len()
        } else {
            resolve_axis(axis, shape.len())?
        };
        return Ok(Around::axes(shape, start, shape.len()));
    }
    let axis = resolve_axis(ctx.int("axis", -1), shape.len())?;
    Ok(Around::axes(shape, axis, axis + 1))
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;
    use crate::Layout;

    #[test]
    fn rows_flatten_below_opset_13() {
        let x = Tensor::new(&[1, 2, 2], vec![0.0_f32; 4]).unwrap();
        let softmax = |opset, axis: Option<i64>| {
            let mut node = Node::new("Softmax", "", &["x"], &["y"]);
            if let Some(axis) = axis {
                node = node.with_attribute("axis", AttributeValue::Int(axis));
            }
            let ctx = EvalContext {
                node: &node,
                opset,
                layout: Layout::Plain,
                inputs: &[Some(&x)],
            };
            let softmax = super::super::find("Softmax", "").expect("invariant: in the list");
            softmax.eval(&ctx)
        };
        for (opset, axis, share) in [
            (11, None, 0.25_f32),
            (13, None, 0.5),
            (11, Some(2), 0.5),
            (13, Some(0), 1.0),
        ] {
            let y = softmax(opset, axis).unwrap();
            assert_eq!(
                y[0],
                Tensor::new(&[1, 2, 2], vec![share; 4]).unwrap(),
                "opset {opset}, axis {axis:?}"
            );
        }
        assert_eq!(
            softmax(13, Some(3)).unwrap_err().to_string(),
            "attribute \"axis\": outside the rank, expected [-3, 3), got 3"
        );
    }
}
