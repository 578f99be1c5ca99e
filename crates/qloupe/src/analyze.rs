//! The analysis: the golden run and the run under test in lockstep, a stretch of units at a time, every value compared
//! while it is near.

mod compare;
mod costs;
mod ends;
mod flips;
mod golden;
mod places;
mod rows;
mod slices;
mod stability;
mod stretch;
mod summary;
#[cfg(test)]
mod tests;
mod whole;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use qloupe_exec::{Mode, QuantizedProgram, Stored, Tapped, both, in_pool};
use qloupe_tensor::Tensor;

use crate::Error;
use crate::metrics::Comparison;
use crate::plan::QuantPlan;
use crate::prepare::{Network, Prepared};
use crate::samples::Batch;

use compare::compare;
pub use costs::{CostOptions, measure_costs};
use ends::{End, OutputState};
pub(crate) use flips::Decisions;
use golden::{Golden, goals, half_values};
use places::Places;
use rows::Rows;
pub(crate) use slices::{SliceSpec, find as find_slices};
pub use stability::Stability;
use stretch::{Comparing, run_entire};
pub use whole::{AnalyzeOptions, N_EFFECT_SAMPLES, add_origin, analyze};

/// The views that `analyze` can compute.
pub const VIEWS: &[&str] = &["alone", "entire", "local", "rescued", "tensor"];

/// Which views are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewSet {
    /// Everything quantized.
    pub entire: bool,
    /// One unit quantized, fed golden inputs.
    pub local: bool,
    /// One quantize-dequantize of the golden value.
    pub tensor: bool,
    /// Only one unit quantized, and everything but one: what each does to the network outputs.
    pub effects: bool,
}

impl ViewSet {
    /// The views of a list of names.
    ///
    /// # Errors
    /// [`Error::UnknownChoice`] with all views.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let mut set = Self {
            entire: false,
            local: false,
            tensor: false,
            effects: false,
        };
        for name in names {
            match name {
                "entire" => set.entire = true,
                "local" => set.local = true,
                "tensor" => set.tensor = true,
                "alone" | "rescued" => set.effects = true,
                _ => return Err(Error::unknown_choice("view", name, VIEWS.iter().copied())),
            }
        }
        Ok(set)
    }
}

/// An analysis in progress: samples stream through it, memory does not grow with them.
#[derive(Debug)]
pub struct Analysis<'a> {
    network: &'a Network,
    prepared: &'a Prepared,
    plan: &'a QuantPlan,
    program: Arc<QuantizedProgram>,
    views: ViewSet,
    rows: Rows,
    /// The comparisons of each row.
    compared: Vec<Mutex<Compared>>,
    outputs: Vec<OutputState>,
    places: Places,
    /// The values that the golden run keeps, by their places in its program.
    tapped: Vec<bool>,
    /// What the golden run computes: the network outputs, and values that units need but no output does.
    goals: Vec<String>,
    n_samples: usize,
    seconds: f64,
}

/// The comparisons of one value, one for each view.
#[derive(Debug, Default)]
struct Compared {
    entire: Comparison,
    local: Comparison,
    tensor: Comparison,
}

/// What a caller may see of every compared value: golden and test as real numbers.
pub trait Tap: Send {
    /// The values that follow are of this batch.
    fn begin_sample(&mut self, idx: usize);
    /// One value of one sample.
    ///
    /// # Errors
    /// What keeps the tap from storing it.
    fn value(&mut self, name: &str, golden: &Tensor, test: &Tensor) -> Result<(), Error>;
}

impl<'a> Analysis<'a> {
    /// Compiles the plan and lists the rows.
    ///
    /// # Errors
    /// Parameters that do not fit the graph.
    pub fn new(
        network: &'a Network,
        prepared: &'a Prepared,
        plan: &'a QuantPlan,
        mode: Mode,
        views: ViewSet,
    ) -> Result<Self, Error> {
        let program = Arc::new(prepared.quantized(network, plan, mode)?);
        let graph = &network.model.graph;
        let rows = Rows::new(network, prepared);
        let inputs = graph.runtime_inputs();
        let inputs = inputs.iter().map(|input| input.name.as_str()).collect();
        let outputs: Vec<&str> = graph.outputs.iter().map(|output| output.name.as_str()).collect();
        let places = Places::new(
            &program,
            &rows,
            &half_values(prepared),
            (&inputs, &outputs),
            &prepared.maps,
        );
        Ok(Self {
            network,
            prepared,
            plan,
            program,
            views,
            compared: (0..rows.len()).map(|_| Mutex::default()).collect(),
            rows,
            outputs: outputs.into_iter().map(OutputState::new).collect(),
            tapped: network
                .program
                .values()
                .map(|name| places.is_used(name))
                .collect(),
            goals: goals(network, |name| places.is_used(name))?,
            places,
            n_samples: 0,
            seconds: 0.0,
        })
    }

    /// The program under test.
    pub fn program(&self) -> &QuantizedProgram {
        &self.program
    }

    /// Runs the samples of a batch through both programs and compares them one by one.
    ///
    /// # Errors
    /// A run that fails; inputs that do not fit.
    pub fn observe(&mut self, batch: &Batch, tap: Option<&mut dyn Tap>) -> Result<(), Error> {
        in_pool(|| self.observe_here(batch, tap))
    }

    fn observe_here(&mut self, batch: &Batch, mut tap: Option<&mut dyn Tap>) -> Result<(), Error> {
        let start = Instant::now();
        let network = self.network;
        let program = Arc::clone(&self.program);
        let given_in_form = self.compare_inputs(batch);
        let goals: Vec<&str> = self.goals.iter().map(String::as_str).collect();
        let given = batch.inputs.clone();
        let walk = network
            .program
            .walk_tapped(given, &goals, Tapped::Only(&self.tapped))
            .map_err(|e| network.located(e))?;
        let mut golden = Golden::new(walk, &program, &self.places, &mut self.rows, self.views.local);
        for ((name, tensor), in_form) in batch.inputs.iter().zip(given_in_form) {
            if let Some(tap) = &mut tap {
                tap.value(name, tensor, program.to_float(name, &in_form).to_plain())?;
            }
            golden.give(name, Stored::plain(tensor.clone()), in_form);
        }
        let mut test = program.walk(&batch.inputs).map_err(|e| network.located(e))?;
        let comparing = Comparing {
            batch,
            program: &program,
            places: &self.places,
            views: self.views,
            compared: &self.compared,
        };
        let mut ends: Vec<Option<End>> = self.outputs.iter().map(|_| None).collect();
        let (mut ahead, mut behind) = (Vec::new(), Vec::new());
        while !(golden.is_done() && ahead.is_empty() && behind.is_empty()) {
            let run = || both(|| run_entire(&mut test, &mut ahead), || golden.stretch());
            let ((entire, next), compared) = both(run, || comparing.compare(&mut behind));
            let next = entire.and(compared).and(next).map_err(|e| network.located(e))?;
            for value in behind.iter().flat_map(|job| job.tensors(&program)) {
                let name = &program.values()[value.place];
                if let Some(tap) = &mut tap {
                    let real = self.places.to_real(&program, value.place, value.entire);
                    tap.value(name, value.golden.to_plain(), real.to_plain())?;
                }
                if let Some(output) = self.places.outputs[value.place] {
                    let real = |stored: &Stored| self.places.to_real(&program, value.place, stored);
                    ends[output] = Some(End {
                        test: real(value.entire),
                        local: value.local.map(real),
                        golden: value.golden.clone(),
                    });
                }
            }
            behind = std::mem::replace(&mut ahead, next);
        }
        golden.finish().map_err(|e| network.located(e))?;
        for (output, end) in self.outputs.iter_mut().zip(ends) {
            if let Some(end) = end {
                let form = program.form(output.name());
                let shapes = (&network.model.graph, self.rows.shapes());
                output.compare((batch, self.views), &end, form, shapes);
            }
        }
        self.n_samples += batch.n_samples;
        self.seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Compares the inputs with what is left of them after quantization, which it gives back in their forms.
    fn compare_inputs(&mut self, batch: &Batch) -> Vec<Stored> {
        let mut in_forms = Vec::with_capacity(batch.inputs.len());
        for (name, tensor) in &batch.inputs {
            let stored = Stored::plain(tensor.clone());
            let once = self.program.to_form(name, &stored);
            if let Some(row_idx) = self.rows.position(name) {
                self.rows.get_mut(row_idx).observe_shape(&stored);
                let compared = self.compared[row_idx].get_mut();
                let compared = compared.unwrap_or_else(PoisonError::into_inner);
                let test = |wanted: bool| wanted.then_some(&once);
                let wanted = [
                    (test(self.views.entire), &mut compared.entire),
                    (test(self.views.local), &mut compared.local),
                    (test(self.views.tensor), &mut compared.tensor),
                ];
                compare(batch, &stored, wanted, self.program.form(name), None);
            }
            in_forms.push(once);
        }
        in_forms
    }
}

impl Compared {
    fn views(&self) -> crate::report::Views {
        crate::report::Views {
            entire: self.entire.finish(),
            local: self.local.finish(),
            tensor: self.tensor.finish(),
            ..Default::default()
        }
    }

    /// The samples with the largest errors; none where there is only one sample.
    fn worst_samples(&self) -> Vec<crate::report::WorstSample> {
        let several = self
            .entire
            .worst_samples()
            .iter()
            .filter(|_| self.entire.n_samples() > 1);
        let worst = several.map(|&(index, sqnr_db)| crate::report::WorstSample {
            index,
            file: None,
            sqnr_db,
        });
        worst.collect()
    }
}
