//! The run: what plans share, and what each goes through.

use std::time::Instant;

use qloupe_exec::Mode;
use qloupe_tensor::QuantScheme;

use super::{Examination, PlanComparison, PlanRow, worst_output, worst_unit};
use crate::Error;
use crate::analyze::{Analysis, ViewSet};
use crate::calibrate::Statistics;
use crate::evaluate::{Contender, Hits, evaluate};
use crate::optimize::{Work, races, restructure};
use crate::passes::{Rescale, Scaling, Shift};
use crate::plan::{Method, Optimized};
use crate::prepare::Prepared;
use crate::quantize::{QuantizeOptions, Quantized, Stages, quantize_by, statistics_of};
use crate::runner::Runner;
use crate::samples::Dataset;
use crate::session::Session;

/// The views that rows are made of.
const ENTIRE: ViewSet = ViewSet {
    entire: true,
    local: false,
    tensor: false,
    effects: false,
};

/// What the plans of one method begin with.
struct Start {
    prepared: Prepared,
    optimized: Optimized,
}

/// What was rewritten in a graph.
type Rewrites = (Vec<Rescale>, Vec<Scaling>, Vec<Shift>);

/// Plans in comparison.
pub(super) struct Contest<'a> {
    session: &'a Session,
    calibration: &'a Dataset,
    options: &'a [QuantizeOptions],
    examination: Examination<'a>,
    stages: Stages<'a>,
    scheme: QuantScheme,
    work: Work<'a>,
    starts: Vec<(Method, Start)>,
    /// One for each way in which the graph was rewritten: nearly always one.
    statistics: Vec<(Rewrites, Statistics)>,
    calibration_seconds: f64,
}

impl<'a> Contest<'a> {
    pub(super) fn new(
        session: &'a Session,
        calibration: &'a Dataset,
        options: &'a [QuantizeOptions],
        examination: Examination<'a>,
        stages: Stages<'a>,
    ) -> Result<Self, Error> {
        // Who needs the most decides what is read.
        let first = options.iter().max_by_key(|options| races(options));
        let Some((first, scheme)) = first.and_then(|first| Some((first, first.target.activation?))) else {
            let what = "plans are compared for a target with integer values, expected at least one algorithm for one";
            return Err(Error::Options(what.to_owned()));
        };
        Ok(Self {
            session,
            calibration,
            options,
            examination,
            stages,
            scheme,
            work: Work::new(session, calibration, first, stages)?,
            starts: Vec::new(),
            statistics: Vec::new(),
            calibration_seconds: 0.0,
        })
    }

    pub(super) fn run(mut self) -> Result<PlanComparison, Error> {
        let (session, Examination { samples, mode, .. }) = (self.session, self.examination);
        let mut rows = Vec::new();
        let mut notes = samples.notes().to_vec();
        for options in self.options {
            self.work.set_options(options);
            let quantized = self.quantized(options)?;
            let (row, quantized_notes) = quantized;
            rows.push(row);
            for note in quantized_notes {
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        let target = self.options[0].target;
        notes.extend(target.note.map(str::to_owned));
        Ok(PlanComparison {
            model: session.network.file.clone(),
            target: target.id,
            mode: match mode {
                Mode::Integer => "integer",
                Mode::FakeQuant => "fake-quant",
            },
            n_samples: samples.len(),
            n_calibration: self.statistics.first().map_or(0, |(_, s)| s.n_samples),
            calibration_seconds: self.calibration_seconds,
            n_labelled: self
                .examination
                .task
                .map_or(0, |(labelled, _)| labelled.dataset.len()),
            float_accuracy: self.accuracy("float", Runner::Float)?,
            rows,
            notes,
        })
    }

    /// Plans and judges; what the user should know beside.
    fn quantized(&mut self, options: &'a QuantizeOptions) -> Result<(PlanRow, Vec<String>), Error> {
        let network = &self.session.network;
        let start_idx = self.start(options)?;
        let statistics_idx = self.calibrate(start_idx)?;
        let began = Instant::now();
        let Start { prepared, optimized } = &self.starts[start_idx].1;
        let quantized = quantize_by(
            &self.work,
            prepared.copied(network)?,
            optimized.clone(),
            &self.statistics[statistics_idx].1,
            &self.scheme,
        )?;
        let report = self.compared(&quantized, options)?;
        let runner = quantized.runner(self.session, self.examination.mode)?;
        let accuracy = self.accuracy("int8", runner)?;
        let row = PlanRow {
            algorithm: quantized.plan.algorithm.clone(),
            method: options.method.name(),
            worst_unit: worst_unit(&report),
            worst_output: worst_output(&report),
            accuracy,
            seconds: began.elapsed().as_secs_f64(),
        };
        Ok((row, quantized.notes))
    }

    /// The network rewritten for a method.
    fn start(&mut self, options: &QuantizeOptions) -> Result<usize, Error> {
        if let Some(idx) = self
            .starts
            .iter()
            .position(|(method, _)| *method == options.method)
        {
            return Ok(idx);
        }
        let network = &self.session.network;
        let prepared = Prepared::new(network, options.target, options.optimization_level)?;
        let (prepared, optimized) = restructure(&self.work, prepared)?;
        self.starts.push((options.method, Start { prepared, optimized }));
        Ok(self.starts.len() - 1)
    }

    /// The statistics of a network, which serve every algorithm.
    fn calibrate(&mut self, start_idx: usize) -> Result<usize, Error> {
        let Start { prepared, optimized } = &self.starts[start_idx].1;
        let rewrites = (
            optimized.rescales.clone(),
            optimized.scalings.clone(),
            optimized.shifts.clone(),
        );
        if let Some(idx) = self.statistics.iter().position(|(known, _)| *known == rewrites) {
            return Ok(idx);
        }
        let needs_most = |options: &&QuantizeOptions| !options.algorithm.needs_ranges_only();
        let mut options = self
            .options
            .iter()
            .find(needs_most)
            .unwrap_or(&self.options[0])
            .clone();
        if !self.statistics.is_empty() {
            // The file holds those of the first graph.
            options.statistics = None;
        }
        let began = Instant::now();
        let statistics = statistics_of(prepared, self.calibration, &options, self.stages)?;
        self.calibration_seconds += began.elapsed().as_secs_f64();
        self.statistics.push((rewrites, statistics));
        Ok(self.statistics.len() - 1)
    }

    /// The network under the plan next to the float network.
    fn compared(
        &self,
        quantized: &Quantized,
        options: &QuantizeOptions,
    ) -> Result<crate::report::Report, Error> {
        let Quantized { prepared, plan, .. } = quantized;
        let Examination { samples, mode, .. } = self.examination;
        let mut analysis = Analysis::new(&self.session.network, prepared, plan, mode, ENTIRE)?;
        let stage = format!("{}, {}", options.algorithm.id(), options.method.name());
        let n_batches = samples.n_batches();
        analysis.observe_all(
            n_batches,
            |idx| Ok(samples.batch(idx)?),
            |_, idx| {
                (self.stages)(&stage, idx + 1, n_batches);
                true
            },
        )?;
        Ok(analysis.finish())
    }

    /// How often a network is right; nothing without labels.
    fn accuracy(&self, precision: &'static str, runner: Runner) -> Result<Vec<(&'static str, Hits)>, Error> {
        let Some((labelled, question)) = self.examination.task else {
            return Ok(Vec::new());
        };
        let contenders = [Contender { precision, runner }];
        let done = |done, all| (self.stages)("evaluate", done, all);
        let scores = evaluate(&self.session.network, labelled, question, &contenders, &done)?;
        Ok(scores
            .into_iter()
            .next()
            .map(|score| score.metrics)
            .unwrap_or_default())
    }
}
