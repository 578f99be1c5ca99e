//! Hybrid quantization: the least set of units of higher precision that reaches a goal, found by what was measured.
//!
//! Units are ranked by what each wins at the outputs for what it costs, and by what else is known of them. From each
//! ranking the set grows until the goal is reached, with the readers of each unit or without; then whatever can be left
//! out is left out. The cheapest set wins. What is proposed has been run.

mod file;
mod goal;
mod ranking;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use crate::Error;
use crate::analyze::{AnalyzeOptions, N_EFFECT_SAMPLES, ViewSet, analyze};
use crate::evaluate::Question;
use crate::exam::Exam;
use crate::mixed_fp16::{Kept, grow, prune};
use crate::plan::{Precision, QuantPlan, precision_word, real_precision};
use crate::prepare::Prepared;
use crate::quantize::{Quantized, Stages};
use crate::report::Report;
use crate::samples::{Dataset, Labelled};
use crate::sensitivity::Depth;
use crate::session::Session;
use crate::unit_costs::unit_costs;
use crate::units::unit_outputs;
use qloupe_exec::Mode;

pub use file::{HybridFile, format_hybrid, plan_reference, read_hybrid};
pub use goal::{Goal, Judge, Standing, Task};
use ranking::rankings;

/// One unit of a proposal.
#[derive(Clone, Debug, PartialEq)]
pub struct HybridUnit {
    /// The value it writes, as the plan names it.
    pub value: String,
    /// Its operators, `Conv+Relu`.
    pub unit: String,
    /// `int8`, `fp16`, `float` or what else the plan has.
    pub precision: String,
    /// Whether the proposal raised it.
    pub is_raised: bool,
    /// What is won at the outputs without its error, in dB; absent where that was not measured.
    pub gain_db: Option<f64>,
    /// The part of all multiply-accumulates that it does, 0 to 1.
    pub cost: f64,
    /// Why it has this precision.
    pub reason: String,
}

/// A set of units that reaches the goal, or all of them where none does.
#[derive(Debug)]
pub struct Proposal {
    /// What had to be reached.
    pub goal: Goal,
    /// Whether it is.
    pub is_reached: bool,
    /// Every unit, in execution order.
    pub units: Vec<HybridUnit>,
    /// The plan with the proposal in it.
    pub plan: QuantPlan,
    /// What the plan came to before.
    pub before: Standing,
    /// What it comes to with the proposal.
    pub after: Standing,
    /// What it comes to with every unit in real numbers: no proposal does better.
    pub best: Standing,
    /// The part of all multiply-accumulates above integers that the proposal adds.
    pub cost: f64,
    /// Sets that were run.
    pub n_trials: usize,
}

/// Finds the least set of higher precision for a plan. `report` has the views of the plan.
///
/// # Errors
/// A run that fails.
pub fn propose(
    session: &Session,
    base: &Quantized,
    report: &Report,
    judge: &Judge<'_>,
    stages: Stages<'_>,
) -> Result<Proposal, Error> {
    Search::new(session, base, judge, stages)?.run(report)
}

/// How a proposal is measured.
#[derive(Clone, Copy, Debug)]
pub struct ProposeOptions {
    /// How quantized units compute.
    pub mode: Mode,
    /// Samples that `alone` and `rescued` are measured on, at most.
    pub n_effect_samples: usize,
}

impl Default for ProposeOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Integer,
            n_effect_samples: N_EFFECT_SAMPLES,
        }
    }
}

/// Measures what the units of a plan do on samples, then proposes as [`propose`]. Labelled samples are for a goal of points lost.
/// Where the plan reaches the goal as it is, units are not measured: their gains are absent.
///
/// # Errors
/// A goal that lacks labels, a sample that cannot be read, a run that fails.
pub fn propose_on(
    (session, base): (&Session, &Quantized),
    samples: &Dataset,
    task: Option<(&Labelled, &Question)>,
    goal: Goal,
    options: ProposeOptions,
    stages: Stages<'_>,
) -> Result<Proposal, Error> {
    let ProposeOptions {
        mode,
        n_effect_samples,
    } = options;
    let exam = Exam::of_dataset(&session.network, samples, mode)?;
    let task = task.map(|(labelled, question)| Task::new(session, labelled, question));
    let judge = Judge::new(goal, &exam, task.transpose()?, mode)?;
    // Nothing is ranked where nothing has to be raised.
    let report = if judge.reaches(&judge.standing(session, base)?) {
        Report::default()
    } else {
        let options = AnalyzeOptions {
            mode,
            views: ViewSet::parse(["entire", "local", "alone", "rescued"])?,
            n_effect_samples,
            depth: Depth::default(),
            until_stable: false,
        };
        let subject = (&session.network, &base.prepared, &base.plan);
        analyze(subject, samples, &options, stages, None)?
    };
    propose(session, base, &report, &judge, stages)
}

struct Search<'a> {
    session: &'a Session,
    base: &'a Quantized,
    judge: &'a Judge<'a>,
    stages: Stages<'a>,
    /// The prepared graph, which trials share with what they compiled.
    trial: Quantized,
    costs: Vec<f64>,
    known: BTreeMap<Kept, Standing>,
}

impl<'a> Search<'a> {
    fn new(
        session: &'a Session,
        base: &'a Quantized,
        judge: &'a Judge<'a>,
        stages: Stages<'a>,
    ) -> Result<Self, Error> {
        let prepared = base.prepared.copied(&session.network)?;
        Ok(Self {
            session,
            base,
            judge,
            stages,
            costs: unit_costs(&prepared),
            trial: Quantized::new(prepared, base.plan.clone()),
            known: BTreeMap::new(),
        })
    }

    fn run(mut self, report: &Report) -> Result<Proposal, Error> {
        let none = Kept::new();
        let candidates = candidates(&self.base.prepared, &self.base.plan);
        let all: Kept = candidates.iter().copied().collect();
        let before = self.standing(&none)?;
        let best = self.standing(&all)?;
        let kept = if self.judge.reaches(&before) {
            none.clone()
        } else if self.judge.reaches(&best) {
            self.search(report, &candidates, &all)?
        } else {
            all
        };
        let after = self.standing(&kept)?;
        let reason = format!("hybrid: {}", self.judge.goal());
        let plan = self.raised(&kept, &reason);
        let plan = match self.base.prepared.target.quantizes_weights_only() {
            true => self.with_weights_given_up(plan)?.plan,
            false => plan,
        };
        let units = described(report, &self.base.prepared, &plan, &self.costs, &kept, &reason);
        Ok(Proposal {
            goal: self.judge.goal(),
            is_reached: self.judge.reaches(&after),
            units,
            plan,
            before,
            after,
            best,
            cost: self.cost(&kept),
            n_trials: self.known.len(),
        })
    }

    /// The cheapest of the sets that the rankings lead to; the first of several.
    fn search(&mut self, report: &Report, candidates: &[usize], all: &Kept) -> Result<Kept, Error> {
        let readers = readers(&self.base.prepared, candidates);
        let nobody = vec![Vec::new(); self.base.prepared.units.len()];
        let mut cheapest = all.clone();
        for order in rankings(report, &self.base.prepared, candidates, &self.costs) {
            for beside in [&nobody, &readers] {
                let grown = grow(&Kept::new(), &order, beside, |kept| self.is_enough(kept))?;
                if !self.is_enough(&grown)? {
                    continue;
                }
                let pruned = self.pruned(&grown)?;
                if self.cost(&pruned) < self.cost(&cheapest)
                    || pruned.len() < cheapest.len() && self.cost(&pruned) <= self.cost(&cheapest)
                {
                    cheapest = pruned;
                }
            }
        }
        Ok(cheapest)
    }

    /// What remains when whatever is not needed goes: by halves, then the most expensive first.
    fn pruned(&mut self, grown: &Kept) -> Result<Kept, Error> {
        let mut kept = prune(grown, &Kept::new(), |kept| self.is_enough(kept))?;
        let mut dear: Vec<usize> = kept.iter().copied().collect();
        dear.sort_by(|&a, &b| self.costs[b].total_cmp(&self.costs[a]));
        for idx in dear {
            let mut without = kept.clone();
            without.remove(&idx);
            if self.is_enough(&without)? {
                kept = without;
            }
        }
        Ok(kept)
    }

    fn is_enough(&mut self, kept: &Kept) -> Result<bool, Error> {
        let standing = self.standing(kept)?;
        Ok(self.judge.reaches(&standing))
    }

    fn standing(&mut self, kept: &Kept) -> Result<Standing, Error> {
        if let Some(known) = self.known.get(kept) {
            return Ok(known.clone());
        }
        let plan = self.raised(kept, "");
        let standing = if self.base.prepared.target.quantizes_weights_only() {
            let trial = self.with_weights_given_up(plan)?;
            self.judge.standing(self.session, &trial)?
        } else {
            self.trial.plan = plan;
            self.judge.standing(self.session, &self.trial)?
        };
        self.known.insert(kept.clone(), standing.clone());
        (self.stages)("hybrid", self.known.len(), self.known.len().max(self.costs.len()));
        Ok(standing)
    }

    fn raised(&self, kept: &Kept, reason: &str) -> QuantPlan {
        let base = self.base;
        base.plan
            .with_raised(&base.prepared, kept.iter().copied(), reason)
    }

    /// A plan on a graph of its own, with the weights of before where units gave up integers.
    fn with_weights_given_up(&self, plan: QuantPlan) -> Result<Quantized, Error> {
        let network = &self.session.network;
        let prepared = self.base.prepared.copied(network)?;
        Quantized::new(prepared, plan).with_given_up_weights(network)
    }

    fn cost(&self, kept: &Kept) -> f64 {
        kept.iter().map(|&idx| self.costs[idx]).sum()
    }
}

/// The units that the plan has in integers, or their weights.
fn candidates(prepared: &Prepared, plan: &QuantPlan) -> Vec<usize> {
    let forms = plan.forms();
    let is_quantized = |idx: &usize| {
        let outputs = unit_outputs(&prepared.program, &prepared.topology, &prepared.units[*idx]);
        let has_integer_weights = |name: &str| {
            let value = plan.value(name);
            value.is_some_and(|value| matches!(value.precision, Precision::WeightOnly(_)))
        };
        outputs.iter().any(|name| {
            forms.get(*name).is_some_and(|form| form.params().is_some()) || has_integer_weights(name)
        })
    };
    (0..prepared.units.len()).filter(is_quantized).collect()
}

/// For each unit those that read what it writes: a value is only unrounded where its reader takes it so.
fn readers(prepared: &Prepared, candidates: &[usize]) -> Vec<Vec<usize>> {
    let nodes = &prepared.program.graph().nodes;
    let wanted: BTreeSet<usize> = candidates.iter().copied().collect();
    let reads = |idx: usize, name: &str| {
        let mut read = prepared.units[idx]
            .node_idxs
            .iter()
            .flat_map(|&node| &nodes[node].inputs);
        read.any(|input| input == name)
    };
    let of = |idx: usize| {
        let outputs = unit_outputs(&prepared.program, &prepared.topology, &prepared.units[idx]);
        let read_by = |other: &usize| outputs.iter().any(|name| reads(*other, name));
        wanted.iter().copied().filter(read_by).collect()
    };
    (0..prepared.units.len()).map(of).collect()
}

fn described(
    report: &Report,
    prepared: &Prepared,
    plan: &QuantPlan,
    costs: &[f64],
    kept: &Kept,
    reason: &str,
) -> Vec<HybridUnit> {
    let forms = plan.forms();
    let mut units = Vec::new();
    for (idx, unit) in prepared.units.iter().enumerate() {
        let outputs = unit_outputs(&prepared.program, &prepared.topology, unit);
        let Some(&value) = outputs.iter().find(|name| plan.value(name).is_some()) else {
            continue;
        };
        let source = prepared.maps.get(value).map_or(value, |map| map.source.as_str());
        let layer = report.layers.iter().find(|layer| layer.name == source);
        let own_reason = match plan.value(value).map(|value| &value.precision) {
            Some(Precision::Fp16 { reason } | Precision::Float { reason }) => reason.clone(),
            _ => String::new(),
        };
        units.push(HybridUnit {
            value: value.to_owned(),
            unit: unit.label(&prepared.program),
            precision: if kept.contains(&idx) {
                real_precision(prepared).to_owned()
            } else {
                let own = plan.value(value);
                let word = own.map_or("float", |own| precision_word(own, forms.get(value)));
                word.to_owned()
            },
            is_raised: kept.contains(&idx),
            gain_db: layer.and_then(|layer| layer.effect).map(|effect| effect.gain_db),
            cost: costs[idx],
            reason: if kept.contains(&idx) {
                reason.to_owned()
            } else {
                own_reason
            },
        });
    }
    units
}
