//! MaxPool: the largest element under a window, and where it is.

use qloupe_kernels::{max_pool, max_pool_quantized};
use qloupe_tensor::{DType, Element, Tensor};

use super::pooling::{Pool, Taps, infer_pool};
use super::pooling_gradient::{chosen, picked};
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback, PullbackContext,
};

/// The largest element under the window; NaN wins, padding takes no part. The second output is its flat position in
/// the input, in ONNX order (with `storage_order` 1 the spatial part in column-major order).
#[derive(Debug)]
pub(super) struct MaxPool;

/// The first largest of some values; a NaN is larger than everything.
fn position_of_maximum<T: PartialOrd + Copy>(values: &[T]) -> Option<usize> {
    let is_nan = |v: T| v.partial_cmp(&v).is_none();
    let mut best: Option<usize> = None;
    for (idx, &value) in values.iter().enumerate() {
        let replaces = best.is_none_or(|b| value > values[b] || (is_nan(value) && !is_nan(values[b])));
        if replaces {
            best = Some(idx);
        }
    }
    best
}

fn values_and_indices<T: Element + PartialOrd>(
    pool: &Pool,
    x: &[T],
    lowest: T,
    column_major: bool,
) -> Result<Vec<Tensor>, OpError> {
    let plane_size: usize = pool.input.iter().product();
    let position = |taps: &Taps, idx: usize| {
        let pixel = taps.pixels[idx];
        let ordered = if column_major {
            transposed(pixel, &pool.input)
        } else {
            pixel
        };
        (taps.plane * plane_size + ordered) as i64
    };
    let found = pool.reduce(x, |values, taps| match position_of_maximum(values) {
        Some(idx) => (values[idx], position(taps, idx)),
        None => (lowest, -1),
    });
    let (values, indices) = found.into_iter().unzip();
    let shape = pool.output_shape();
    Ok(vec![
        Tensor::new::<T>(&shape, values)?,
        Tensor::new::<i64>(&shape, indices)?,
    ])
}

/// A row-major position as a column-major one.
fn transposed(mut pixel: usize, shape: &[usize]) -> usize {
    let mut column_major = 0;
    let mut weight: usize = shape.iter().product();
    for &size in shape.iter().rev() {
        weight /= size;
        column_major += pixel % size * weight;
        pixel /= size;
    }
    column_major
}

impl Operator for MaxPool {
    fn op_type(&self) -> &'static str {
        "MaxPool"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Nhwc
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let values = infer_pool(ctx)?;
        let indices = Fact::new(Some(DType::Int64), values.shape.clone());
        Ok(vec![values, indices])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let pool = Pool::new(ctx, x)?;
        let column_major = ctx.int("storage_order", 0) == 1;
        if let Some(geometry) = pool.nhwc_geometry().filter(|_| ctx.node.output(1).is_none()) {
            let shape = pool.output_shape();
            macro_rules! fast {
                ($(($ty:ty, $kernel:path)),*) => {
                    $(if let Some(values) = x.as_slice::<$ty>() {
                        let mut y = vec![<$ty>::default(); geometry.n_outputs()];
                        $kernel(values, &geometry, &mut y);
                        return Ok(vec![Tensor::new(&shape, y)?]);
                    })*
                };
            }
            fast!(
                (f32, max_pool),
                (u8, max_pool_quantized),
                (i8, max_pool_quantized)
            );
        }
        macro_rules! by_type {
            ($(($ty:ty, $lowest:expr)),*) => {
                $(if let Some(values) = x.as_slice::<$ty>() {
                    return values_and_indices(&pool, values, $lowest, column_major);
                })*
            };
        }
        by_type!(
            (f32, f32::NEG_INFINITY),
            (f64, f64::NEG_INFINITY),
            (half::f16, half::f16::NEG_INFINITY),
            (half::bf16, half::bf16::NEG_INFINITY),
            (u8, 0),
            (i8, i8::MIN)
        );
        Err(OpError::input(
            0,
            format!("wrong dtype, expected a float, uint8 or int8, got {}", x.dtype()),
        ))
    }
}

impl Differentiable for MaxPool {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let x = ctx.call.require(0)?;
        let pool = Pool::new(&ctx.call, x)?;
        let positions = chosen(&pool, x, ctx.call.layout, position_of_maximum)?;
        Ok(picked(x.shape(), positions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_largest_wins_and_nan_before_all() {
        assert_eq!(position_of_maximum(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(position_of_maximum(&[1.0, f32::NAN, 3.0]), Some(1));
        assert_eq!(position_of_maximum::<u8>(&[]), None);
    }

    #[test]
    fn column_major_positions() {
        // Row 1, column 0 of two rows and three columns.
        assert_eq!(transposed(3, &[2, 3]), 1);
        assert_eq!(transposed(2, &[2, 3]), 4);
    }
}
