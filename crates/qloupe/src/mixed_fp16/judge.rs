//! How near outputs come to those of the float network: the worst part of the worst output of the worst sample.

use std::collections::HashMap;
use std::fmt;

use qloupe_exec::QuantizedProgram;
use qloupe_tensor::Tensor;
use rayon::prelude::*;

use super::MIN_SQNR_DB;
use crate::Error;
use crate::analyze::{SliceSpec, find_slices};
use crate::prepare::Network;
use crate::runner::{Named, Runner};
use crate::samples::Batch;

/// What was found on samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The signal to noise ratio of the worst output, or part of one, of one sample in dB, higher is better; `+inf` where
    /// all are equal, `-inf` where one is not finite although that of the float network is.
    pub sqnr_db: f64,
    /// The output; empty where all are equal.
    pub place: String,
}

impl Verdict {
    /// Every output is equal.
    pub const EXACT: Self = Self {
        sqnr_db: f64::INFINITY,
        place: String::new(),
    };

    /// True where every output is near enough.
    pub fn passes(&self) -> bool {
        self.sqnr_db >= MIN_SQNR_DB
    }

    /// The worse of two.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        if other.sqnr_db < self.sqnr_db { other } else { self }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            return f.write_str("every output is equal");
        }
        if self.sqnr_db == f64::NEG_INFINITY {
            return write!(f, "{} is lost", self.place);
        }
        write!(f, "{} has {:.2} dB", self.place, self.sqnr_db)
    }
}

/// Inputs with the outputs of the float network.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) inputs: Named,
    pub(super) golden: Named,
}

impl Sample {
    pub(super) fn new(network: &Network, inputs: Named) -> Result<Self, Error> {
        let golden = Runner::Float.run(network, &inputs, None)?;
        Ok(Self { inputs, golden })
    }
}

/// Who compares outputs.
#[derive(Debug)]
pub(super) struct Judge {
    /// For each output the parts that have a range of their own.
    parts: Vec<Vec<SliceSpec>>,
}

impl Judge {
    /// Finds the parts of the outputs in the first sample.
    pub(super) fn new(network: &Network, first: &Batch) -> Result<Self, Error> {
        let mut shapes: HashMap<String, Vec<usize>> = HashMap::new();
        let mut see = |name: &str, tensor: &Tensor| {
            shapes.insert(name.to_owned(), tensor.shape().to_vec());
            Ok(())
        };
        let outputs = Runner::Float.run(network, &first.inputs, Some(&mut see))?;
        let parts_of =
            |(name, tensor): &(String, Tensor)| find_slices(&network.model.graph, &shapes, name, tensor);
        Ok(Self {
            parts: outputs.iter().map(parts_of).collect(),
        })
    }

    /// The worst of some samples.
    pub(super) fn worst(
        &self,
        network: &Network,
        program: QuantizedProgram,
        samples: &[Sample],
    ) -> Result<Verdict, Error> {
        let runner = Runner::Quantized(Box::new(program));
        let of_sample = |sample: &Sample| {
            let outputs = runner.run(network, &sample.inputs, None)?;
            Ok(self.verdict(&sample.golden, &outputs))
        };
        let verdicts: Vec<Result<Verdict, Error>> = samples.par_iter().map(of_sample).collect();
        verdicts
            .into_iter()
            .try_fold(Verdict::EXACT, |worst, verdict| Ok(worst.worse(verdict?)))
    }

    /// Compares the outputs of one sample.
    pub(super) fn verdict(&self, golden: &Named, test: &Named) -> Verdict {
        let mut worst = Verdict::EXACT;
        for (((name, golden), (_, test)), parts) in golden.iter().zip(test).zip(&self.parts) {
            let mut compare = |place: String, reference: &[f32], values: &[f32]| {
                let sqnr_db = sqnr_db(reference, values);
                worst = std::mem::replace(&mut worst, Verdict::EXACT).worse(Verdict { sqnr_db, place });
            };
            let (Some(reference), Some(values)) = (golden.as_slice::<f32>(), test.as_slice::<f32>()) else {
                continue;
            };
            compare(format!("output \"{name}\""), reference, values);
            let fits = |part: &&SliceSpec| {
                let has = |tensor: &Tensor| tensor.shape().get(part.axis).is_some_and(|&dim| dim >= part.end);
                has(golden) && has(test)
            };
            for part in parts.iter().filter(fits) {
                let place = format!("output \"{name}\" [{}..{}]", part.start, part.end);
                compare(place, &part.cut(golden), &part.cut(test));
            }
        }
        worst
    }
}

/// The signal to noise ratio in dB. What is not finite in the reference has to be the same in the test.
fn sqnr_db(reference: &[f32], test: &[f32]) -> f64 {
    let (mut signal, mut noise) = (0.0_f64, 0.0_f64);
    for (&a, &b) in reference.iter().zip(test) {
        let is_same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        if is_same && !a.is_finite() {
            continue;
        }
        let (a, b) = (f64::from(a), f64::from(b));
        signal += a * a;
        noise += (a - b) * (a - b);
    }
    if reference.len() != test.len() || !noise.is_finite() {
        return f64::NEG_INFINITY;
    }
    if noise == 0.0 {
        return f64::INFINITY;
    }
    10.0 * (signal / noise).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_lost() {
        struct Case {
            reference: Vec<f32>,
            test: Vec<f32>,
            sqnr_db: f64,
        }
        let inf = f32::INFINITY;
        #[rustfmt::skip]
        let cases = [
            Case { reference: vec![1.0, 2.0], test: vec![1.0, 2.0], sqnr_db: f64::INFINITY },
            Case { reference: vec![10.0, 0.0], test: vec![10.0, 0.1], sqnr_db: 40.0 },
            Case { reference: vec![1.0, 2.0], test: vec![1.0, inf], sqnr_db: f64::NEG_INFINITY },
            Case { reference: vec![1.0, 2.0], test: vec![1.0, f32::NAN], sqnr_db: f64::NEG_INFINITY },
            Case { reference: vec![1.0, inf], test: vec![1.0, inf], sqnr_db: f64::INFINITY },
            Case { reference: vec![1.0, inf], test: vec![1.0, -inf], sqnr_db: f64::NEG_INFINITY },
            Case { reference: vec![0.0], test: vec![1.0], sqnr_db: f64::NEG_INFINITY },
            Case { reference: vec![], test: vec![], sqnr_db: f64::INFINITY },
        ];
        const TOLERANCE_DB: f64 = 1e-4;
        for Case {
            reference,
            test,
            sqnr_db: expected,
        } in cases
        {
            let found = sqnr_db(&reference, &test);
            let is_near = found.total_cmp(&expected).is_eq() || (found - expected).abs() < TOLERANCE_DB;
            assert!(is_near, "{reference:?} {test:?}: {found} dB, expected {expected}");
        }
    }
}
