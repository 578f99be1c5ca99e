//! One run of an analysis: a sample, or as many as the model takes at once, through both programs, compared value by value.
//! It changes nothing, so that samples may run at once; what it measured is added in their order.

use std::collections::BTreeMap;

use qloupe_exec::{QuantizedProgram, Stored, Tapped, both};

use super::compare::compare;
use super::ends::End;
use super::golden::Golden;
use super::places::Places;
use super::rows::{Seen, Shapes};
use super::stretch::{Comparing, OfRow, run_entire};
use super::{Tap, ViewSet};
use crate::Error;
use crate::prepare::Network;
use crate::samples::Batch;

/// The golden program and the one under test, ready to run beside one another.
#[derive(Debug)]
pub(super) struct Lockstep<'a> {
    pub(super) network: &'a Network,
    pub(super) program: QuantizedProgram,
    pub(super) views: ViewSet,
    pub(super) places: Places,
    /// The places of the rows of the network inputs.
    pub(super) input_rows: BTreeMap<String, usize>,
    /// The values that the golden run keeps, by their places in its program.
    pub(super) tapped: Vec<bool>,
    /// What the golden run computes: the network outputs, and values that units need but no output does.
    pub(super) goals: Vec<String>,
}

/// What a run measured.
pub(super) struct Sample {
    pub(super) measured: Vec<OfRow>,
    /// Golden values whose shapes were not known.
    pub(super) seen: Vec<Seen>,
    /// Network outputs, with their places among all.
    pub(super) ends: Vec<(usize, End)>,
}

impl Lockstep<'_> {
    pub(super) fn run(
        &self,
        batch: &Batch,
        known: &Shapes,
        mut tap: Option<&mut (dyn Tap + '_)>,
    ) -> Result<Sample, Error> {
        let (network, program) = (self.network, &self.program);
        let (in_forms, mut measured) = self.compare_inputs(batch);
        let goals: Vec<&str> = self.goals.iter().map(String::as_str).collect();
        let given = batch.inputs.clone();
        let walk = network
            .program
            .walk_tapped(given, &goals, Tapped::Only(&self.tapped))
            .map_err(|e| network.located(e))?;
        let mut golden = Golden::new(walk, program, &self.places, known, self.views.local);
        for ((name, tensor), in_form) in batch.inputs.iter().zip(in_forms) {
            if let Some(tap) = &mut tap {
                tap.value(name, tensor, program.to_float(name, &in_form).to_plain())?;
            }
            golden.give(name, Stored::plain(tensor.clone()), in_form);
        }
        let mut test = program.walk(&batch.inputs).map_err(|e| network.located(e))?;
        let comparing = Comparing {
            batch,
            program,
            places: &self.places,
            views: self.views,
        };
        let mut ends = Vec::new();
        let (mut ahead, mut behind) = (Vec::new(), Vec::new());
        while !(golden.is_done() && ahead.is_empty() && behind.is_empty()) {
            let run = || both(|| run_entire(&mut test, &mut ahead), || golden.stretch());
            let ((entire, next), compared) = both(run, || comparing.compare(&mut behind));
            let compared = entire.and(compared).map_err(|e| network.located(e))?;
            let next = next.map_err(|e| network.located(e))?;
            measured.extend(compared);
            for value in behind.iter().flat_map(|job| job.tensors(program)) {
                let name = &program.values()[value.place];
                if let Some(tap) = &mut tap {
                    let real = self.places.to_real(program, value.place, value.entire);
                    tap.value(name, value.golden.to_plain(), real.to_plain())?;
                }
                if let Some(output) = self.places.outputs[value.place] {
                    let real = |stored: &Stored| self.places.to_real(program, value.place, stored);
                    let end = End {
                        test: real(value.entire),
                        local: value.local.map(real),
                        golden: value.golden.clone(),
                    };
                    ends.push((output, end));
                }
            }
            behind = std::mem::replace(&mut ahead, next);
        }
        let seen = golden.finish().map_err(|e| network.located(e))?;
        Ok(Sample { measured, seen, ends })
    }

    /// The inputs in their forms, and what quantization leaves of them compared with them.
    fn compare_inputs(&self, batch: &Batch) -> (Vec<Stored>, Vec<OfRow>) {
        let (mut in_forms, mut measured) = (Vec::with_capacity(batch.inputs.len()), Vec::new());
        for (name, tensor) in &batch.inputs {
            let stored = Stored::plain(tensor.clone());
            let once = self.program.to_form(name, &stored);
            if let Some(&row_idx) = self.input_rows.get(name) {
                let wanted = [self.views.entire, self.views.local, self.views.tensor];
                let wanted = wanted.map(|wanted| wanted.then_some(&once));
                let compared = compare(batch, &stored, wanted, self.program.form(name), None);
                measured.extend(compared.map(|measured| (row_idx, measured)));
            }
            in_forms.push(once);
        }
        (in_forms, measured)
    }
}
