//! How near a plan comes to the float network, in one number that passes are accepted by.

use std::collections::{BTreeMap, HashMap};

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

    /// The mean over all outputs, and over the parts of outputs that have a range of their own, of the SQNR in dB pooled
    /// over the samples; higher is better.
    pub(super) fn score(&self, network: &Network, quantized: &Quantized) -> Result<f64, Error> {
        let Quantized { prepared, plan, .. } = quantized;
        // Not through the cache of the prepared graph: most plans that are judged are never run again.
        let program = QuantizedProgram::new(&prepared.program, &prepared.assignment(plan), Mode::Integer);
        let program = program.map_err(|e| network.located(e))?;
        let runner = Runner::Quantized(Box::new(program));
        let of_sample = |(inputs, golden): (&Vec<(String, Tensor)>, &Named)| {
            let outputs = runner.run(network, inputs, None)?;
            Ok(self.energies(golden, &outputs))
        };
        let sums = self.samples.par_iter().zip(&self.golden).map(of_sample);
        let sums = sums.collect::<Result<Vec<Vec<[f64; 2]>>, Error>>()?;
        let n_parts = sums.first().map_or(0, Vec::len);
        let pooled =
            |part: usize, which: usize| -> f64 { sums.iter().map(|sample| sample[part][which]).sum() };
        let sqnr_db = |part: usize| {
            let (signal, noise) = (pooled(part, 0), pooled(part, 1));
            if noise == 0.0 {
                return MAX_SQNR_DB;
            }
            if noise.is_nan() {
                return f64::NEG_INFINITY;
            }
            (10.0 * (signal / noise).log10()).clamp(-MAX_SQNR_DB, MAX_SQNR_DB)
        };
        Ok((0..n_parts).map(sqnr_db).sum::<f64>() / n_parts.max(1) as f64)
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

fn energy(reference: &[f32], test: &[f32]) -> [f64; 2] {
    let mut sums = [0.0; 2];
    for (&a, &b) in reference.iter().zip(test) {
        let (a, b) = (f64::from(a), f64::from(b));
        sums[0] += a * a;
        sums[1] += (a - b) * (a - b);
    }
    sums
}
