//! A stretch of units between golden run, run under test and comparison: what they hand to one another.
//!
//! The three work on different stretches at once: the golden run is ahead, the run under test follows, and the units that
//! both have behind them are compared, each on its own.

use qloupe_exec::{ExecError, QuantizedProgram, QuantizedWalk, Stored, Value};
use rayon::prelude::*;

use super::compare::{Found, compare};
use super::places::Places;
use super::{Few, ViewSet};
use crate::samples::Batch;

/// One unit of one sample.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) unit_idx: usize,
    /// Its golden inputs in their forms; `None` if it is not to be run on them, or a rewrite left it without one.
    pub(super) inputs: Option<Vec<Value>>,
    pub(super) outputs: Vec<Expected>,
    /// What it makes of everything quantized.
    pub(super) entire: Vec<Value>,
    /// The places of the rows of its output and of its input where the one is a permutation of the other: it need not be
    /// measured.
    pub(super) permuted: Option<(usize, usize)>,
    /// What it makes of its golden inputs, when that is known.
    pub(super) local: Option<Vec<Value>>,
}

/// What an output of a unit should be.
#[derive(Debug)]
pub(super) struct Expected {
    /// The golden value.
    pub(super) golden: Option<Value>,
    /// The golden value in its form.
    pub(super) once: Option<Value>,
}

impl Job {
    /// Bytes of the golden outputs.
    pub(super) fn size_bytes(&self) -> usize {
        let golden = self.outputs.iter().filter_map(|output| output.golden.as_ref());
        golden.map(Value::size_bytes).sum()
    }

    /// The outputs that are tensors.
    pub(super) fn tensors<'a>(&'a self, program: &'a QuantizedProgram) -> impl Iterator<Item = Viewed<'a>> {
        let (_, written) = program.places(self.unit_idx);
        let tensor = |value: &'a Option<Value>| value.as_ref().and_then(Value::as_tensor);
        written.iter().enumerate().filter_map(move |(idx, &place)| {
            let expected = &self.outputs[idx];
            Some(Viewed {
                place,
                golden: tensor(&expected.golden)?,
                once: tensor(&expected.once),
                entire: self.entire.get(idx)?.as_tensor()?,
                local: self.local.as_ref().and_then(|values| values[idx].as_tensor()),
            })
        })
    }
}

/// An output of a unit: the golden tensor, and what each view has in its place.
pub(super) struct Viewed<'a> {
    /// Its place in the program.
    pub(super) place: usize,
    pub(super) golden: &'a Stored,
    pub(super) once: Option<&'a Stored>,
    pub(super) entire: &'a Stored,
    pub(super) local: Option<&'a Stored>,
}

/// Runs the units of a stretch under test.
pub(super) fn run_entire(walk: &mut QuantizedWalk<'_>, jobs: &mut [Job]) -> Result<(), ExecError> {
    for job in jobs {
        if let Some((_, results)) = walk.step()? {
            job.entire = results;
        }
    }
    Ok(())
}

/// The place of a row and what was found of its value.
pub(super) type OfRow = (usize, Found);

/// What a comparison needs beside the units.
#[derive(Clone, Copy)]
pub(super) struct Comparing<'a> {
    pub(super) batch: &'a Batch,
    pub(super) program: &'a QuantizedProgram,
    pub(super) places: &'a Places,
    pub(super) views: ViewSet,
}

impl Comparing<'_> {
    /// Runs every unit on its golden inputs and compares its outputs, at once where there are threads for it.
    ///
    /// # Errors
    /// That of the first unit that fails.
    pub(super) fn compare(self, jobs: &mut [Job]) -> Result<Vec<OfRow>, ExecError> {
        let results: Vec<Result<Vec<OfRow>, ExecError>> = if rayon::current_num_threads() == 1 {
            jobs.iter_mut().map(|job| self.compare_unit(job)).collect()
        } else {
            jobs.par_iter_mut().map(|job| self.compare_unit(job)).collect()
        };
        let mut found = Vec::with_capacity(results.len());
        for result in results {
            found.extend(result?);
        }
        Ok(found)
    }

    fn compare_unit(self, job: &mut Job) -> Result<Vec<OfRow>, ExecError> {
        if let (Some(inputs), None) = (&job.inputs, &job.local) {
            let (read, _) = self.program.places(job.unit_idx);
            // Golden inputs of the network in their forms are what the run under test begins with.
            let is_entire = read.iter().all(|&place| self.places.is_input[place]) && !job.entire.is_empty();
            job.local = Some(if is_entire {
                job.entire.clone()
            } else {
                let inputs: Few<&Value> = inputs.iter().collect();
                self.program.units()[job.unit_idx].run(&inputs)?
            });
        }
        let views = self.views;
        if let Some((row_idx, of_row)) = job.permuted {
            return Ok(vec![(row_idx, Found::Permuted(of_row))]);
        }
        let mut found = Vec::new();
        for value in job.tensors(self.program) {
            let Some(row_idx) = self.places.rows[value.place] else {
                continue;
            };
            let wanted = [
                Some(value.entire).filter(|_| views.entire),
                value.local,
                value.once.filter(|_| views.tensor),
            ];
            let form = self.program.form_at(value.place);
            let map = self.places.maps[value.place].as_ref();
            let compared = compare(self.batch, value.golden, wanted, form, map);
            found.extend(compared.map(|measured| (row_idx, Found::Measured(measured))));
        }
        Ok(found)
    }
}
