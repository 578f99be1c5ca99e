//! The parts of the network outputs that effects are measured at: each output, and the slices of it that mean something of
//! their own.

use std::collections::{BTreeMap, HashMap};

use qloupe_tensor::Tensor;

use crate::Error;
use crate::analyze::{Decisions, SliceSpec, find_slices};
use crate::metrics::Moments;
use crate::prepare::Network;
use crate::runner::{Named, Runner};

/// The parts, in the order of the outputs.
#[derive(Debug)]
pub(crate) struct Parts {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    output: String,
    slice: Option<SliceSpec>,
    key: String,
    /// The decisions it stands for, where it looks like scores of classes; none is counted yet.
    decisions: Option<Decisions>,
}

impl Parts {
    /// Finds the parts in what the float network makes of a sample.
    pub(crate) fn find(network: &Network, inputs: &[(String, Tensor)]) -> Result<Self, Error> {
        let mut shapes: HashMap<String, Vec<usize>> = HashMap::new();
        let mut see = |name: &str, tensor: &Tensor| {
            shapes.insert(name.to_owned(), tensor.shape().to_vec());
            Ok(())
        };
        let golden = Runner::Float.run(network, inputs, Some(&mut see))?;
        let mut parts = Vec::new();
        for (name, tensor) in golden
            .iter()
            .filter(|(_, tensor)| tensor.as_slice::<f32>().is_some())
        {
            let slices = find_slices(&network.model.graph, &shapes, name, tensor);
            let (shape, values) = (tensor.shape(), tensor.as_slice::<f32>().unwrap_or_default());
            parts.push(Part {
                output: name.clone(),
                slice: None,
                key: name.clone(),
                decisions: Decisions::of_output(shape, values, slices.is_empty()),
            });
            parts.extend(slices.into_iter().map(|slice| Part {
                output: name.clone(),
                key: format!("{name}[{}..{}]", slice.start, slice.end),
                decisions: Decisions::of_slice(&slice, shape, &slice.cut(tensor)),
                slice: Some(slice),
            }));
        }
        Ok(Self { parts })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// The names: that of the output, and of a slice `output[4..84]`.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.key.as_str())
    }

    /// How much the squared error of each element of an output counts in the noise: the mean over parts of the energy of the
    /// error over that of the part.
    pub(super) fn weights(&self, golden: &Named) -> BTreeMap<String, Vec<f64>> {
        let mut weights: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (name, tensor) in golden {
            let Some(values) = tensor.as_slice::<f32>() else {
                continue;
            };
            let of_output = weights
                .entry(name.clone())
                .or_insert_with(|| vec![0.0; values.len()]);
            for part in self.parts.iter().filter(|part| part.output == *name) {
                part.weigh(tensor.shape(), values, self.parts.len(), of_output);
            }
        }
        weights
    }

    /// Measures outputs against the golden ones, part by part. What is not there, or has another shape, measures nothing.
    pub(crate) fn measure(&self, golden: &Named, test: &Named) -> Vec<Moments> {
        self.parts.iter().map(|part| part.measure(golden, test)).collect()
    }

    /// As [`Parts::measure`], with the answers.
    pub(super) fn measure_with_decisions(&self, golden: &Named, test: &Named) -> Measured {
        Measured {
            moments: self.measure(golden, test),
            decisions: self.parts.iter().map(|part| part.decide(golden, test)).collect(),
        }
    }
}

/// Measurements and decisions of one sample, for each part.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) moments: Vec<Moments>,
    pub(super) decisions: Vec<Option<Decisions>>,
}

impl Part {
    /// The decisions of one sample.
    fn decide(&self, golden: &Named, test: &Named) -> Option<Decisions> {
        let mut decisions = self.decisions.clone()?;
        let (golden, test) = (self.of(golden)?, self.of(test)?);
        let shape = golden.shape();
        if test.shape() != shape {
            return None;
        }
        match &self.slice {
            Some(slice) => decisions.observe_scores(shape, &slice.cut(golden), &slice.cut(test)),
            None => decisions.observe_scores(shape, golden.as_slice::<f32>()?, test.as_slice::<f32>()?),
        }
        Some(decisions)
    }

    /// The output it is a part of.
    fn of<'n>(&self, outputs: &'n Named) -> Option<&'n Tensor> {
        let found = outputs.iter().find(|(name, _)| *name == self.output);
        found.map(|(_, tensor)| tensor)
    }

    /// Adds the weight of its elements.
    fn weigh(&self, shape: &[usize], values: &[f32], n_parts: usize, weights: &mut [f64]) {
        let slice = self.slice.as_ref();
        let is_inside = |idx: usize| slice.is_none_or(|slice| slice.contains(shape, idx));
        let square = |v: f32| f64::from(v) * f64::from(v);
        let inside = || values.iter().enumerate().filter(|(idx, _)| is_inside(*idx));
        let energy: f64 = inside().map(|(_, &v)| square(v)).filter(|e| e.is_finite()).sum();
        let weight = 1.0 / (energy.max(f64::MIN_POSITIVE) * n_parts as f64);
        if energy > 0.0 {
            inside().for_each(|(idx, _)| weights[idx] += weight);
        }
    }

    fn measure(&self, golden: &Named, test: &Named) -> Moments {
        let (Some(golden), Some(test)) = (self.of(golden), self.of(test)) else {
            return Moments::default();
        };
        let measured = match &self.slice {
            Some(slice) => {
                let fits = |tensor: &Tensor| {
                    tensor
                        .shape()
                        .get(slice.axis)
                        .is_some_and(|&dim| dim >= slice.end)
                };
                if !fits(golden) || !fits(test) {
                    return Moments::default();
                }
                Moments::measure(&slice.cut(golden), &slice.cut(test), None)
            }
            None => {
                let values = |tensor: &Tensor| tensor.as_slice::<f32>().unwrap_or_default().to_vec();
                Moments::measure(&values(golden), &values(test), None)
            }
        };
        measured.unwrap_or_default()
    }
}
