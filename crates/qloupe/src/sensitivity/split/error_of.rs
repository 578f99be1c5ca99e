//! The error between two values, and the parts of it that rounding and clipping make.

use qloupe_exec::{Form, Stored};
use qloupe_tensor::Tensor;

use crate::metrics::Representable;
use crate::sensitivity::pairwise::sum_of_pairs;

/// Which elements of a quantized value are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Those that the range holds.
    Rounding,
    /// Those that it does not.
    Clipping,
}

/// The energy of the difference. A pair of which the reference is not finite is left out; a test that is not finite is an
/// error as large as the reference.
pub(super) fn error_energy(reference: &Stored, test: &Stored) -> f64 {
    let test = test.in_layout(reference.layout());
    let pair = reference.physical().as_slice::<f32>().zip(test.as_slice::<f32>());
    let Some((reference, test)) = pair.filter(|(a, b)| a.len() == b.len()) else {
        return 0.0;
    };
    sum_of_pairs(reference, test, |r, t| {
        let error = if t.is_finite() { r - t } else { r };
        if r.is_finite() { error * error } else { 0.0 }
    })
}

/// A value with only the rounded, or only the clipped, elements of its quantized form; how many elements are clipped, and
/// how many there are.
pub(super) fn part_of_rounding(value: &Stored, once: &Stored, form: &Form, part: Part) -> (Stored, u64, u64) {
    let once_values = once.in_layout(value.layout());
    let pair = value
        .physical()
        .as_slice::<f32>()
        .zip(once_values.as_slice::<f32>());
    let range = form.params().and_then(Representable::of_params);
    let (Some((values, once_values)), Some(range)) = (pair, range) else {
        return (value.clone(), 0, 0);
    };
    let mut n_clipped = 0;
    let mut kept = Vec::with_capacity(values.len());
    for (&v, &q) in values.iter().zip(once_values) {
        let is_clipped = is_outside(v, &range);
        n_clipped += u64::from(is_clipped);
        let is_taken = is_clipped == (part == Part::Clipping);
        kept.push(if is_taken { q } else { v });
    }
    let n = values.len() as u64;
    let tensor = Tensor::new(value.physical().shape(), kept).expect("invariant: as many numbers");
    (Stored::of_call(tensor, value.layout()), n_clipped, n)
}

/// True beyond half a step outside of what can be held.
pub(super) fn is_outside(v: f32, range: &Representable) -> bool {
    let v = f64::from(v);
    v < range.min - range.step / 2.0 || v > range.max + range.step / 2.0
}
