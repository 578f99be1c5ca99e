//! How near a plan comes to the float network, in one number that passes are accepted by.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use qloupe_exec::{Mode, QuantizedProgram};
use qloupe_tensor::Tensor;
use rayon::prelude::*;

use crate::Error;
use crate::analyze::{SliceSpec, find_slices};
use crate::plan::PassRecord;
use crate::prepare::Network;
use crate::quantize::Quantized;
use crate::runner::{Named, Runner};

/// A pass has to win this much to stay.
pub(super) const LEAST_GAIN_DB: f64 = 0.01;
/// A correction that loses more is undone, even where a single sample does it and the standard error is as large.
const MOST_BY_CHANCE_DB: f64 = 0.5;
/// Nothing is better than this.
const MAX_SQNR_DB: f64 = 100.0;

/// Samples with the outputs of the float network.
#[derive(Debug)]
pub(super) struct Referee {
    samples: Vec<Vec<(String, Tensor)>>,
    golden: Vec<Named>,
    /// For each output the parts that have a range of their own.
    parts: Vec<Vec<SliceSpec>>,
}

impl Referee {
    /// Runs the float network on the samples.
    pub(super) fn new(network: &Network, samples: Vec<Vec<(String, Tensor)>>) -> Result<Self, Error> {
        let run = |inputs: &Vec<(String, Tensor)>| Runner::Float.run(network, inputs, None);
        let golden = samples.par_iter().map(run).collect::<Result<Vec<Named>, _>>()?;
        let mut shapes: HashMap<String, Vec<usize>> = HashMap::new();
        if let Some(first) = samples.first() {
            let mut see = |name: &str, tensor: &Tensor| {
                shapes.insert(name.to_owned(), tensor.shape().to_vec());
                Ok(())
            };
            Runner::Float.run(network, first, Some(&mut see))?;
        }
        let graph = &network.model.graph;
        let parts_of = |(name, tensor): &(String, Tensor)| find_slices(graph, &shapes, name, tensor);
        let parts = golden
            .first()
            .map(|outputs| outputs.iter().map(parts_of).collect());
        Ok(Self {
            samples,
            golden,
            parts: parts.unwrap_or_default(),
        })
    }

    /// The same with further samples.
    pub(super) fn with_samples(
        &self,
        network: &Network,
        more: impl Iterator<Item = Vec<(String, Tensor)>>,
    ) -> Result<Self, Error> {
        let mut referee = Self::new(network, more.collect())?;
        referee.samples.splice(0..0, self.samples.iter().cloned());
        referee.golden.splice(0..0, self.golden.iter().cloned());
        referee.parts.clone_from(&self.parts);
        Ok(referee)
    }

    /// The bytes of inputs and outputs of a sample.
    pub(super) fn bytes_of_sample(&self) -> usize {
        let tensors = self.samples.first().into_iter().chain(self.golden.first());
        let bytes = |(_, tensor): &(String, Tensor)| tensor.size_bytes();
        tensors.flatten().map(bytes).sum()
    }

    /// How many samples judge.
    pub(super) fn n_samples(&self) -> usize {
        self.samples.len()
    }

    /// [`Score::db`] of a plan.
    pub(super) fn score(&self, network: &Network, quantized: &Quantized) -> Result<f64, Error> {
        Ok(self.judge(network, quantized)?.db())
    }

    /// Runs a plan on the samples.
    pub(super) fn judge(&self, network: &Network, quantized: &Quantized) -> Result<Score, Error> {
        let Quantized { prepared, plan, .. } = quantized;
        // Not through the cache of the prepared graph: most plans that are judged are never run again.
        let program = QuantizedProgram::new(&prepared.program, &prepared.assignment(plan), Mode::Integer);
        let program = program.map_err(|e| network.located(e))?;
        let runner = Runner::Quantized(Box::new(program));
        let of_sample = |(inputs, golden): (&Vec<(String, Tensor)>, &Named)| {
            let outputs = runner.run(network, inputs, None)?;
            Ok(self.energies(golden, &outputs))
        };
        let samples = self.samples.par_iter().zip(&self.golden).map(of_sample);
        let samples = samples.collect::<Result<Vec<_>, Error>>()?;
        Ok(Score { samples })
    }

    /// What is said of a pass that was judged.
    pub(super) fn record(&self, pass: &str, before: f64, after: f64) -> PassRecord {
        PassRecord {
            pass: pass.to_owned(),
            kept: after >= before + LEAST_GAIN_DB,
            evidence: format!(
                "{before:.2} dB before, {after:.2} dB after, on {} samples held back",
                self.samples.len()
            ),
        }
    }

    /// What is said of a pass that lowers the error of every product on the samples it learned from.
    pub(super) fn record_of_correction(&self, pass: &str, before: &Score, after: &Score) -> PassRecord {
        let (before_db, after_db) = (before.db(), after.db());
        let mut record = self.record(pass, before_db, after_db);
        let chance_db = after.chance_db(before).min(MOST_BY_CHANCE_DB);
        if !record.kept && chance_db > 0.0 && after_db >= before_db - chance_db {
            record.kept = true;
            let _ = write!(
                record.evidence,
                ": no more than chance makes of these ({chance_db:.2} dB)"
            );
        }
        record
    }

    /// The energy of the signal and of the noise, of every part of every output of one sample.
    pub(super) fn energies(&self, golden: &Named, test: &Named) -> Vec<[f64; 2]> {
        let mut energies = Vec::new();
        for (((_, golden), (_, test)), parts) in golden.iter().zip(test).zip(&self.parts) {
            let (Some(reference), Some(values)) = (golden.as_slice::<f32>(), test.as_slice::<f32>()) else {
                continue;
            };
            if parts.is_empty() {
                energies.push(energy(reference, values));
            }
            for part in parts {
                let fits = golden.shape().get(part.axis).is_some_and(|&dim| dim >= part.end);
                energies.push(if fits {
                    energy(&part.cut(golden), &part.cut(test))
                } else {
                    [0.0; 2]
                });
            }
        }
        energies
    }

    /// How much the squared error of each element of the outputs counts: by the energy of its part over all samples.
    pub(super) fn weights(&self, golden: &Named, signals: &[f64]) -> BTreeMap<String, Vec<f64>> {
        let weight = |signal: &f64| if *signal > 0.0 { 1.0 / signal } else { 0.0 };
        let mut weights = signals.iter().map(weight);
        let mut of_outputs = BTreeMap::new();
        for ((name, golden), parts) in golden.iter().zip(&self.parts) {
            if golden.as_slice::<f32>().is_none() {
                continue;
            }
            let shape = golden.shape();
            let n: usize = shape.iter().product();
            let mut of_output = vec![0.0; n];
            if parts.is_empty() {
                of_output.fill(weights.next().unwrap_or(0.0));
            }
            for part in parts {
                let weight = weights.next().unwrap_or(0.0);
                let inside = (0..n).filter(|&idx| part.contains(shape, idx));
                inside.for_each(|idx| of_output[idx] += weight);
            }
            of_outputs.insert(name.clone(), of_output);
        }
        of_outputs
    }
}

/// What a plan gave on the samples of a referee.
#[derive(Debug)]
pub(super) struct Score {
    /// Of each sample, for every part of every output, the energy of the signal and of the noise.
    samples: Vec<Vec<[f64; 2]>>,
}

impl Score {
    /// The mean over all outputs, and over the parts of outputs that have a range of their own, of the SQNR in dB pooled
    /// over the samples; higher is better.
    pub(super) fn db(&self) -> f64 {
        db(&self.sums())
    }

    /// How much of a difference in dB to another plan the choice of the samples alone may make: its standard error, by
    /// leaving out each sample in turn (jackknife: Efron and Stein 1981). 0 for one sample, which tells nothing of it, and for
    /// noise that is NaN or infinite.
    pub(super) fn chance_db(&self, other: &Self) -> f64 {
        let without = |score: &Self, sums: &[[f64; 2]], idx: usize| {
            let left = sums.iter().zip(&score.samples[idx]);
            db(&left
                .map(|(all, one)| [all[0] - one[0], (all[1] - one[1]).max(0.0)])
                .collect::<Vec<_>>())
        };
        let (sums, other_sums) = (self.sums(), other.sums());
        if !sums
            .iter()
            .chain(&other_sums)
            .flatten()
            .all(|sum| sum.is_finite())
        {
            return 0.0;
        }
        let n = self.samples.len() as f64;
        let differences =
            (0..self.samples.len()).map(|idx| without(self, &sums, idx) - without(other, &other_sums, idx));
        let differences: Vec<f64> = differences.collect();
        let mean = differences.iter().sum::<f64>() / n;
        let squares: f64 = differences.iter().map(|d| (d - mean) * (d - mean)).sum();
        ((n - 1.0) / n * squares).sqrt()
    }

    fn sums(&self) -> Vec<[f64; 2]> {
        let n_parts = self.samples.first().map_or(0, Vec::len);
        let pooled = |part: usize, which: usize| -> f64 {
            self.samples.iter().map(|sample| sample[part][which]).sum()
        };
        (0..n_parts)
            .map(|part| [pooled(part, 0), pooled(part, 1)])
            .collect()
    }
}

/// The mean of the SQNR of parts.
fn db(parts: &[[f64; 2]]) -> f64 {
    let sqnr_db = |&[signal, noise]: &[f64; 2]| {
        if noise == 0.0 {
            return MAX_SQNR_DB;
        }
        if noise.is_nan() {
            return f64::NEG_INFINITY;
        }
        (10.0 * (signal / noise).log10()).clamp(-MAX_SQNR_DB, MAX_SQNR_DB)
    };
    parts.iter().map(sqnr_db).sum::<f64>() / parts.len().max(1) as f64
}

fn energy(reference: &[f32], test: &[f32]) -> [f64; 2] {
    let mut sums = [0.0; 2];
    for (&a, &b) in reference.iter().zip(test) {
        let (a, b) = (f64::from(a), f64::from(b));
        sums[0] += a * a;
        sums[1] += (a - b) * (a - b);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One output with the same signal on every sample.
    fn score(noises: [f64; 4]) -> Score {
        Score {
            samples: noises.map(|noise| vec![[1.0, noise]]).to_vec(),
        }
    }

    #[test]
    fn chance_is_the_standard_error_of_the_difference() {
        let (before, after) = (
            score([0.01, 0.02, 0.01, 0.02]),
            score([0.011, 0.019, 0.011, 0.019]),
        );
        assert!(
            (after.db() - before.db()).abs() < 1e-9,
            "the noise of all samples is the same"
        );
        // Of the differences of noise over its mean, in dB: 10 / ln 10 * sqrt(4 / 3 * (0.001 / 0.015)^2 / 4).
        let chance_db = after.chance_db(&before);
        assert!((chance_db - 0.167).abs() < 0.01, "{chance_db}");
        assert!(before.chance_db(&before).abs() < 1e-12, "no difference to itself");
    }

    #[test]
    fn a_correction_stays_unless_it_is_worse_by_more_than_chance() {
        let referee = Referee {
            samples: Vec::new(),
            golden: Vec::new(),
            parts: Vec::new(),
        };
        let before = score([0.01, 0.02, 0.01, 0.02]);
        let judge = |noises| referee.record_of_correction("pass", &before, &score(noises));
        assert!(judge([0.009; 4]).kept, "better");
        let by_chance = judge([0.013, 0.019, 0.0105, 0.018]);
        assert!(by_chance.kept && by_chance.evidence.contains("chance"));
        assert!(!judge([0.011, 0.021, 0.011, 0.021]).kept, "worse everywhere");
        assert!(!judge([0.01, 0.02, 0.01, 0.02]).kept, "the same");
        assert!(!judge([0.01, 0.02, 0.01, 1.0]).kept, "one sample is ruined");
        assert!(
            !judge([0.01, 0.02, 0.01, f64::INFINITY]).kept,
            "one sample is infinite"
        );
    }
}
