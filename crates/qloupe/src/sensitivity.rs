//! What each source of error does to the network outputs: `alone`, with everything else in float, and `rescued`, with
//! everything quantized but this source.
//!
//! A source is a network input or a unit with its weights, its bias and its output. What it changes is run again from
//! there to the outputs, on golden values or on those of the plan, and nothing else is. Both run in fake-quant mode: a
//! value may be on the grid of the plan or not.

mod lane;
mod pairs;
mod parts;
mod reference;
mod source;
mod split;
mod twin;

use std::collections::BTreeMap;

use qloupe_exec::{QuantizedProgram, in_pool};
use qloupe_tensor::Tensor;
use rayon::prelude::*;

use crate::Error;
use crate::metrics::{Comparison, Moments};
use crate::plan::QuantPlan;
use crate::prepare::{Network, Prepared};
use crate::quantize::Stages;
use crate::report::{Additivity, Cause, Effect, Layer, Report, ValueRange, View, figure_of};

use lane::Lane;
use pairs::interacting_pairs;
pub(crate) use parts::Parts;
use reference::reference_constants;
use source::{Source, base_assignment, sources};
use split::{About, Totals};

/// Golden values of all samples that run at once stay within this; what is let go is computed again.
const MAX_GOLDEN_BYTES: usize = 512 << 20;
/// Samples that run at once.
const MAX_LANES: usize = 4;
/// Nothing is better, and nothing worse, than this.
const MAX_SQNR_DB: f64 = 100.0;

/// The effects of all sources over samples.
#[derive(Debug)]
pub struct Sensitivity<'a> {
    network: &'a Network,
    prepared: &'a Prepared,
    plan: &'a QuantPlan,
    /// Everything quantized.
    program: QuantizedProgram,
    sources: Vec<Source>,
    /// Constants of the user's model where those of the graph under test differ.
    reference: BTreeMap<String, Tensor>,
    parts: Option<Parts>,
    /// Everything quantized, for each part of the outputs.
    entire: Vec<Comparison>,
    effects: Vec<Effects>,
    additivity: Additivity,
    n_samples: usize,
}

/// What one source does, for each part of the outputs.
#[derive(Clone, Debug, Default)]
struct Effects {
    alone: Vec<Comparison>,
    rescued: Vec<Comparison>,
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
            sources,
            reference: reference_constants(network, prepared, plan)?,
            parts: None,
            entire: Vec::new(),
            additivity: Additivity::default(),
            n_samples: 0,
        })
    }

    /// Measures every source on some samples.
    ///
    /// # Errors
    /// A run that fails; inputs that do not fit.
    pub fn observe(&mut self, samples: &[Vec<(String, Tensor)>], stages: Stages<'_>) -> Result<(), Error> {
        in_pool(|| {
            let n_groups = samples.len().div_ceil(MAX_LANES);
            for (idx, group) in samples.chunks(MAX_LANES).enumerate() {
                let n_sources = self.sources.len();
                let show = |done: usize| stages("sensitivity", idx * n_sources + done, n_groups * n_sources);
                self.observe_group(group, &show)?;
            }
            Ok(())
        })
    }

    fn observe_group(&mut self, group: &[Vec<(String, Tensor)>], show: &dyn Fn(usize)) -> Result<(), Error> {
        if self.parts.is_none()
            && let Some(first) = group.first()
        {
            self.parts = Some(Parts::find(self.network, first)?);
        }
        let Some(parts) = &self.parts else { return Ok(()) };
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
        for (idx, (source, effects)) in self.sources.iter().zip(&mut self.effects).enumerate() {
            let variant = source.compile(self.network, self.prepared, self.plan, &self.reference)?;
            let effect = |lane: &mut Lane<'_>| Ok((lane.effect(&variant)?, lane.split(&variant)?));
            let measured = lanes
                .par_iter_mut()
                .map(effect)
                .collect::<Result<Vec<_>, Error>>()?;
            let (outputs, parts): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
            parts
                .into_iter()
                .flatten()
                .for_each(|energies| effects.totals.add(energies));
            effects.about = variant.about();
            for effect in outputs {
                add(&mut effects.alone, effect.alone.into_iter());
                add(&mut effects.rescued, std::iter::once(effect.rescued));
            }
            show(idx + 1);
        }
        if self.n_samples == 0 {
            let shares = self.shares();
            self.additivity.pairs = interacting_pairs(
                (self.network, self.prepared, self.plan),
                &self.reference,
                &self.sources,
                &shares,
                &mut lanes,
            )?;
        }
        self.n_samples += group.len();
        Ok(())
    }

    /// The noise of each source alone at the outputs, relative to their energy: the mean over all parts.
    fn noises(&self) -> Vec<f64> {
        let of = |effects: &Effects| noise(&effects.alone);
        self.effects.iter().map(of).collect()
    }

    /// The part of each source in the sum of what all do alone.
    fn shares(&self) -> Vec<f64> {
        let noises = self.noises();
        let sum: f64 = noises.iter().sum();
        let share = |noise: f64| if sum > 0.0 { noise / sum } else { 0.0 };
        noises.into_iter().map(share).collect()
    }

    /// Writes the effects into the rows of a report.
    pub fn finish(self, report: &mut Report) {
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
        for ((source, effects), (noise, share)) in self.sources.iter().zip(&self.effects).zip(figures) {
            let Some(layer) = report.layers.iter_mut().find(|layer| layer.name == source.name) else {
                continue;
            };
            layer.views.alone = by_part(&effects.alone);
            layer.views.rescued = by_part(&effects.rescued);
            layer.seen = effects.totals.range().map(|(min, max)| ValueRange {
                min: f64::from(min),
                max: f64::from(max),
            });
            layer.causes = effects.totals.causes(&effects.about);
            layer.causes.extend(inherited(layer));
            layer.effect = (!effects.rescued.is_empty()).then(|| Effect {
                share,
                noise,
                gain_db: score_db(&effects.rescued) - score_db(&self.entire),
            });
        }
        let explained = if entire_noise > 0.0 {
            noises.iter().sum::<f64>() / entire_noise
        } else {
            1.0
        };
        report.additivity = Some(Additivity {
            explained,
            noise: entire_noise,
            sqnr_db: score_db(&self.entire),
            n_samples: self.n_samples,
            ..self.additivity
        });
    }
}

/// Adds samples, each with one measurement for each part.
fn add(comparisons: &mut Vec<Comparison>, samples: impl Iterator<Item = Vec<Moments>>) {
    for sample in samples {
        comparisons.resize(sample.len(), Comparison::new());
        for (comparison, moments) in comparisons.iter_mut().zip(&sample) {
            comparison.add(moments);
        }
    }
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

/// Noise over signal, the mean over parts.
fn noise(parts: &[Comparison]) -> f64 {
    let relative = |part: &Comparison| {
        let (signal, noise) = part.energies();
        noise / signal.max(f64::MIN_POSITIVE)
    };
    mean(parts.iter().map(relative))
}

/// Signal over noise in dB, the mean over parts: higher is better.
pub(crate) fn score_db(parts: &[Comparison]) -> f64 {
    let sqnr_db = |part: &Comparison| {
        let (signal, noise) = part.energies();
        if noise == 0.0 {
            MAX_SQNR_DB
        } else {
            (10.0 * (signal / noise).log10()).clamp(-MAX_SQNR_DB, MAX_SQNR_DB)
        }
    };
    mean(parts.iter().map(sqnr_db))
}

fn mean(figures: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = figures.len();
    if n == 0 {
        0.0
    } else {
        figures.sum::<f64>() / n as f64
    }
}
