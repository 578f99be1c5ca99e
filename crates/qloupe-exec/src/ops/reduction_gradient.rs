//! Pullbacks of reductions: gradients spread over the elements that were reduced.

use std::cmp::Ordering;

use qloupe_tensor::Tensor;

use super::elementwise_gradient::{Factor, update};
use super::expand::expanded;
use super::reduction::Axes;
use crate::{OpError, Pullback, PullbackContext};

/// A reduction at the inputs of a call.
pub(super) struct Reduced {
    axes: Axes,
    x: Tensor,
}

impl Reduced {
    /// # Errors
    /// An axis outside the rank, an input that is not floating-point.
    pub(super) fn new(ctx: &PullbackContext<'_>, axes_input_since: i64) -> Result<Self, OpError> {
        Ok(Self {
            axes: Axes::of_call(&ctx.call, axes_input_since)?,
            x: ctx.call.require(0)?.to_f32()?,
        })
    }

    /// The number of elements that became one.
    pub(super) fn n(&self) -> usize {
        self.x.len() / self.axes.output.iter().product::<usize>().max(1)
    }

    /// A tensor of the shape of the result, repeated over the elements that were reduced.
    ///
    /// # Errors
    /// Another shape.
    fn spread(&self, y: &Tensor) -> Result<Tensor, OpError> {
        let kept = y.clone().reshape(&self.axes.kept_shape(self.x.shape()))?;
        expanded(&kept, self.x.shape())
    }

    /// The gradient of the result times a number.
    pub(super) fn times<'a>(self, number: f32) -> Pullback<'a> {
        Pullback::of_first(move |gradient| Factor::Number(number).times(&self.spread(&gradient)?))
    }

    /// The gradient of the result times `slope(x, y)` of each element `x` and its result `y`.
    ///
    /// # Errors
    /// A result of another shape.
    pub(super) fn by<'a>(
        self,
        y: &Tensor,
        slope: impl Fn(f32, f32) -> f32 + Copy + Sync,
    ) -> Result<Pullback<'a>, OpError> {
        let results = self.spread(&y.to_f32()?)?;
        let mut slopes = results.into_vec::<f32>()?;
        update(&mut slopes, self.x.require()?, move |y, x| *y = slope(x, *y));
        let slopes = Factor::Tensor(Tensor::new(self.x.shape(), slopes)?);
        Ok(Pullback::of_first(move |gradient| {
            slopes.times(&self.spread(&gradient)?)
        }))
    }

    /// The gradient of the result for the first element that equals it.
    ///
    /// # Errors
    /// A result of another shape.
    pub(super) fn first_equal<'a>(self, y: &Tensor) -> Result<Pullback<'a>, OpError> {
        let spread = self.spread(&y.to_f32()?)?;
        let (x, results) = (self.x.require::<f32>()?, spread.require::<f32>()?);
        let places: Vec<u64> = (0..y.len() as u64).collect();
        let places = self.spread(&Tensor::new(y.shape(), places)?)?;
        let mut taken = vec![false; y.len()];
        let pick = |((x, y), place): ((&f32, &f32), &u64)| {
            let taken = &mut taken[*place as usize];
            let first = !*taken && x.partial_cmp(y).is_some_and(Ordering::is_eq);
            *taken |= first;
            f32::from(u8::from(first))
        };
        let slopes = x
            .iter()
            .zip(results)
            .zip(places.require::<u64>()?)
            .map(pick)
            .collect();
        let slopes = Factor::Tensor(Tensor::new(self.x.shape(), slopes)?);
        Ok(Pullback::of_first(move |gradient| {
            slopes.times(&self.spread(&gradient)?)
        }))
    }
}
