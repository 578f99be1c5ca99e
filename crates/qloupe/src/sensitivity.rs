//! What each source of error does to the network outputs: `alone`, with everything else in float, and `rescued`, with
//! everything quantized but this source.
//!
//! A source is a network input or a unit with its weights, its bias and its output. What it changes is run again from
//! there to the outputs, on golden values or on those of the plan, and nothing else is. Both run in fake-quant mode: a
//! value may be on the grid of the plan or not.

mod estimate;
mod lane;
mod pairs;
mod pairwise;
mod parts;
mod probes;
mod reference;
mod source;
mod split;
mod statistics;
mod twin;

use std::collections::BTreeMap;
use std::time::Instant;

use qloupe_exec::{Assignment, QuantizedProgram, in_pool};
use qloupe_ir::Topology;
use qloupe_tensor::Tensor;
use rayon::prelude::*;

use crate::Error;
use crate::analyze::Decisions;
use crate::metrics::Comparison;
use crate::plan::QuantPlan;
use crate::prepare::{Network, Prepared};
use crate::quantize::Stages;
use crate::report::{Additivity, Cause, Effect, Layer, Phase, Report, ValueRange, View, figure_of};

use estimate::Estimate;
use lane::Lane;
use pairs::interacting_pairs;
pub(crate) use pairwise::dot;
pub(crate) use parts::Parts;
pub(crate) use probes::probes;
use reference::reference_constants;
use source::{Context, Source, Variant, base_assignment, sources};
use split::{About, Split, Totals};
pub(crate) use statistics::score_db;
use statistics::{add, merge, noise, rank_correlation};

/// Golden values of all samples that run at once stay within this; what is let go is computed again.
const MAX_GOLDEN_BYTES: usize = 512 << 20;
/// Networks with at most so many sources are measured exactly.
const MAX_AUTO_EXACT: usize = 64;
/// Sources that are run again after an estimate: those with the most noise, and those with the largest gain.
const N_EXACT: usize = 8;
/// Samples that errors are split into their causes on, where most sources are estimated.
const N_SPLIT: usize = 2;
/// Sources whose causes are compiled at once.
const N_COMPILED: usize = 8;
/// Samples that run at once.
const MAX_LANES: usize = 4;

/// How many sources are run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// All of a small network; of others as [`Depth::Estimated`].
    #[default]
    Auto,
    /// All.
    Exact,
    /// All are estimated, and those that do most are run again.
    Estimated,
}

impl Depth {
    /// Every depth, by name.
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("estimated", Self::Estimated),
        ("exact", Self::Exact),
    ];

    /// The depth of a name.
    ///
    /// # Errors
    /// [`Error::UnknownChoice`] with all names.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let found = Self::ALL
            .iter()
            .find(|(id, _)| *id == name)
            .map(|(_, depth)| *depth);
        found.ok_or_else(|| Error::unknown_choice("depth", name, Self::ALL.iter().map(|(id, _)| *id)))
    }

    fn is_exact(self, n_sources: usize) -> bool {
        match self {
            Self::Auto => n_sources <= MAX_AUTO_EXACT,
            Self::Exact => true,
            Self::Estimated => false,
        }
    }
}

/// The effects of all sources over samples.
#[derive(Debug)]
pub struct Sensitivity<'a> {
    network: &'a Network,
    prepared: &'a Prepared,
    plan: &'a QuantPlan,
    /// Everything quantized.
    program: QuantizedProgram,
    sources: Vec<Source>,
    /// The plan for every unit.
    assignment: Assignment,
    /// Who produces and consumes what in the user's graph.
    topology: Topology,
    /// Constants of the user's model where those of the graph under test differ.
    reference: BTreeMap<String, Tensor>,
    parts: Option<Parts>,
    /// Everything quantized, for each part of the outputs.
    entire: Vec<Comparison>,
    effects: Vec<Effects>,
    /// First-order estimates of all sources; empty where none were made.
    estimates: Vec<Estimate>,
    /// Whether a source is run again, where not all are.
    is_exact: Vec<bool>,
    additivity: Additivity,
    n_samples: usize,
    /// How long it took.
    phases: Vec<Phase>,
}

/// What one source does, for each part of the outputs.
#[derive(Clone, Debug, Default)]
struct Effects {
    alone: Vec<Comparison>,
    rescued: Vec<Comparison>,
    /// The answers that it changes alone.
    decisions: Vec<Option<Decisions>>,
    /// Its own error in parts.
    totals: Totals,
    about: About,
}

impl<'a> Sensitivity<'a> {
    /// Lists the sources of a plan.
    ///
    /// # Errors
    /// Parameters that do not fit the graph.
    pub fn new(network: &'a Network, prepared: &'a Prepared, plan: &'a QuantPlan) -> Result<Self, Error> {
        let assignment = base_assignment(prepared, plan);
        let program = QuantizedProgram::new(&prepared.program, &assignment, qloupe_exec::Mode::FakeQuant);
        let sources = sources(network, prepared, plan);
        Ok(Self {
            network,
            prepared,
            plan,
            program: program.map_err(|e| network.located(e))?,
            effects: vec![Effects::default(); sources.len()],
            estimates: Vec::new(),
            is_exact: Vec::new(),
            sources,
            assignment: prepared.assignment(plan),
            topology: Topology::new(&network.model.graph).map_err(|source| Error::Graph {
                file: network.file.clone(),
                source,
            })?,
            reference: reference_constants(network, prepared, plan)?,
            parts: None,
            entire: Vec::new(),
            additivity: Additivity::default(),
            n_samples: 0,
            phases: Vec::new(),
        })
    }

    /// Measures what the sources do, all of them or as many as `depth` says.
    ///
    /// # Errors
    /// A run that fails; inputs that do not fit.
    pub fn observe(
        &mut self,
        samples: &[Vec<(String, Tensor)>],
        depth: Depth,
        stages: Stages<'_>,
    ) -> Result<(), Error> {
        in_pool(|| {
            let variants = self.compile()?;
            if !depth.is_exact(self.sources.len()) {
                let start = Instant::now();
                self.estimates = self.estimate(&variants, samples, stages)?;
                self.is_exact = largest(&self.estimates, N_EXACT);
                self.phases.push(phase("estimate", start));
            }
            let start = Instant::now();
            let n_groups = samples.len().div_ceil(MAX_LANES);
            for (idx, group) in samples.chunks(MAX_LANES).enumerate() {
                let n_sources = self.sources.len();
                let show = |done: usize| stages("effects", idx * n_sources + done, n_groups * n_sources);
                self.observe_group(&variants, group, &show)?;
            }
            self.phases.push(phase("effects", start));
            Ok(())
        })
    }

    fn context(&self) -> Context<'_> {
        Context {
            network: self.network,
            prepared: self.prepared,
            plan: self.plan,
            assignment: &self.assignment,
            topology: &self.topology,
            reference: &self.reference,
        }
    }

    /// Every source, ready to run.
    fn compile(&self) -> Result<Vec<Variant>, Error> {
        let context = self.context();
        self.sources
            .par_iter()
            .map(|source| source.compile(&context))
            .collect()
    }

    fn observe_group(
        &mut self,
        variants: &[Variant],
        group: &[Vec<(String, Tensor)>],
        show: &dyn Fn(usize),
    ) -> Result<(), Error> {
        if self.parts.is_none()
            && let Some(first) = group.first()
        {
            self.parts = Some(Parts::find(self.network, first)?);
        }
        let Some(parts) = &self.parts else { return Ok(()) };
        let context = Context {
            network: self.network,
            prepared: self.prepared,
            plan: self.plan,
            assignment: &self.assignment,
            topology: &self.topology,
            reference: &self.reference,
        };
        let is_estimated = !self.is_exact.is_empty();
        let n_split = if is_estimated {
            N_SPLIT.saturating_sub(self.n_samples)
        } else {
            group.len()
        };
        let limit_bytes = MAX_GOLDEN_BYTES / (2 * group.len().max(1));
        let lane = |inputs: &Vec<(String, Tensor)>| {
            Lane::new(
                self.network,
                self.prepared,
                &self.program,
                parts,
                inputs,
                limit_bytes,
            )
        };
        let mut lanes = group
            .par_iter()
            .map(lane)
            .collect::<Result<Vec<Lane<'_>>, Error>>()?;
        add(&mut self.entire, lanes.iter().map(Lane::entire));
        let first_idxs = (0..self.sources.len()).step_by(N_COMPILED);
        for (first, effects) in first_idxs.zip(self.effects.chunks_mut(N_COMPILED)) {
            let sources = &self.sources[first..first + effects.len()];
            let splits: Vec<Option<Split>> = if n_split > 0 {
                let splits = sources.par_iter().map(|source| source.split(&context));
                splits.collect::<Result<_, Error>>()?
            } else {
                sources.iter().map(|_| None).collect()
            };
            for (idx, (split, effects)) in (first..).zip(splits.iter().zip(effects)) {
                let (variant, split) = (&variants[idx], split.as_ref());
                let is_exact = self.is_exact.get(idx) != Some(&false);
                let effect = |(lane_idx, lane): (usize, &mut Lane<'_>)| {
                    let outputs = is_exact.then(|| lane.effect(variant)).transpose()?;
                    let is_split = lane_idx < n_split;
                    let energies = is_split.then(|| lane.split(variant, split)).transpose()?;
                    Ok((outputs, energies.flatten()))
                };
                let measured = lanes.par_iter_mut().enumerate().map(effect);
                let measured = measured.collect::<Result<Vec<_>, Error>>()?;
                for (outputs, energies) in measured {
                    if let Some(effect) = outputs {
                        if let Some(alone) = effect.alone {
                            add(&mut effects.alone, std::iter::once(alone.moments));
                            merge(&mut effects.decisions, alone.decisions);
                        }
                        add(&mut effects.rescued, std::iter::once(effect.rescued));
                    }
                    energies
                        .into_iter()
                        .for_each(|energies| effects.totals.add(energies));
                }
                match (variant, split) {
                    (Variant::Input(name, form), _) => effects.about = About::value(name, form, self.plan),
                    (_, Some(split)) => effects.about = split.about.clone(),
                    _ => (),
                }
                show(idx + 1);
            }
        }
        if self.n_samples == 0 {
            let shares = self.shares();
            self.additivity.pairs =
                interacting_pairs(&context, &self.sources, variants, &shares, &mut lanes)?;
        }
        self.n_samples += group.len();
        Ok(())
    }

    /// The noise of each source alone at the outputs, relative to their energy, the mean over all parts: as it was
    /// measured, or as it is estimated.
    fn noises(&self) -> Vec<f64> {
        let of = |(idx, effects): (usize, &Effects)| match self.estimates.get(idx) {
            Some(estimate) if effects.alone.is_empty() => estimate.alone,
            _ => noise(&effects.alone),
        };
        self.effects.iter().enumerate().map(of).collect()
    }

    /// The part of each source in the sum of what all do alone; sources without a finite noise have all of it.
    fn shares(&self) -> Vec<f64> {
        let noises = self.noises();
        let n_unbounded = noises.iter().filter(|noise| !noise.is_finite()).count();
        let sum: f64 = noises.iter().sum();
        let share = |noise: f64| match n_unbounded {
            0 if sum > 0.0 => noise / sum,
            0 => 0.0,
            _ if noise.is_finite() => 0.0,
            n => 1.0 / n as f64,
        };
        noises.into_iter().map(share).collect()
    }

    /// How well the order of the estimates agrees with that of what was measured; `None` where not both are known of
    /// several sources.
    fn rank_correlation(&self) -> Option<f64> {
        let both = self
            .estimates
            .iter()
            .zip(&self.effects)
            .filter(|(estimate, effects)| estimate.is_estimated && !effects.alone.is_empty());
        let (estimated, exact): (Vec<f64>, Vec<f64>) = both
            .map(|(estimate, effects)| (estimate.alone, noise(&effects.alone)))
            .unzip();
        (exact.len() > 2).then(|| rank_correlation(&estimated, &exact))
    }

    /// Writes the effects into the rows of a report.
    pub fn finish(self, report: &mut Report) {
        report.timing.phases.extend(self.phases.iter().cloned());
        let Some(parts) = &self.parts else { return };
        let noises = self.noises();
        let shares = self.shares();
        let entire_noise = noise(&self.entire);
        let by_part = |comparisons: &[Comparison]| {
            let named = parts.keys().zip(comparisons);
            named
                .map(|(key, comparison)| (key.to_owned(), comparison.finish()))
                .collect()
        };
        let figures = noises.iter().copied().zip(shares);
        let sqnr_db = score_db(&self.entire);
        for (idx, (effects, (noise, share))) in self.effects.iter().zip(figures).enumerate() {
            let name = &self.sources[idx].name;
            let Some(layer) = report.layers.iter_mut().find(|layer| layer.name == *name) else {
                continue;
            };
            layer.views.alone = by_part(&effects.alone);
            layer.views.rescued = by_part(&effects.rescued);
            let flips = parts
                .keys()
                .zip(&effects.decisions)
                .filter_map(|(key, decisions)| {
                    let flips = decisions.as_ref()?.finish()?;
                    Some((key.to_owned(), flips))
                });
            layer.flips = flips.collect();
            layer.seen = effects.totals.range().map(|(min, max)| ValueRange {
                min: f64::from(min),
                max: f64::from(max),
            });
            layer.causes = effects.totals.causes(&effects.about);
            layer.causes.extend(inherited(layer));
            let estimate = self.estimates.get(idx);
            let is_exact = !effects.rescued.is_empty();
            let gain_db = if is_exact {
                Some(score_db(&effects.rescued) - sqnr_db)
            } else {
                estimate.map(Estimate::gain_db)
            };
            layer.effect = gain_db.map(|gain_db| Effect {
                share,
                noise,
                gain_db,
                is_exact,
                estimated_noise: estimate.map(|estimate| estimate.alone),
                estimated_gain_db: estimate.map(Estimate::gain_db),
            });
        }
        let explained = noises.iter().sum::<f64>() / entire_noise;
        // All without noise, or both without bound.
        let explained = if explained.is_finite() { explained } else { 1.0 };
        report.additivity = Some(Additivity {
            explained,
            noise: entire_noise,
            sqnr_db,
            n_samples: self.n_samples,
            rank_correlation: self.rank_correlation(),
            ..self.additivity
        });
    }
}

/// The sources with the most noise, those with the largest gain, and those that no estimate was made of.
fn largest(estimates: &[Estimate], n: usize) -> Vec<bool> {
    let mut is_largest: Vec<bool> = estimates.iter().map(|estimate| !estimate.is_estimated).collect();
    let noise = |idx: usize| estimates[idx].alone;
    let gain = |idx: usize| estimates[idx].gain_db();
    for key in [&noise as &dyn Fn(usize) -> f64, &gain] {
        let mut order: Vec<usize> = (0..estimates.len()).collect();
        order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
        order.into_iter().take(n).for_each(|idx| is_largest[idx] = true);
    }
    is_largest
}

/// The part of the entire error that the local one does not make.
fn inherited(layer: &Layer) -> Option<Cause> {
    let error = |view: View| {
        let sqnr_db = figure_of(view.of_layer(layer)?, "sqnr_db")?;
        Some(10.0_f64.powf(-sqnr_db / 10.0)).filter(|error| error.is_finite())
    };
    let (entire, local) = (error(View::Entire)?, error(View::Local)?);
    let more = entire - local;
    (more > 0.0).then(|| Cause {
        source: "inherited".to_owned(),
        share: more / entire,
        avoidable: 0.0,
        sqnr_db: -10.0 * more.log10(),
        detail: "of the entire error: what the inputs bring".to_owned(),
    })
}

/// The time that has passed.
fn phase(name: &str, start: Instant) -> Phase {
    Phase {
        name: name.to_owned(),
        seconds: start.elapsed().as_secs_f64(),
    }
}
