//! The analysis: the golden run and the run under test in lockstep, a stretch of units at a time, every value compared
//! while it is near.

mod compare;
mod costs;
mod ends;
mod flips;
mod golden;
mod lockstep;
mod places;
mod rows;
mod slices;
mod stability;
mod stretch;
mod summary;
#[cfg(test)]
mod tests;
mod whole;

use std::sync::Arc;
use std::time::Instant;

use qloupe_exec::{Mode, QuantizedProgram, in_pool};
use qloupe_tensor::Tensor;
use smallvec::SmallVec;

use crate::Error;
use crate::metrics::Comparison;
use crate::own_threads::in_order;
use crate::plan::QuantPlan;
use crate::prepare::{Network, Prepared};
use crate::samples::Batch;

use compare::Measured;
pub use costs::{CostOptions, measure_costs};
use ends::OutputState;
pub(crate) use flips::Decisions;
use golden::{goals, half_values};
use lockstep::{Lockstep, Sample};
use places::Places;
use rows::Rows;
pub(crate) use slices::{SliceSpec, find as find_slices};
pub use stability::Stability;
pub use whole::{AnalyzeOptions, N_EFFECT_SAMPLES, add_origin, analyze};

/// The views that `analyze` can compute.
pub const VIEWS: &[&str] = &["alone", "entire", "local", "rescued", "tensor"];

/// Bytes that samples at once may hold, about.
const BYTES_AT_ONCE: usize = 128 << 20;

/// How many values of the largest size a sample in progress holds, about.
const N_LARGEST_ALIVE: usize = 8;

/// One thing for each input of a unit or view of a value, in place where they are few.
type Few<T> = SmallVec<[T; 4]>;

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
    lockstep: Arc<Lockstep<'a>>,
    prepared: &'a Prepared,
    plan: &'a QuantPlan,
    rows: Rows,
    /// The comparisons of each row.
    compared: Vec<Compared>,
    outputs: Vec<OutputState>,
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
        let program = prepared.quantized(network, plan, mode)?;
        let graph = &network.model.graph;
        let rows = Rows::new(network, prepared);
        let inputs = graph.runtime_inputs();
        let inputs = inputs.iter().map(|input| input.name.as_str()).collect();
        let outputs: Vec<&str> = graph.output_names().collect();
        let places = Places::new(
            (&network.program, &program),
            &rows,
            &half_values(prepared),
            (&inputs, &outputs),
            &prepared.maps,
        );
        let tapped: Vec<bool> = places.served.iter().map(|served| !served.is_empty()).collect();
        let input_row = |name: &&str| Some(((*name).to_owned(), rows.position(name)?));
        Ok(Self {
            compared: (0..rows.len()).map(|_| Compared::default()).collect(),
            outputs: outputs.into_iter().map(OutputState::new).collect(),
            lockstep: Arc::new(Lockstep {
                network,
                program,
                views,
                input_rows: inputs.iter().filter_map(input_row).collect(),
                goals: goals(network, &tapped)?,
                tapped,
                places,
            }),
            prepared,
            plan,
            rows,
            n_samples: 0,
            seconds: 0.0,
        })
    }

    /// The program under test.
    pub fn program(&self) -> &QuantizedProgram {
        &self.lockstep.program
    }

    /// Runs the samples of a batch through both programs and compares them one by one.
    ///
    /// # Errors
    /// A run that fails; inputs that do not fit.
    pub fn observe(&mut self, batch: &Batch, tap: Option<&mut dyn Tap>) -> Result<(), Error> {
        let start = Instant::now();
        let sample = in_pool(|| self.lockstep.run(batch, self.rows.shapes(), tap))?;
        self.add(batch, sample);
        self.seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Observes batches that `read` gives, several at once where they are small, until `after` says that there are enough.
    ///
    /// # Errors
    /// As `read` and [`Analysis::observe`]: of the first batch that fails.
    pub fn observe_all(
        &mut self,
        n_batches: usize,
        read: impl Fn(usize) -> Result<Batch, Error> + Sync,
        mut after: impl FnMut(&Self, usize) -> bool,
    ) -> Result<(), Error> {
        let mut n_done = 0;
        // The first one tells how large samples are.
        while n_done < n_batches && (n_done == 0 || self.n_at_once(n_batches - n_done) == 1) {
            self.observe(&read(n_done)?, None)?;
            if !after(self, n_done) {
                return Ok(());
            }
            n_done += 1;
        }
        if n_done == n_batches {
            return Ok(());
        }
        let (lockstep, shapes) = (Arc::clone(&self.lockstep), Arc::clone(self.rows.shapes()));
        let run = |idx| {
            let batch = read(idx)?;
            let sample = lockstep.run(&batch, &shapes, None)?;
            Ok((batch, sample))
        };
        let mut start = Instant::now();
        let n_at_once = self.n_at_once(n_batches - n_done);
        in_order(n_done..n_batches, n_at_once, run, |idx, (batch, sample)| {
            self.add(&batch, sample);
            self.seconds += start.elapsed().as_secs_f64();
            start = Instant::now();
            Ok(after(self, idx))
        })
    }

    /// How many of `n` samples run at once: each holds both runs, what is compared and what waits for a later layer.
    fn n_at_once(&self, n: usize) -> usize {
        let n_bytes = N_LARGEST_ALIVE * self.rows.largest_bytes();
        let n_fitting = BYTES_AT_ONCE / n_bytes.max(1);
        n_fitting.min(rayon::current_num_threads()).min(n).max(1)
    }

    /// Adds what a run measured; runs are added in the order of their samples.
    fn add(&mut self, batch: &Batch, sample: Sample) {
        for (name, tensor) in &batch.inputs {
            if let Some(row_idx) = self.rows.position(name) {
                self.rows.get_mut(row_idx).see_input(tensor);
            }
        }
        sample.seen.into_iter().for_each(|seen| self.rows.learn(seen));
        for (row_idx, measured) in &sample.measured {
            self.compared[*row_idx].add(batch, measured);
        }
        let Lockstep {
            network,
            program,
            views,
            ..
        } = &*self.lockstep;
        for (idx, end) in &sample.ends {
            let output = &mut self.outputs[*idx];
            let form = program.form(output.name());
            let shapes = (&network.model.graph, &self.rows.shapes().by_name);
            output.compare((batch, *views), end, form, shapes);
        }
        self.n_samples += batch.n_samples;
    }
}

impl Compared {
    fn add(&mut self, batch: &Batch, measured: &Measured) {
        measured.add_to(batch, [&mut self.entire, &mut self.local, &mut self.tensor]);
    }

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
