//! The outputs of the network: compared as a whole and in slices, as real numbers.

use std::collections::HashMap;

use qloupe_exec::{Form, Stored};
use qloupe_ir::Graph;
use qloupe_kernels::Numbers;

use super::compare::{compare, measure_parts};
use super::flips::OutputFlips;
use super::slices::{self, SliceSpec};
use super::{Compared, ViewSet};
use crate::metrics::Representable;
use crate::report::{Output, Slice};
use crate::samples::Batch;

/// A network output of one sample, as real numbers.
pub(super) struct End {
    pub(super) golden: Stored,
    pub(super) test: Stored,
    pub(super) local: Option<Stored>,
}

/// A network output over samples.
#[derive(Debug)]
pub(super) struct OutputState {
    name: String,
    shape: Vec<usize>,
    whole: Compared,
    slices: Vec<(SliceSpec, Compared)>,
    flips: OutputFlips,
}

impl OutputState {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            shape: Vec::new(),
            whole: Compared::default(),
            slices: Vec::new(),
            flips: OutputFlips::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Adds a sample. The slices are found in the first one, in the graph with the shapes of its values.
    pub(super) fn compare(
        &mut self,
        (batch, views): (&Batch, ViewSet),
        end: &End,
        form: &Form,
        (graph, shapes): (&Graph, &HashMap<String, Vec<usize>>),
    ) {
        let End { golden, test, local } = end;
        if golden.to_plain().as_slice::<f32>().is_none() {
            return;
        }
        if self.shape.is_empty() {
            self.shape = golden.shape();
            let found = slices::find(graph, shapes, &self.name, golden.to_plain());
            self.slices = found
                .into_iter()
                .map(|spec| (spec, Compared::default()))
                .collect();
        }
        let range = form.params().and_then(Representable::of_params);
        let whole = &mut self.whole;
        let wanted = [Some(test).filter(|_| views.entire), local.as_ref(), None];
        if let Some(measured) = compare(batch, golden, wanted, form, None) {
            whole.add(batch, &measured);
        }
        if views.entire && golden.shape() == self.shape {
            let pair = (golden.to_plain(), test.to_plain());
            self.flips
                .observe(batch, pair, self.slices.iter().map(|(spec, _)| spec));
        }
        // A dynamic output may have another shape in a later sample: its slices stay those of the first.
        for (spec, compared) in self.slices.iter_mut().filter(|_| golden.shape() == self.shape) {
            let reference = spec.cut(golden.to_plain());
            let pairs = [
                (Some(test).filter(|_| views.entire), &mut compared.entire),
                (local.as_ref(), &mut compared.local),
            ];
            for (value, comparison) in pairs {
                if let Some(value) = value {
                    let test = spec.cut(value.to_plain());
                    let shape = if spec.axis == 0 { &[][..] } else { &self.shape };
                    let tests = [Numbers::Real(&test)];
                    let measured = measure_parts(batch, shape, (&reference, &tests), range);
                    measured.iter().for_each(|sample| comparison.add(&sample[0]));
                }
            }
        }
    }

    /// The output as the report has it.
    pub(super) fn summary(&self) -> Output {
        let slice = |(idx, (spec, compared)): (usize, &(SliceSpec, Compared))| Slice {
            axis: spec.axis,
            start: spec.start,
            end: spec.end,
            label: spec.label.clone(),
            dead: compared.entire.is_dead(),
            views: compared.views(),
            flips: self.flips.slice(idx),
        };
        Output {
            name: self.name.clone(),
            shape: self.shape.clone(),
            dead: self.whole.entire.is_dead(),
            reason: self
                .shape
                .is_empty()
                .then(|| "not a float value, or a constant".to_owned()),
            views: self.whole.views(),
            flips: self.flips.whole(),
            worst_samples: self.whole.worst_samples(),
            slices: self.slices.iter().enumerate().map(slice).collect(),
            runtime: None,
        }
    }
}
