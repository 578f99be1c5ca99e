//! Comparing what views make of a value with the golden one, in whichever form it is stored.

use std::sync::Arc;

use qloupe_exec::{Form, Stored, to_real};
use qloupe_kernels::{Numbers, QuantizedSlice};
use qloupe_tensor::Tensor;

use super::Few;
use super::golden::float32;
use crate::metrics::{Comparison, Moments, Representable};
use crate::samples::Batch;
use crate::value_map::ValueMap;

/// What is known of a value after its views were compared with the golden one.
#[derive(Debug)]
pub(super) enum Found {
    /// It was measured.
    Measured(Measured),
    /// All of its elements are those of the value of another row, given by its place, in another order or shape.
    Permuted(usize),
}

/// What views make of a value, measured beside the golden one.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// For each view, which of the distinct tests it is.
    tests: [Option<usize>; 3],
    /// For each sample of the batch, the moments of each distinct test.
    samples: Arc<Vec<Vec<Moments>>>,
}

impl Measured {
    /// The measurement of a value that a unit makes of this one by permuting its elements. Run on golden inputs in their forms,
    /// such a unit gives golden outputs in theirs: its local view is the tensor view.
    pub(super) fn permuted(&self, local: bool) -> Self {
        let [entire, _, tensor] = self.tests;
        Self {
            tests: [entire, tensor.filter(|_| local), tensor],
            samples: Arc::clone(&self.samples),
        }
    }

    /// Adds the samples to the comparisons of the views.
    pub(super) fn add_to(&self, batch: &Batch, comparisons: [&mut Comparison; 3]) {
        let views = comparisons.into_iter().zip(self.tests);
        for (comparison, test) in views.filter_map(|(comparison, test)| Some((comparison, test?))) {
            for (offset, sample) in self.samples.iter().enumerate() {
                comparison.add_at(batch.first + offset, &sample[test]);
            }
        }
    }
}

/// Compares a golden value with what views make of it, in its form and in whichever order that is stored; values of other
/// dtypes are no rows. With a map the views are brought into the units of the golden value first.
pub(super) fn compare(
    batch: &Batch,
    golden: &Stored,
    views: [Option<&Stored>; 3],
    form: &Form,
    map: Option<&ValueMap>,
) -> Option<Measured> {
    let first = views.into_iter().flatten().next()?;
    let reference = golden.in_layout(first.layout());
    let values = reference.as_slice::<f32>()?;
    let is_same = |a: &Stored, b: &Stored| {
        a.layout() == b.layout() && a.dtype() == b.dtype() && a.physical().shares_elements(b.physical())
    };
    // Views that share a value share its measurement.
    let mut distinct: Few<&Stored> = Few::new();
    let tests = views.map(|test| {
        let test = test?;
        let known = distinct.iter().position(|other| is_same(other, test));
        if known.is_none() {
            distinct.push(test);
        }
        Some(known.unwrap_or(distinct.len() - 1))
    });
    let is_direct =
        |test: &&Stored| map.is_none() && test.layout() == first.layout() && tested(test, form).is_some();
    let made_real = |test: &Stored| {
        let real = float32(to_real(test, form));
        let original = map.map(|map| map.to_original(&real));
        original
            .as_ref()
            .unwrap_or(&real)
            .in_layout(first.layout())
            .clone()
    };
    let real: Few<Option<Tensor>> = distinct
        .iter()
        .map(|test| (!is_direct(test)).then(|| made_real(test)))
        .collect();
    let mut tested_views: Few<Numbers<'_>> = Few::new();
    for (test, real) in distinct.iter().zip(&real) {
        let in_form = match real {
            Some(real) => real.as_slice::<f32>().map(Numbers::Real),
            None => tested(test, form),
        };
        match in_form.filter(|test| test.len() == values.len()) {
            Some(test) => tested_views.push(test),
            None => return None,
        }
    }
    let range = form.params().and_then(Representable::of_params);
    let own_range = range.filter(|_| map.is_none());
    let mut measured = measure_parts(batch, reference.shape(), (values, &tested_views), own_range);
    if let (Some(map), Some(range)) = (map, range) {
        // What can be held differs from channel to channel: it is counted where it does not.
        let rewritten = map.to_rewritten(golden);
        let rewritten = rewritten.in_layout(first.layout());
        let values = rewritten.as_slice::<f32>().unwrap_or_default();
        let tests = [Numbers::Real(values)];
        let counted = measure_parts(batch, reference.shape(), (values, &tests), Some(range));
        for (sample, counted) in measured.iter_mut().zip(&counted) {
            sample
                .iter_mut()
                .for_each(|moments| moments.take_clipping(&counted[0]));
        }
    }
    Some(Measured {
        tests,
        samples: Arc::new(measured),
    })
}

/// A value in its form as the comparison reads it; `None` where it must be made real first.
fn tested<'a>(test: &'a Stored, form: &Form) -> Option<Numbers<'a>> {
    let stored = test.physical();
    if let Some(values) = stored.as_slice::<f32>() {
        return Some(Numbers::Real(values));
    }
    let params = form.params().filter(|params| params.dtype() == stored.dtype())?;
    let (scale, zero_point) = params.as_per_tensor()?;
    let q = match (stored.as_slice::<u8>(), stored.as_slice::<i8>()) {
        (Some(q), _) => QuantizedSlice::U8(q),
        (None, Some(q)) => QuantizedSlice::I8(q),
        (None, None) => return None,
    };
    Some(Numbers::Quantized { q, scale, zero_point })
}

/// Measures each sample of several values of one length. Samples are outermost in every order of storage.
pub(super) fn measure_parts(
    batch: &Batch,
    shape: &[usize],
    (reference, tests): (&[f32], &[Numbers<'_>]),
    range: Option<Representable>,
) -> Vec<Vec<Moments>> {
    let mut start = 0;
    let mut measured = Vec::new();
    for reference in batch.parts(shape, reference) {
        let parts: Few<Numbers<'_>> = tests
            .iter()
            .map(|test| test.part(start, reference.len()))
            .collect();
        start += reference.len();
        let sample = Moments::measure_all(reference, &parts, range);
        measured.push(sample.expect("invariant: the lengths are equal"));
    }
    measured
}
