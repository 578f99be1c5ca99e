//! How near plans come to the float network on some samples, whose golden outputs are computed once.

use qloupe_exec::Mode;
use qloupe_tensor::Tensor;
use rayon::prelude::*;

use crate::Error;
use crate::metrics::Comparison;
use crate::prepare::Network;
use crate::quantize::Quantized;
use crate::report::figure_of;
use crate::runner::{Named, Runner};
use crate::samples::Dataset;
use crate::sensitivity::{Parts, score_db};

/// Samples of a dataset that plans are judged on, at most: they tell plans apart.
const MAX_SAMPLES: usize = 16;

/// Samples with the outputs of the float network.
#[derive(Debug)]
pub struct Exam {
    samples: Vec<(Vec<(String, Tensor)>, Named)>,
    parts: Parts,
    mode: Mode,
}

/// What a plan comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Marks {
    /// The SQNR in dB, the mean over outputs and their slices, each pooled over the samples.
    pub mean_db: f64,
    /// That of the worst output, or slice of one.
    pub worst_db: f64,
    /// The mean cosine of the worst output, or slice of one.
    pub worst_cosine: f64,
    /// Which that is.
    pub worst: String,
}

impl Exam {
    /// Runs the float network on the samples.
    ///
    /// # Errors
    /// A run that fails.
    pub fn new(network: &Network, samples: Vec<Vec<(String, Tensor)>>, mode: Mode) -> Result<Self, Error> {
        let first = samples.first().map(Vec::as_slice).unwrap_or_default();
        let parts = Parts::find(network, first)?;
        let run = |inputs: Vec<(String, Tensor)>| {
            let golden = Runner::Float.run(network, &inputs, None)?;
            Ok((inputs, golden))
        };
        Ok(Self {
            samples: samples.into_par_iter().map(run).collect::<Result<_, Error>>()?,
            parts,
            mode,
        })
    }

    /// Runs the float network on samples of a dataset, evenly spread over all where there are many.
    ///
    /// # Errors
    /// A sample that cannot be read, a run that fails.
    pub fn of_dataset(network: &Network, dataset: &Dataset, mode: Mode) -> Result<Self, Error> {
        let n_batches = dataset.n_batches();
        let n = n_batches.min(MAX_SAMPLES);
        let samples = (0..n).map(|i| Ok(dataset.batch(i * n_batches / n)?.inputs));
        Self::new(network, samples.collect::<Result<_, Error>>()?, mode)
    }

    /// How many samples there are.
    pub fn n_samples(&self) -> usize {
        self.samples.len()
    }

    /// The samples.
    pub fn samples(&self) -> impl Iterator<Item = &[(String, Tensor)]> {
        self.samples.iter().map(|(inputs, _)| inputs.as_slice())
    }

    /// Runs a plan.
    ///
    /// # Errors
    /// Parameters that do not fit, a run that fails.
    pub fn judge(&self, network: &Network, quantized: &Quantized) -> Result<Marks, Error> {
        let program = quantized
            .prepared
            .quantized(network, &quantized.plan, self.mode)?;
        let runner = Runner::Quantized(Box::new(program));
        let of_sample = |(inputs, golden): &(Vec<(String, Tensor)>, Named)| {
            Ok(self.parts.measure(golden, &runner.run(network, inputs, None)?))
        };
        let measured = self.samples.par_iter().map(of_sample);
        let measured: Vec<_> = measured.collect::<Result<_, Error>>()?;
        let mut comparisons = vec![Comparison::new(); self.parts.len()];
        for sample in &measured {
            for (comparison, moments) in comparisons.iter_mut().zip(sample) {
                comparison.add(moments);
            }
        }
        let mut marks = Marks {
            mean_db: score_db(&comparisons),
            worst_db: f64::INFINITY,
            worst_cosine: 1.0,
            worst: String::new(),
        };
        for (key, comparison) in self.parts.keys().zip(&comparisons) {
            let metrics = comparison.finish();
            let figure = |id: &str| figure_of(&metrics, id);
            // What is not a number is the worst.
            let sqnr_db =
                figure("sqnr_db").map_or(
                    f64::INFINITY,
                    |db| if db.is_nan() { f64::NEG_INFINITY } else { db },
                );
            if sqnr_db < marks.worst_db || marks.worst.is_empty() {
                marks.worst_db = sqnr_db;
                key.clone_into(&mut marks.worst);
            }
            marks.worst_cosine = marks.worst_cosine.min(figure("cosine").unwrap_or(1.0));
        }
        Ok(marks)
    }
}
