//! float16 with proof: which values float16 cannot hold, and which units have to stay float32 so that every network output
//! is near that of the float network.
//!
//! What overflows or vanishes on the samples is kept in float32 first, with its neighbours; where that is not enough, the
//! units that lose most by themselves follow. Then whatever can be left out is left out, and what remains is confirmed on
//! every sample: a sample that fails joins the search.

mod candidates;
mod convert;
mod hazards;
mod integer_weights;
mod judge;
mod search;

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::Mode;

use crate::Error;
use crate::analyze::{Analysis, ViewSet};
use crate::plan::{PassRecord, Precision, QuantPlan};
use crate::quantize::{QuantizeOptions, Quantized, Stages, with_whole_ranges};
use crate::report::figure_of;
use crate::samples::{Batch, Dataset};
use crate::session::Session;
use candidates::{Candidate, candidates, neighbours, plan_with};
pub use convert::convert_by_plan;
use hazards::{Hazards, find_hazards};
pub use judge::Verdict;
use judge::{Judge, Sample};
pub(crate) use search::{Kept, grow, prune};

/// Every network output, and every part of one with a range of its own, has to come this near to the float network on
/// every sample: its error is a hundredth of it.
pub const MIN_SQNR_DB: f64 = 40.0;

/// Samples that the search begins with.
const N_FIRST_SAMPLES: usize = 4;
/// Samples that may join it.
const MAX_FURTHER_SAMPLES: usize = 8;
/// Values that are named as hazards although they may be float16.
const MAX_NOTES: usize = 5;

/// The pass that plans name for what stays float32.
const PASS: &str = "keep_float32";

/// Everything in float16 but for what has to stay float32.
///
/// # Errors
/// A model that cannot be prepared, a sample that cannot be read, a run that fails, a value of the float network that is
/// not finite.
pub fn quantize_to_mixed_fp16(
    session: &Session,
    dataset: &Dataset,
    options: &QuantizeOptions,
    stages: Stages<'_>,
) -> Result<Quantized, Error> {
    let base = with_whole_ranges(session, dataset, options, stages)?;
    let hazards = find_hazards(&base.prepared, dataset)?;
    Search::new(session, dataset, &base, &hazards, stages)?.run()
}

/// Runs a model that was written instead of the network of a session, and compares the outputs.
///
/// # Errors
/// A model that cannot run, a sample that cannot be read.
pub fn judge_written(
    session: &Session,
    written: qloupe_ir::Model,
    dataset: &Dataset,
) -> Result<Verdict, Error> {
    let judge = Judge::new(&session.network, &dataset.batch(0)?)?;
    let written = crate::prepare::Network::new(session.network.file.clone(), written)?;
    let mut worst = Verdict::EXACT;
    for idx in 0..dataset.n_batches() {
        let sample = Sample::new(&session.network, dataset.batch(idx)?.inputs)?;
        let outputs = crate::runner::Runner::Float.run(&written, &sample.inputs, None)?;
        worst = worst.worse(judge.verdict(&sample.golden, &outputs));
    }
    Ok(worst)
}

/// A search in progress.
struct Search<'a> {
    session: &'a Session,
    dataset: &'a Dataset,
    base: &'a Quantized,
    hazards: &'a Hazards,
    stages: Stages<'a>,
    candidates: Vec<Candidate>,
    judge: Judge,
    samples: Vec<Sample>,
    /// What sets of kept units came to on the samples.
    known: BTreeMap<Kept, Verdict>,
    n_trials: usize,
}

impl<'a> Search<'a> {
    fn new(
        session: &'a Session,
        dataset: &'a Dataset,
        base: &'a Quantized,
        hazards: &'a Hazards,
        stages: Stages<'a>,
    ) -> Result<Self, Error> {
        let n = dataset.n_batches();
        let n_first = n.min(N_FIRST_SAMPLES);
        let sample = |i: usize| Sample::new(&session.network, dataset.batch(i * n / n_first)?.inputs);
        Ok(Self {
            session,
            dataset,
            base,
            hazards,
            stages,
            candidates: candidates(&base.prepared, &base.plan),
            judge: Judge::new(&session.network, &dataset.batch(0)?)?,
            samples: (0..n_first).map(sample).collect::<Result<_, Error>>()?,
            known: BTreeMap::new(),
            n_trials: 0,
        })
    }

    fn run(mut self) -> Result<Quantized, Error> {
        let forced = self.with_overflowing_constants();
        let all_half = self.confirm(&Kept::new())?.0;
        let mut further = 0;
        let (kept, proof) = loop {
            let kept = self.search(&forced)?;
            let (verdict, worst_idx) = self.confirm(&kept)?;
            if verdict.passes() || further == MAX_FURTHER_SAMPLES {
                break (kept, verdict);
            }
            further += 1;
            let inputs = self.dataset.batch(worst_idx)?.inputs;
            self.samples.push(Sample::new(&self.session.network, inputs)?);
            self.known.clear();
        };
        self.planned(&kept, &forced, &all_half, &proof)
    }

    /// The fewest units that the samples of the search need: none of them can be left out.
    fn search(&mut self, forced: &Kept) -> Result<Kept, Error> {
        if self.verdict(forced)?.passes() {
            return Ok(forced.clone());
        }
        let mut start = forced.clone();
        for (idx, candidate) in self.candidates.iter().enumerate() {
            let is_hazard = |name: &String| self.hazards.value(name).is_some();
            let touches = candidate.values.iter().chain(&candidate.reads).any(is_hazard);
            let constants = candidate
                .constants
                .iter()
                .any(|name| self.hazards.constant(name).is_some());
            if touches || constants {
                start.insert(idx);
            }
        }
        let kept = if self.verdict(&start)?.passes() {
            start
        } else {
            let order = self.ranked()?;
            let beside: Vec<Vec<usize>> = neighbours(&self.candidates);
            grow(&start, &order, &beside, |kept| {
                Ok::<_, Error>(self.verdict(kept)?.passes())
            })?
        };
        prune(&kept, forced, |kept| Ok::<_, Error>(self.verdict(kept)?.passes()))
    }

    /// Units that read constants which float16 does not hold: a model with infinite constants is not written.
    fn with_overflowing_constants(&self) -> Kept {
        let overflows = |candidate: &Candidate| {
            candidate
                .constants
                .iter()
                .any(|name| self.hazards.constant_overflows(name))
        };
        let all = self.candidates.iter().enumerate();
        all.filter(|(_, candidate)| overflows(candidate))
            .map(|(idx, _)| idx)
            .collect()
    }

    /// The candidates, those first that lose most in float16 when they are fed golden inputs.
    fn ranked(&self) -> Result<Vec<usize>, Error> {
        let Quantized { prepared, plan, .. } = self.base;
        let views = ViewSet::parse(["local"])?;
        let mut analysis = Analysis::new(&self.session.network, prepared, plan, Mode::FakeQuant, views)?;
        let sample = |idx: usize| Ok(Batch::single(idx, self.samples[idx].inputs.clone()));
        analysis.observe_all(self.samples.len(), sample, |_, _| true)?;
        let report = analysis.finish();
        let local: BTreeMap<&str, f64> = report
            .layers
            .iter()
            .filter_map(|layer| Some((layer.name.as_str(), figure_of(&layer.views.local, "sqnr_db")?)))
            .collect();
        let figure = |idx: &usize| {
            let of_values = self.candidates[*idx]
                .values
                .iter()
                .filter_map(|name| local.get(name.as_str()));
            of_values
                .map(|db| if db.is_nan() { f64::NEG_INFINITY } else { *db })
                .fold(f64::INFINITY, f64::min)
        };
        let mut order: Vec<usize> = (0..self.candidates.len()).collect();
        order.sort_by(|a, b| figure(a).total_cmp(&figure(b)));
        Ok(order)
    }

    /// How near the outputs come on the samples of the search.
    fn verdict(&mut self, kept: &Kept) -> Result<Verdict, Error> {
        if let Some(known) = self.known.get(kept) {
            return Ok(known.clone());
        }
        self.n_trials += 1;
        (self.stages)("float16", self.n_trials, self.n_trials);
        let runner =
            self.base
                .prepared
                .quantized(&self.session.network, &self.plan(kept), Mode::FakeQuant)?;
        let verdict = self.judge.worst(&self.session.network, runner, &self.samples)?;
        self.known.insert(kept.clone(), verdict.clone());
        Ok(verdict)
    }

    /// How near the outputs come on every sample, and the place of the worst sample.
    fn confirm(&self, kept: &Kept) -> Result<(Verdict, usize), Error> {
        let network = &self.session.network;
        let runner = self
            .base
            .prepared
            .quantized(network, &self.plan(kept), Mode::FakeQuant)?;
        let runner = crate::runner::Runner::Quantized(Box::new(runner));
        let mut worst = (Verdict::EXACT, 0);
        for idx in 0..self.dataset.n_batches() {
            let sample = Sample::new(network, self.dataset.batch(idx)?.inputs)?;
            let outputs = runner.run(network, &sample.inputs, None)?;
            let verdict = self.judge.verdict(&sample.golden, &outputs);
            if verdict.sqnr_db < worst.0.sqnr_db {
                worst = (verdict, idx);
            }
            (self.stages)("confirm", idx + 1, self.dataset.n_batches());
        }
        Ok(worst)
    }

    fn plan(&self, kept: &Kept) -> QuantPlan {
        plan_with(&self.base.plan, &self.candidates, kept)
    }

    /// The plan, which says why each kept value is kept.
    fn planned(
        mut self,
        kept: &Kept,
        forced: &Kept,
        all_half: &Verdict,
        proof: &Verdict,
    ) -> Result<Quantized, Error> {
        let mut plan = self.plan(kept);
        for &idx in kept {
            let cause = self.hazards.of_candidate(&self.candidates[idx]);
            let cause = cause.unwrap_or_else(|| "loses accuracy in float16".to_owned());
            let reason = if forced.contains(&idx) {
                cause
            } else {
                let without: Kept = kept.iter().copied().filter(|other| *other != idx).collect();
                format!("{cause}; without it {}", self.verdict(&without)?)
            };
            for name in &self.candidates[idx].values {
                if let Some(value) = plan.values.iter_mut().find(|value| value.name == *name) {
                    value.precision = Precision::Float {
                        reason: reason.clone(),
                    };
                }
            }
        }
        let n_units = self.candidates.len();
        let needed = if kept.is_empty() {
            ""
        } else {
            ", each of which is needed"
        };
        plan.optimized.passes.push(PassRecord {
            pass: PASS.to_owned(),
            kept: proof.passes(),
            evidence: format!(
                "{} of {n_units} units and inputs in float32{needed}: {proof} on {} samples, expected at least {MIN_SQNR_DB} \
                 dB; all in float16: {all_half}",
                kept.len(),
                self.dataset.len()
            ),
        });
        let notes = self.notes(&plan, proof);
        Ok(Quantized {
            prepared: self.base.prepared.copied(&self.session.network)?,
            plan,
            notes,
        })
    }

    fn notes(&self, plan: &QuantPlan, proof: &Verdict) -> Vec<String> {
        let is_kept = |name: &str| {
            let value = plan.value(name);
            value.is_some_and(|value| matches!(value.precision, Precision::Float { .. }))
        };
        let harmless = self.hazards.values().filter(|(name, _)| !is_kept(name));
        let mut notes: Vec<String> = harmless
            .map(|(name, hazard)| format!("\"{name}\" {hazard}; the outputs bear it"))
            .collect();
        if notes.len() > MAX_NOTES {
            let more = notes.len() - MAX_NOTES;
            notes.truncate(MAX_NOTES);
            notes.push(format!(
                "{more} more values overflow or vanish in float16; the outputs bear it"
            ));
        }
        if !proof.passes() {
            notes.push(format!(
                "{proof}, expected at least {MIN_SQNR_DB} dB: give more samples with --dataset"
            ));
        }
        notes
    }
}

/// The names of everything that a plan keeps in float32, for those who print it.
pub fn kept_in_float32(plan: &QuantPlan) -> Vec<(&str, &str)> {
    let kept = plan.values.iter().filter_map(|value| match &value.precision {
        Precision::Float { reason } => Some((value.name.as_str(), reason.as_str())),
        _ => None,
    });
    kept.collect()
}

/// What a plan of float16 keeps in float32 and why, and what that was judged by: one line each.
pub fn proof_of(plan: &QuantPlan) -> Vec<String> {
    let kept = kept_in_float32(plan).into_iter();
    let kept = kept.map(|(name, reason)| format!("\"{name}\" in float32: {reason}"));
    let passes = plan.optimized.passes.iter().filter(|record| record.pass == PASS);
    kept.chain(passes.map(|record| record.evidence.clone())).collect()
}

/// Names of values.
type Names = BTreeSet<String>;

#[cfg(test)]
mod tests;
