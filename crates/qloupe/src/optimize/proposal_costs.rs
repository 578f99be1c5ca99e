//! What proposed ranges cost: the squared error that each makes at the network outputs, relative to their energy, with
//! everything else golden.
//!
//! To first order, from gradients, on many samples at once. A value whose gradient is incomplete - a recurrent node or a TopK
//! reads it - is quantized and run again on a few.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use qloupe_exec::{Backward, Form, Mode, Replay, Stored, Value, to_form};
use qloupe_tensor::{QuantParams, Tensor};
use rayon::prelude::*;

use super::race::Proposal;
use super::score::Referee;
use crate::Error;
use crate::prepare::{Network, Prepared};
use crate::runner::Named;
use crate::sensitivity::{difference, probes, product};

/// Random signs times samples, at least.
const N_DRAWS: usize = 64;
/// Proposals that are run again, over all values and samples, and samples of each, at most.
const MAX_RUNS: usize = 4096;
const MAX_RUN_SAMPLES: usize = 8;
/// Golden values that stay in memory, of all samples that are worked on at once; others are computed again.
const MAX_GOLDEN_BYTES: usize = 512 << 20;

/// Proposed parameters by value.
pub(super) type Proposals = BTreeMap<String, Vec<Proposal>>;
/// The cost of each proposal by value.
pub(super) type Costs = BTreeMap<String, Vec<f64>>;

/// What the proposals are judged on.
pub(super) struct Judged<'a> {
    pub(super) network: &'a Network,
    pub(super) prepared: &'a Prepared,
    pub(super) referee: &'a Referee,
    pub(super) samples: &'a [Vec<(String, Tensor)>],
}

impl Judged<'_> {
    /// The cost of every proposal, and after each group of samples `told` how many are done.
    pub(super) fn costs(
        &self,
        proposals: &Proposals,
        told: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Costs, Error> {
        let located = |e| self.network.located(e);
        let backward = Backward::new(&self.prepared.program).map_err(located)?;
        let signals = self.signals()?;
        let n_lanes = rayon::current_num_threads().min(self.samples.len()).max(1);
        let numbered: Vec<_> = self.samples.iter().enumerate().collect();
        let mut costs = Costs::new();
        let mut incomplete = BTreeSet::new();
        for group in numbered.chunks(n_lanes) {
            let of_sample = |&(sample_idx, inputs): &(usize, &Vec<(String, Tensor)>)| {
                let limit = MAX_GOLDEN_BYTES / n_lanes;
                let replay = Replay::of_float_with_interiors(&self.prepared.program, inputs, limit);
                let replay = replay.map_err(located)?;
                self.estimate(&backward, replay, proposals, &signals, sample_idx)
            };
            let of_group = group.par_iter().map(of_sample);
            for (of_sample, lacking) in of_group.collect::<Result<Vec<_>, Error>>()? {
                incomplete.extend(lacking);
                for (name, of_value) in of_sample {
                    let sums = costs.entry(name).or_insert_with(|| vec![0.0; of_value.len()]);
                    sums.iter_mut().zip(of_value).for_each(|(sum, cost)| *sum += cost);
                }
            }
            told(group.last().map_or(0, |(idx, _)| idx + 1), self.samples.len());
        }
        let again = |(name, _): &(&String, &Vec<Proposal>)| incomplete.contains(*name);
        let again: Vec<_> = proposals.iter().filter(again).collect();
        if !again.is_empty() {
            costs.extend(self.run_again(&again)?);
        }
        // A value that no output depends on costs nothing.
        for (name, of_value) in proposals {
            costs
                .entry(name.clone())
                .or_insert_with(|| vec![0.0; of_value.len()]);
        }
        Ok(costs)
    }

    /// The energy of every part of the outputs over all samples.
    fn signals(&self) -> Result<Vec<f64>, Error> {
        let of_sample = |inputs: &Vec<(String, Tensor)>| {
            let golden = crate::runner::Runner::Float.run(self.network, inputs, None)?;
            Ok(self.referee.energies(&golden, &golden))
        };
        let all = self.samples.par_iter().map(of_sample);
        let all = all.collect::<Result<Vec<Vec<[f64; 2]>>, Error>>()?;
        let n_parts = all.first().map_or(0, Vec::len);
        Ok((0..n_parts)
            .map(|part| all.iter().map(|sample| sample[part][0]).sum())
            .collect())
    }

    /// The costs on one sample, and the values whose gradients are incomplete.
    fn estimate(
        &self,
        backward: &Backward<'_>,
        mut replay: Replay<'_>,
        proposals: &Proposals,
        signals: &[f64],
        sample_idx: usize,
    ) -> Result<(Costs, Vec<String>), Error> {
        let located = |e| self.network.located(e);
        let golden = self.outputs(&mut replay, Vec::new())?;
        let weights = self.referee.weights(&golden, signals);
        let n_probes = N_DRAWS.div_ceil(self.samples.len());
        let seeds = probes(&weights, &golden, n_probes, sample_idx)?;
        let replay = Mutex::new(replay);
        let golden_of = |name: &str| {
            let mut replay = replay.lock().unwrap_or_else(PoisonError::into_inner);
            replay.golden(name)
        };
        let mut costs = Costs::new();
        let mut failed = None;
        let mut visit = |name: &str, gradients: &[Option<Stored>]| {
            let Some(proposals) = proposals.get(name) else {
                return;
            };
            match golden_of(name) {
                Ok(value) => {
                    let cost = |proposal: &Proposal| {
                        let error = error_of(&value, &proposal.params)?;
                        let products = gradients.iter().flatten().map(|g| product(g, &error));
                        Some(products.map(|p| p * p).sum::<f64>() / n_probes as f64)
                    };
                    let of_value: Option<Vec<f64>> = proposals.par_iter().map(cost).collect();
                    costs.extend(of_value.map(|of_value| (name.to_owned(), of_value)));
                }
                Err(e) => failed = Some(e),
            }
        };
        let incomplete = backward.run(&mut |name: &str| golden_of(name), &seeds, &mut visit);
        let incomplete = incomplete.map_err(located)?;
        match failed {
            Some(e) => Err(located(e)),
            None => Ok((costs, incomplete.into_iter().map(|i| i.value).collect())),
        }
    }

    /// The costs of some values, each proposal run from there to the outputs.
    fn run_again(&self, again: &[(&String, &Vec<Proposal>)]) -> Result<Costs, Error> {
        let n_proposals: usize = again.iter().map(|(_, of_value)| of_value.len()).sum();
        let n_samples = (MAX_RUNS / n_proposals.max(1)).clamp(1, MAX_RUN_SAMPLES);
        let samples = &self.samples[..n_samples.min(self.samples.len())];
        let of_sample = |inputs: &Vec<(String, Tensor)>| self.energies(again, inputs);
        let of_samples = samples
            .par_iter()
            .map(of_sample)
            .collect::<Result<Vec<Energies>, Error>>()?;
        let cost = |name: &str, idx: usize| {
            let of_value = of_samples.iter().filter_map(|sample| sample.get(name)?.get(idx));
            let mut sums: Vec<[f64; 2]> = Vec::new();
            for parts in of_value {
                sums.resize(parts.len(), [0.0; 2]);
                for (sum, part) in sums.iter_mut().zip(parts) {
                    *sum = [sum[0] + part[0], sum[1] + part[1]];
                }
            }
            let relative = sums
                .iter()
                .map(|[signal, noise]| noise / signal.max(f64::MIN_POSITIVE));
            relative.sum::<f64>()
        };
        let costs = |(name, proposals): &(&String, &Vec<Proposal>)| {
            let costs = (0..proposals.len()).map(|idx| cost(name, idx)).collect();
            ((*name).clone(), costs)
        };
        Ok(again.iter().map(costs).collect())
    }

    /// One sample: what each proposal of some values does to the outputs.
    fn energies(
        &self,
        again: &[(&String, &Vec<Proposal>)],
        inputs: &[(String, Tensor)],
    ) -> Result<Energies, Error> {
        let limit = MAX_GOLDEN_BYTES / rayon::current_num_threads();
        let replay = Replay::of_float(&self.prepared.program, inputs, limit);
        let mut replay = replay.map_err(|e| self.network.located(e))?;
        let golden = self.outputs(&mut replay, Vec::new())?;
        let mut energies = Energies::new();
        for (name, proposals) in again {
            let Ok(value) = replay.golden(name) else { continue };
            let mut of_value = Vec::new();
            for proposal in *proposals {
                let Some(changed) = quantized(&value, &proposal.params) else {
                    break;
                };
                let outputs = self.outputs(&mut replay, vec![((*name).clone(), changed.into())])?;
                of_value.push(self.referee.energies(&golden, &outputs));
            }
            energies.insert((*name).clone(), of_value);
        }
        Ok(energies)
    }

    /// The outputs with some values changed; what is no tensor is left out alike in all runs.
    fn outputs(&self, replay: &mut Replay<'_>, changed: Vec<(String, Value)>) -> Result<Named, Error> {
        let outputs = &self.network.model.graph.outputs;
        let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
        let replayed = replay.run(changed, &names).map_err(|e| self.network.located(e))?;
        let tensor = |(name, value): (&&str, &Value)| {
            Some((
                (*name).to_owned(),
                value.as_tensor().map(Stored::to_plain)?.clone(),
            ))
        };
        Ok(names.iter().zip(&replayed.values).filter_map(tensor).collect())
    }
}

/// For each value and proposal, signal and noise of every part of the outputs.
type Energies = BTreeMap<String, Vec<Vec<[f64; 2]>>>;

/// What is left of a float value after quantization; `None` for others.
fn quantized(value: &Value, params: &QuantParams) -> Option<Stored> {
    let stored = value.as_tensor()?;
    stored.physical().as_slice::<f32>()?;
    Some(to_form(stored, &Form::Quantized(params.clone()), Mode::FakeQuant))
}

/// The error that quantization makes.
fn error_of(value: &Value, params: &QuantParams) -> Option<Stored> {
    difference(&quantized(value, params)?, value.as_tensor()?)
}
