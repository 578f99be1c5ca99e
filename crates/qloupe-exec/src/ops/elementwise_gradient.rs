//! Pullbacks of element-wise operators: the gradient multiplied by a slope, and summed over what was broadcast.

use std::cmp::Ordering;

use rayon::prelude::*;

use qloupe_kernels::{UnaryKernel, unary_in_place};
use qloupe_tensor::Tensor;

use super::broadcast::Broadcast;
use super::elementwise::{map, zip};
use super::expand::expanded;
use super::reduction::fold_axis;
use super::rows::Around;
use crate::{OpError, Pullback, PullbackContext};

/// From how many elements on the work is shared among threads.
const PARALLEL: usize = 32_768;
/// Elements of one task.
const BLOCK: usize = 16_384;

/// `f(value, other)` for each pair of elements, in place.
pub(super) fn update(values: &mut [f32], others: &[f32], f: impl Fn(&mut f32, f32) + Copy + Sync) {
    if values.len() < PARALLEL {
        update_piece(values, others, f);
    } else {
        values
            .par_chunks_mut(BLOCK)
            .zip(others.par_chunks(BLOCK))
            .for_each(|(values, others)| update_piece(values, others, f));
    }
}

/// A function of its own, so that what `f` holds stays in registers.
#[inline(never)]
fn update_piece(values: &mut [f32], others: &[f32], f: impl Fn(&mut f32, f32)) {
    for (value, &other) in values.iter_mut().zip(others) {
        f(value, other);
    }
}

/// The sum of two gradients of one shape.
///
/// # Errors
/// Another type than float32.
pub(crate) fn sum_of_gradients(a: Tensor, b: &Tensor) -> Result<Tensor, OpError> {
    let shape = a.shape().to_vec();
    let mut sum = a.into_vec::<f32>()?;
    update(&mut sum, b.require()?, |sum, b| *sum += b);
    Ok(Tensor::new(&shape, sum)?)
}

/// 1 or 0, without a branch: a slope that jumps.
pub(super) fn indicator(condition: bool) -> f32 {
    f32::from(u8::from(condition))
}

/// The gradient times the slope `f(x)` of an operator of one input, for a slope that is quick to compute.
///
/// # Errors
/// An input that is not floating-point.
pub(super) fn by_input<'a>(
    ctx: &PullbackContext<'a>,
    f: impl Fn(f32) -> f32 + Copy + Send + Sync + 'a,
) -> Result<Pullback<'a>, OpError> {
    Ok(by_values(ctx.call.require(0)?.to_f32()?, f))
}

/// The gradient times the slope `f(y)`, for a slope that follows from the output.
///
/// # Errors
/// An output that is not floating-point.
pub(super) fn by_output<'a>(
    ctx: &PullbackContext<'a>,
    f: impl Fn(f32) -> f32 + Copy + Send + Sync + 'a,
) -> Result<Pullback<'a>, OpError> {
    Ok(by_values(ctx.output(0)?.to_f32()?, f))
}

fn by_values<'a>(values: Tensor, f: impl Fn(f32) -> f32 + Copy + Send + Sync + 'a) -> Pullback<'a> {
    Pullback::of_first(move |gradient| {
        let shape = gradient.shape().to_vec();
        let mut gradient = gradient.into_vec::<f32>()?;
        update(&mut gradient, values.require()?, move |g, v| *g *= f(v));
        Ok(Tensor::new(&shape, gradient)?)
    })
}

/// The gradient times slopes that are computed once: `f` makes them of the input.
///
/// # Errors
/// An input that is not floating-point.
pub(super) fn by_slopes<'a>(
    ctx: &PullbackContext<'a>,
    f: impl FnOnce(&[f32]) -> Vec<f32>,
) -> Result<Pullback<'a>, OpError> {
    let x = ctx.call.require(0)?.to_f32()?;
    let slopes = Tensor::new(x.shape(), f(x.require()?))?;
    Ok(by_values(slopes, |slope| slope))
}

/// `kernel(f(x))` for each element.
pub(super) fn kernel_of(kernel: UnaryKernel, x: &[f32], f: impl Fn(f32) -> f32) -> Vec<f32> {
    let mut values: Vec<f32> = x.iter().map(|&x| f(x)).collect();
    unary_in_place(kernel, &mut values);
    values
}

/// What the gradient of a broadcast output is multiplied by on its way to an input.
#[derive(Debug)]
pub(super) enum Factor {
    /// The same number everywhere.
    Number(f32),
    /// A tensor that broadcasts to the output.
    Tensor(Tensor),
}

impl Factor {
    /// The gradient times the factor.
    ///
    /// # Errors
    /// Shapes that do not broadcast.
    pub(super) fn times(&self, gradient: &Tensor) -> Result<Tensor, OpError> {
        let shape = gradient.shape();
        let values = gradient.require::<f32>()?;
        match self {
            Self::Number(number) if number.to_bits() == 1.0_f32.to_bits() => Ok(gradient.clone()),
            Self::Number(number) => Ok(Tensor::new(shape, map(values, |g: f32| g * number))?),
            Self::Tensor(factor) => {
                let plan = Broadcast::new([shape, factor.shape()])?;
                let products = zip(&plan, values, factor.require::<f32>()?, |g: f32, f: f32| g * f);
                Ok(Tensor::new(plan.shape(), products)?)
            }
        }
    }

    /// [`Factor::times`] in place, where that is possible.
    pub(super) fn times_in_place(&self, gradient: Tensor) -> Result<Tensor, OpError> {
        let number = match self {
            Self::Number(number) => Some(*number),
            Self::Tensor(factor) => match factor.require::<f32>()? {
                &[number] if factor.rank() <= gradient.rank() => Some(number),
                _ => None,
            },
        };
        let shape = gradient.shape().to_vec();
        match (number, self) {
            (Some(number), _) if number.to_bits() == 1.0_f32.to_bits() => Ok(gradient),
            (Some(number), _) => {
                let mut values = gradient.into_vec::<f32>()?;
                update_rows(&mut values, &[number]);
                Ok(Tensor::new(&shape, values)?)
            }
            (None, Self::Tensor(factor)) if factor.shape() == shape => {
                let mut values = gradient.into_vec::<f32>()?;
                update(&mut values, factor.require()?, |g, f| *g *= f);
                Ok(Tensor::new(&shape, values)?)
            }
            (None, Self::Tensor(factor))
                if factor.rank() <= shape.len() && shape.last() == Some(&factor.len()) && is_row(factor) =>
            {
                let mut values = gradient.into_vec::<f32>()?;
                update_rows(&mut values, factor.require()?);
                Ok(Tensor::new(&shape, values)?)
            }
            _ => self.times(&gradient),
        }
    }
}

/// True for a tensor that has elements along its last axis only.
fn is_row(x: &Tensor) -> bool {
    x.shape().last() == Some(&x.len())
}

/// Each row of `factors.len()` elements times the factors, in place.
fn update_rows(values: &mut [f32], factors: &[f32]) {
    let n = factors.len().max(1);
    let each = |values: &mut [f32]| {
        if let &[factor] = factors {
            values.iter_mut().for_each(|v| *v *= factor);
            return;
        }
        for row in values.chunks_mut(n) {
            for (v, factor) in row.iter_mut().zip(factors) {
                *v *= factor;
            }
        }
    };
    if values.len() < PARALLEL {
        each(values);
    } else {
        values.par_chunks_mut(BLOCK.div_ceil(n) * n).for_each(each);
    }
}

/// The pullback of an operator whose inputs broadcast to its output: a factor for each input that takes part.
///
/// # Errors
/// An absent input.
pub(super) fn broadcast_pullback<'a>(
    ctx: &PullbackContext<'a>,
    factors: Vec<Option<Factor>>,
) -> Result<Pullback<'a>, OpError> {
    let mut parts = Vec::with_capacity(factors.len());
    for (idx, factor) in factors.into_iter().enumerate() {
        let shape = ctx.call.input(idx).map(|x| x.shape().to_vec());
        parts.push(factor.filter(|_| ctx.wants(idx)).zip(shape));
    }
    Ok(Pullback::new(move |mut gradients| {
        let Some(gradient) = gradients.first_mut().and_then(Option::take) else {
            return Ok(Vec::new());
        };
        let mut results = vec![None; parts.len()];
        let last = parts.iter().rposition(Option::is_some);
        for (idx, part) in parts.iter().enumerate() {
            if let Some((factor, shape)) = part.as_ref().filter(|_| Some(idx) != last) {
                results[idx] = Some(sum_to(factor.times(&gradient)?, shape)?);
            }
        }
        if let Some((idx, (factor, shape))) = last.zip(last.and_then(|idx| parts[idx].as_ref())) {
            results[idx] = Some(sum_to(factor.times_in_place(gradient)?, shape)?);
        }
        Ok(results)
    }))
}

/// The pullback of Min and Max: the gradient goes to the first input that equals the output.
///
/// # Errors
/// An absent input.
pub(super) fn extremum_pullback<'a>(ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
    let y = ctx.output(0)?.to_f32()?;
    let results = y.require::<f32>()?;
    let mut taken = vec![false; y.len()];
    let mut factors = Vec::with_capacity(ctx.call.inputs.len());
    for idx in 0..ctx.call.inputs.len() {
        let x = expanded(&ctx.call.require(idx)?.to_f32()?, y.shape())?;
        let each = x.require::<f32>()?.iter().zip(results).zip(&mut taken);
        let takes = each.map(|((x, y), taken)| {
            let first = !*taken && x.partial_cmp(y).is_some_and(Ordering::is_eq);
            *taken |= first;
            f32::from(u8::from(first))
        });
        factors.push(Some(Factor::Tensor(Tensor::new(y.shape(), takes.collect())?)));
    }
    broadcast_pullback(ctx, factors)
}

/// A gradient summed over the axes along which a value of `shape` was repeated.
///
/// # Errors
/// A gradient that is not one of a broadcast of the shape.
pub(super) fn sum_to(gradient: Tensor, shape: &[usize]) -> Result<Tensor, OpError> {
    let rank = gradient.rank();
    let missing = rank.saturating_sub(shape.len());
    let kept = |axis: usize, size: usize| axis >= missing && shape[axis - missing] == size;
    let mut sums = gradient;
    let mut end = rank;
    while end > 0 {
        let dims = sums.shape().to_vec();
        if kept(end - 1, dims[end - 1]) {
            end -= 1;
            continue;
        }
        let mut start = end - 1;
        while start > 0 && !kept(start - 1, dims[start - 1]) {
            start -= 1;
        }
        let around = Around::axes(&dims, start, end);
        let total = fold_axis(
            sums.require::<f32>()?,
            around,
            || 0.0,
            |sum: f64, v: f32| sum + f64::from(v),
        );
        let mut left = dims;
        left[start..end].fill(1);
        sums = Tensor::new(&left, total.into_iter().map(|sum| sum as f32).collect())?;
        end = start;
    }
    Ok(sums.reshape(shape)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_go_over_what_was_repeated() {
        let gradient = Tensor::new(&[2, 3, 2], (0..12_u8).map(f32::from).collect()).unwrap();
        let cases: [(&[usize], &[f32]); 5] = [
            (&[2, 3, 2], &[0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11.]),
            (&[3, 1], &[14.0, 22.0, 30.0]),
            (&[2, 1, 2], &[6.0, 9.0, 24.0, 27.0]),
            (&[1, 3, 2], &[6., 8., 10., 12., 14., 16.]),
            (&[], &[66.0]),
        ];
        for (shape, expected) in cases {
            let sum = sum_to(gradient.clone(), shape).unwrap();
            assert_eq!(
                (sum.shape(), sum.as_slice::<f32>().unwrap()),
                (shape, expected),
                "{shape:?}"
            );
        }
    }
}
