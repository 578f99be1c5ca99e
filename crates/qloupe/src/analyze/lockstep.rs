//! One run of an analysis: a sample, or as many as the model takes at once, through both programs, compared value by value.
//! It changes nothing, so that samples may run at once; what it measured is added in their order.

use std::collections::{BTreeMap, HashMap};

use qloupe_exec::{QuantizedProgram, Stored, Tapped, both};

use super::compare::{Found, Measured, compare};
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
    /// With the places of their rows.
    pub(super) measured: Vec<(usize, Measured)>,
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
        let (in_forms, mut found) = self.compare_inputs(batch);
        let goals: Vec<&str> = self.goals.iter().map(String::as_str).collect();
        let given = batch.inputs.clone();
        let walk = network
            .program
            .walk_tapped(given, &goals, Tapped::Only(&self.tapped))
            .map_err(|e| network.located(e))?;
        let views = self.views;
        // The local view of a permuted value is the tensor view of its input, and samples must not mix.
        let skips_permuted = batch.n_rows() == 1 && (views.tensor || !views.local);
        let programs = (&network.program, program);
        let mut golden = Golden::new(walk, programs, &self.places, known, (views.local, skips_permuted));
        for ((name, tensor), in_form) in batch.inputs.iter().zip(in_forms) {
            if let Some(tap) = &mut tap {
                tap.value(name, tensor, program.to_float(name, &in_form).to_plain())?;
            }
            let given = golden.give(name, Stored::plain(tensor.clone()), in_form);
            given.map_err(|e| network.located(e))?;
        }
        let mut test = program.walk(&batch.inputs).map_err(|e| network.located(e))?;
        let comparing = Comparing {
            batch,
            program,
            places: &self.places,
            views,
        };
        let mut ends = Vec::new();
        let (mut ahead, mut behind) = (Vec::new(), Vec::new());
        while !(golden.is_done() && ahead.is_empty() && behind.is_empty()) {
            let run = || both(|| run_entire(&mut test, &mut ahead), || golden.stretch());
            let ((entire, next), compared) = both(run, || comparing.compare(&mut behind));
            let compared = entire.and(compared).map_err(|e| network.located(e))?;
            let next = next.map_err(|e| network.located(e))?;
            found.extend(compared);
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
        Ok(Sample {
            measured: self.measured(found),
            seen,
            ends,
        })
    }

    /// What was measured, and the measurements of what need not be.
    fn measured(&self, found: Vec<OfRow>) -> Vec<(usize, Measured)> {
        let mut measured: Vec<(usize, Measured)> = Vec::with_capacity(found.len());
        let mut by_row: HashMap<usize, usize> = HashMap::with_capacity(found.len());
        for (row_idx, found) in found {
            let known = match found {
                Found::Measured(known) => Some(known),
                // The input of a unit is measured before its output.
                Found::Permuted(of_row) => {
                    let of = by_row.get(&of_row).map(|&idx| &measured[idx].1);
                    of.map(|of| of.permuted(self.views.local))
                }
            };
            if let Some(known) = known {
                by_row.insert(row_idx, measured.len());
                measured.push((row_idx, known));
            }
        }
        measured
    }

    /// The inputs in their forms, and what quantization leaves of them compared with them.
    fn compare_inputs(&self, batch: &Batch) -> (Vec<Stored>, Vec<OfRow>) {
        let (mut in_forms, mut found) = (Vec::with_capacity(batch.inputs.len()), Vec::new());
        for (name, tensor) in &batch.inputs {
            let stored = Stored::plain(tensor.clone());
            let once = self.program.to_form(name, &stored);
            if let Some(&row_idx) = self.input_rows.get(name) {
                let wanted = [self.views.entire, self.views.local, self.views.tensor];
                let wanted = wanted.map(|wanted| wanted.then_some(&once));
                let compared = compare(batch, &stored, wanted, self.program.form(name), None);
                found.extend(compared.map(|measured| (row_idx, Found::Measured(measured))));
            }
            in_forms.push(once);
        }
        (in_forms, found)
    }
}
