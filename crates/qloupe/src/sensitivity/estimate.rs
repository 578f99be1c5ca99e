//! What each source does to the outputs, to first order: from gradients of the float network, without running it again.
//!
//! For the error `e` that a source makes at its own value and the Jacobian `J` from there to the outputs, the noise alone
//! is `|J e|^2`: the mean of `(J^T v . e)^2` over random signs `v` at the outputs (Hutchinson's estimator). With the error
//! `E` of the whole plan at the outputs, and the error `f` that the source makes on the values of the plan (it rounds other
//! numbers there), what is left without the source is `|E|^2 - 2 (J^T E . f) + |J f|^2`. Elements are weighted as in the exact figures: each output, and each slice of one, by its own energy, and all alike.
//!
//! A source whose gradient is incomplete is run again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use qloupe_exec::{Backward, ExecError, Stored, Value};
use qloupe_tensor::Tensor;
use rayon::prelude::*;

use super::lane::{Changed, Effect, Lane};
use super::parts::Parts;
use super::probes::{difference, probes, product};
use super::source::Variant;
use super::{MAX_GOLDEN_BYTES, MAX_LANES, Sensitivity};
use crate::Error;
use crate::quantize::Stages;
use crate::runner::Named;

/// Random signs times samples, at least.
const N_DRAWS: usize = 16;
/// Golden values that are likely to be asked for again.
const N_RECENT: usize = 12;

/// What a source does to the outputs, relative to their energy: the mean over outputs and their slices, and over samples.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Estimate {
    /// The row of the report that the source is told at.
    pub name: String,
    /// Its noise alone.
    pub alone: f64,
    /// The noise that is left of the whole plan without it.
    pub rescued: f64,
    /// The noise of the whole plan.
    pub entire: f64,
    /// False where it was run again on some sample.
    pub is_estimated: bool,
}

impl Estimate {
    /// What is won without the source, in decibels.
    pub(super) fn gain_db(&self) -> f64 {
        let left = self.rescued.max(f64::MIN_POSITIVE);
        10.0 * (self.entire.max(f64::MIN_POSITIVE) / left).log10()
    }
}

/// The error of a source at a value that it writes.
struct OwnError {
    source_idx: usize,
    /// On the values of the plan, or else on golden ones.
    is_of_plan: bool,
    error: Stored,
}

/// The products of a source's errors with the gradients of every seed: on golden values, and on those of the plan.
type Products = [Vec<f64>; 2];

/// Sums over samples.
#[derive(Clone, Debug, Default)]
struct Sums {
    alone: f64,
    rescued: f64,
    is_exact: bool,
}

impl Sensitivity<'_> {
    /// Estimates every source on some samples.
    ///
    /// # Errors
    /// A run that fails; inputs that do not fit.
    pub(super) fn estimate(
        &self,
        variants: &[Variant],
        samples: &[Vec<(String, Tensor)>],
        stages: Stages<'_>,
    ) -> Result<Vec<Estimate>, Error> {
        let Some(first) = samples.first() else {
            return Ok(Vec::new());
        };
        let network = self.network;
        let parts = Parts::find(network, first)?;
        let backward = Backward::new(&network.program).map_err(|e| network.located(e))?;
        let n_probes = N_DRAWS.div_ceil(samples.len());
        let limit_bytes = MAX_GOLDEN_BYTES / (2 * samples.len().min(MAX_LANES));
        let of_sample = |(sample_idx, inputs): (usize, &Vec<(String, Tensor)>)| {
            let mut lane = Lane::new(network, self.prepared, &self.program, &parts, inputs, limit_bytes)?;
            let seeds = Seeds::new(&parts, &mut lane, n_probes, sample_idx)?;
            let sums = self.estimate_sample(&backward, variants, &mut lane, &seeds)?;
            Ok((seeds.entire, sums))
        };
        let mut sums = vec![Sums::default(); variants.len()];
        let mut entire = 0.0;
        let numbered: Vec<_> = samples.iter().enumerate().collect();
        for (idx, group) in numbered.chunks(MAX_LANES).enumerate() {
            stages("estimate", idx * MAX_LANES, samples.len());
            let of_group = group.par_iter().copied().map(of_sample);
            for (of_plan, of_sources) in of_group.collect::<Result<Vec<_>, Error>>()? {
                entire += of_plan;
                for (sums, of_source) in sums.iter_mut().zip(of_sources) {
                    sums.alone += of_source.alone;
                    sums.rescued += of_source.rescued;
                    sums.is_exact |= of_source.is_exact;
                }
            }
        }
        stages("estimate", samples.len(), samples.len());
        let n = samples.len() as f64;
        let estimate = |(source, sums): (&super::Source, Sums)| Estimate {
            name: source.name.clone(),
            alone: sums.alone / n,
            rescued: sums.rescued / n,
            entire: entire / n,
            is_estimated: !sums.is_exact,
        };
        Ok(self.sources.iter().zip(sums).map(estimate).collect())
    }

    fn estimate_sample(
        &self,
        backward: &Backward<'_>,
        variants: &[Variant],
        lane: &mut Lane<'_>,
        seeds: &Seeds,
    ) -> Result<Vec<Sums>, Error> {
        let network = self.network;
        let located = |e| network.located(e);
        let mut errors: BTreeMap<String, Vec<OwnError>> = BTreeMap::new();
        let mut written: Vec<Option<Vec<String>>> = Vec::with_capacity(variants.len());
        for (source_idx, variant) in variants.iter().enumerate() {
            let changed = lane.own(variant, &[]).map_err(located)?;
            let names = |changed: &Changed| changed.iter().map(|(name, _)| name.clone()).collect();
            written.push(changed.as_ref().map(names));
            for (name, value) in changed.into_iter().flatten() {
                let golden = lane.golden_value(&name).map_err(located)?;
                let error = value
                    .as_tensor()
                    .zip(golden.as_tensor())
                    .and_then(|(test, golden)| difference(test, golden));
                if let Some(error) = error {
                    errors.entry(name).or_default().push(OwnError {
                        source_idx,
                        is_of_plan: false,
                        error,
                    });
                }
            }
            for (name, test, real) in lane.under_plan(variant).map_err(located)? {
                if let Some(error) = difference(&test, &real) {
                    errors.entry(name).or_default().push(OwnError {
                        source_idx,
                        is_of_plan: true,
                        error,
                    });
                }
            }
        }
        let n_seeds = seeds.gradients.len();
        let none: Products = [vec![0.0; n_seeds], vec![0.0; n_seeds]];
        let mut products = vec![none; variants.len()];
        let mut visit = |name: &str, gradients: &[Option<Stored>]| {
            for own in errors.remove(name).unwrap_or_default() {
                let each = gradients
                    .par_iter()
                    .map(|gradient| gradient.as_ref().map_or(0.0, |g| product(g, &own.error)));
                let each: Vec<f64> = each.collect();
                let sums = &mut products[own.source_idx][usize::from(own.is_of_plan)];
                for (sum, product) in sums.iter_mut().zip(each) {
                    *sum += product;
                }
            }
        };
        let mut recent: VecDeque<(String, Value)> = VecDeque::new();
        let incomplete = {
            let mut golden = |name: &str| -> Result<Value, ExecError> {
                if let Some((_, value)) = recent.iter().find(|(recent, _)| recent == name) {
                    return Ok(value.clone());
                }
                let value = lane.golden_value(name)?;
                recent.truncate(N_RECENT - 1);
                recent.push_front((name.to_owned(), value.clone()));
                Ok(value)
            };
            backward
                .run(&mut golden, &seeds.gradients, &mut visit)
                .map_err(located)?
        };
        let incomplete: BTreeSet<String> = incomplete.into_iter().map(|i| i.value).collect();
        let mut all = Vec::with_capacity(variants.len());
        for ((variant, written), products) in variants.iter().zip(written).zip(products) {
            let is_whole = written.is_some_and(|names| names.iter().all(|name| !incomplete.contains(name)));
            let [golden, under_plan] = &products;
            let sums = match under_plan.split_last() {
                Some((with_error, probes)) if is_whole => Sums {
                    alone: mean_square(&golden[..probes.len()]),
                    rescued: (seeds.entire - 2.0 * with_error + mean_square(probes)).max(0.0),
                    is_exact: false,
                },
                _ => {
                    let Effect { alone, rescued } = lane.effect(variant)?;
                    Sums {
                        alone: alone.map_or(0.0, |alone| noise_of(&alone.moments)),
                        rescued: noise_of(&rescued),
                        is_exact: true,
                    }
                }
            };
            all.push(sums);
        }
        Ok(all)
    }
}

fn mean_square(numbers: &[f64]) -> f64 {
    numbers.iter().map(|x| x * x).sum::<f64>() / numbers.len().max(1) as f64
}

/// Noise over signal of one sample, the mean over parts.
fn noise_of(parts: &[crate::metrics::Moments]) -> f64 {
    let mut comparisons = Vec::new();
    super::add(&mut comparisons, std::iter::once(parts.to_vec()));
    super::noise(&comparisons)
}

/// The gradients at the outputs of a sample that go back through the network: random signs, and last the error itself.
struct Seeds {
    gradients: Vec<Vec<(String, Tensor)>>,
    /// The noise of the whole plan.
    entire: f64,
}

impl Seeds {
    fn new(parts: &Parts, lane: &mut Lane<'_>, n_probes: usize, sample_idx: usize) -> Result<Self, Error> {
        let (golden, quantized) = lane.outputs()?;
        let weights = parts.weights(&golden);
        let mut entire = 0.0;
        let mut gradients = probes(&weights, &golden, n_probes, sample_idx)?;
        let mut of_error = Vec::new();
        for (name, y) in &golden {
            let Some((weights, errors)) = weights.get(name).zip(error_of(name, y, &quantized)) else {
                continue;
            };
            entire += errors.iter().zip(weights).map(|(e, w)| e * e * w).sum::<f64>();
            let weighted = errors.iter().zip(weights).map(|(e, w)| (e * w) as f32);
            of_error.push((name.clone(), Tensor::new(y.shape(), weighted.collect())?));
        }
        gradients.push(of_error);
        Ok(Self { gradients, entire })
    }
}

/// The error of an output. `None` where it has another shape.
fn error_of(name: &str, golden: &Tensor, quantized: &Named) -> Option<Vec<f64>> {
    let (_, test) = quantized.iter().find(|(other, _)| other == name)?;
    if test.shape() != golden.shape() {
        return None;
    }
    let pairs = test.as_slice::<f32>()?.iter().zip(golden.as_slice::<f32>()?);
    let finite = |v: f64| if v.is_finite() { v } else { 0.0 };
    Some(
        pairs
            .map(|(&t, &g)| finite(f64::from(t) - f64::from(g)))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Depth, rank_correlation};
    use super::*;
    use crate::plan::Method;
    use crate::prepare::Crop;
    use crate::quantize::{QuantizeOptions, quantize};
    use crate::recipe::Recipe;
    use crate::samples::Dataset;
    use crate::session::Session;
    use crate::{calibrate, targets};

    /// Least rank correlation of estimated and exact noise alone.
    const LEAST_CORRELATION_ALONE: f64 = 0.9;
    /// Least rank correlation of what is left without a source: differences of nearly equal numbers.
    const LEAST_CORRELATION_RESCUED: f64 = 0.25;

    #[test]
    fn estimates_rank_sources_as_exact_figures_do() {
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
        let recipe = Recipe::read(&testdata.join("fmnist/recipe.toml")).unwrap();
        for model in ["fmnist_resnet", "fmnist_mbv2"] {
            let path = testdata.join("models").join(model).with_extension("onnx");
            let session = Session::open(&path, &Crop::default(), &Default::default(), &recipe).unwrap();
            let dataset = Dataset::open(&testdata.join("fmnist/calib"), &session.inputs).unwrap();
            let options = QuantizeOptions {
                algorithm: calibrate::find("min_max").unwrap(),
                method: Method::Layer,
                optimization_level: 0,
                ..QuantizeOptions::new(targets::find("onnxruntime").unwrap())
            };
            let quantized = quantize(&session, &dataset, &options, &|_, _, _| ()).unwrap();
            let samples: Vec<_> = (0..4).map(|idx| dataset.batch(idx).unwrap().inputs).collect();
            let mut sensitivity =
                Sensitivity::new(&session.network, &quantized.prepared, &quantized.plan).unwrap();
            let variants = sensitivity.compile().unwrap();
            let estimates = sensitivity.estimate(&variants, &samples, &|_, _, _| ());
            let estimates = estimates.unwrap();
            sensitivity
                .observe(&samples, Depth::Exact, &|_, _, _| ())
                .unwrap();
            assert!(estimates.iter().all(|e| e.is_estimated), "{model}: {estimates:?}");
            let alone: Vec<f64> = estimates.iter().map(|e| e.alone).collect();
            let rescued: Vec<f64> = estimates.iter().map(|e| e.rescued).collect();
            let exact = sensitivity.noises();
            let left: Vec<f64> = sensitivity
                .effects
                .iter()
                .map(|effects| super::super::noise(&effects.rescued))
                .collect();
            let of_alone = rank_correlation(&alone, &exact);
            let of_rescued = rank_correlation(&rescued, &left);
            assert!(
                of_alone >= LEAST_CORRELATION_ALONE && of_rescued >= LEAST_CORRELATION_RESCUED,
                "{model}: {of_alone:.3} alone, {of_rescued:.3} rescued of {} sources",
                estimates.len()
            );
        }
    }
}
