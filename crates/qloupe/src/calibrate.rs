//! Calibration: one streaming pass over samples, statistics of float values, and algorithms that make ranges of them. A
//! new algorithm is a file and two lines here.

mod auto;
mod entropy;
pub mod histogram;
mod min_max;
mod moving_average;
pub(crate) mod mse;
pub mod noise;
mod octav;
pub(crate) mod percentile;
mod sketch;
pub mod statistics_file;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use qloupe_exec::{Program, Stored, Tapped};
use qloupe_kernels::{MinMax, min_max};
use qloupe_tensor::{QuantScheme, Range};
use rayon::prelude::*;

use crate::Error;
use crate::own_threads::on_own_threads;
use crate::samples::{Batch, Dataset};

pub use sketch::Sketch;

/// A calibration algorithm: how the values that were seen become a range.
pub trait Algorithm: Sync {
    /// The id.
    fn id(&self) -> &'static str;
    /// Names that other tools give it.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }
    /// One line for lists.
    fn title(&self) -> &'static str;
    /// True when it looks at the ranges of samples only: values then need not be in memory.
    fn needs_ranges_only(&self) -> bool {
        false
    }
    /// True when the ranges of all other algorithms compete for each value.
    fn races(&self) -> bool {
        false
    }
    /// The range of a value under a scheme. It lies inside the range that was seen.
    fn range(&self, sketch: &Sketch, scheme: &QuantScheme) -> Range;
}

/// Every algorithm, by id.
pub const ALL: &[&dyn Algorithm] = &[
    &auto::Auto,
    &entropy::Entropy,
    &min_max::MinMax,
    &moving_average::MovingAverage,
    &mse::Mse,
    &octav::Octav,
    &percentile::Percentile,
];

/// The algorithm of an id or alias.
///
/// # Errors
/// [`Error::UnknownChoice`] with all ids.
pub fn find(name: &str) -> Result<&'static dyn Algorithm, Error> {
    let found = ALL
        .iter()
        .copied()
        .find(|a| a.id() == name || a.aliases().contains(&name));
    found.ok_or_else(|| Error::unknown_choice("algorithm", name, ALL.iter().map(|a| a.id())))
}

/// What was seen of every float value that was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Value to statistics.
    pub sketches: BTreeMap<String, Sketch>,
    /// How many samples were seen.
    pub n_samples: usize,
}

impl Statistics {
    /// The range that an algorithm gives each value.
    pub fn ranges(&self, algorithm: &dyn Algorithm, scheme: &QuantScheme) -> BTreeMap<String, Range> {
        let sketches: Vec<(&String, &Sketch)> = self.sketches.iter().collect();
        let range = |(name, sketch): (&String, &Sketch)| (name.clone(), algorithm.range(sketch, scheme));
        sketches.into_par_iter().map(range).collect()
    }

    /// True when histograms were counted, which most algorithms need.
    pub fn has_histograms(&self) -> bool {
        self.sketches
            .values()
            .all(|sketch| !sketch.histogram().is_empty())
    }
}

/// Told after every batch how many are done, of how many.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// Runs the first `n_batches` of a dataset in float and observes the named values. Samples are shared among the threads;
/// the statistics do not depend on how many there are. `ranges_only` counts no histograms, which is faster.
///
/// # Errors
/// A sample that cannot be read, a run that fails, a value that is not finite: of the first such sample.
pub fn calibrate(
    program: &Program,
    names: &BTreeSet<String>,
    dataset: &Dataset,
    n_batches: usize,
    ranges_only: bool,
    progress: Progress<'_>,
) -> Result<Statistics, Error> {
    let n_parts = rayon::current_num_threads().min(n_batches).max(1);
    let done = AtomicUsize::new(0);
    let calibrate_part = |part: usize| {
        let mut calibration = Calibration::new(program, names, ranges_only);
        for idx in part * n_batches / n_parts..(part + 1) * n_batches / n_parts {
            calibration.observe(&dataset.batch(idx)?)?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, n_batches);
        }
        Ok(calibration)
    };
    let n_threads = rayon::current_num_threads() / n_parts;
    let calibrate_part = |part| on_own_threads(n_threads, || calibrate_part(part));
    let parts: Vec<Result<Calibration<'_>, Error>> =
        (0..n_parts).into_par_iter().map(calibrate_part).collect();
    let mut all = Calibration::new(program, names, ranges_only);
    for part in parts {
        all.merge(part?);
    }
    Ok(all.finish())
}

/// A calibration in progress.
pub struct Calibration<'p> {
    program: &'p Program,
    names: &'p BTreeSet<String>,
    ranges_only: bool,
    statistics: Statistics,
}

impl std::fmt::Debug for Calibration<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calibration")
            .field("n_samples", &self.statistics.n_samples)
            .finish_non_exhaustive()
    }
}

impl<'p> Calibration<'p> {
    /// Begins a calibration of the named values on the float program. `ranges_only` counts no histograms.
    pub fn new(program: &'p Program, names: &'p BTreeSet<String>, ranges_only: bool) -> Self {
        Self {
            program,
            names,
            ranges_only,
            statistics: Statistics::default(),
        }
    }

    /// Runs the samples of a batch and observes the values.
    ///
    /// # Errors
    /// A run that fails; a value that is NaN or infinite, with its name, the sample and the count.
    pub fn observe(&mut self, batch: &Batch) -> Result<(), Error> {
        let sample = format!("sample {}", batch.first);
        let in_file = |source| Error::Exec {
            file: sample.clone(),
            source,
        };
        let given: Vec<(String, Stored)> = batch
            .inputs
            .iter()
            .map(|(n, t)| (n.clone(), Stored::plain(t.clone())))
            .collect();
        for (name, value) in &given {
            self.observe_value(&sample, batch, name, value)?;
        }
        if self.ranges_only && batch.n_rows() == 1 {
            self.watch_ranges(&sample, given)?;
        } else {
            let goals = self.goals();
            let wanted: Vec<bool> = self
                .program
                .values()
                .map(|name| self.names.contains(name))
                .collect();
            let tapped = Tapped::Only(&wanted);
            let mut walk = self.program.walk_tapped(given, &goals, tapped).map_err(in_file)?;
            while let Some(stepped) = walk.step().map_err(in_file)? {
                for (name, value) in stepped.outputs() {
                    if let Some(tensor) = value.as_tensor() {
                        self.observe_value(&sample, batch, name, tensor)?;
                    }
                }
            }
        }
        self.statistics.n_samples += batch.n_samples;
        Ok(())
    }

    fn goals(&self) -> Vec<&'p str> {
        let outputs = self.program.graph().outputs.iter();
        outputs.map(|output| output.name.as_str()).collect()
    }

    /// Observes the ranges of one sample, which are measured piece by piece as values are computed.
    fn watch_ranges(&mut self, sample: &str, given: Vec<(String, Stored)>) -> Result<(), Error> {
        let in_file = |source| Error::Exec {
            file: sample.to_owned(),
            source,
        };
        let ranges: Vec<Mutex<Option<(MinMax, usize)>>> =
            self.program.values().map(|_| Mutex::new(None)).collect();
        let watch = |value: usize, elements: &[f32]| {
            let seen = min_max(elements);
            let mut range = ranges[value].lock().unwrap_or_else(PoisonError::into_inner);
            *range = Some(match *range {
                Some((before, len)) => (before.merge(seen), len + elements.len()),
                None => (seen, elements.len()),
            });
        };
        let goals = self.goals();
        let tapped = Tapped::Watched(&watch);
        let mut walk = self.program.walk_tapped(given, &goals, tapped).map_err(in_file)?;
        while walk.step().map_err(in_file)?.is_some() {}
        drop(walk);
        let ranges = ranges
            .into_iter()
            .map(|range| range.into_inner().unwrap_or_else(PoisonError::into_inner));
        for (name, range) in self.program.values().zip(ranges) {
            let Some((range, len)) = range else { continue };
            self.observe_ranges(sample, name, len, &[(&[], range)])?;
        }
        Ok(())
    }

    fn observe_value(
        &mut self,
        sample: &str,
        batch: &Batch,
        name: &str,
        value: &Stored,
    ) -> Result<(), Error> {
        let Some(values) = value.physical().as_slice::<f32>() else {
            return Ok(());
        };
        let parts = batch.parts(value.physical().shape(), values);
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        let parts: Vec<(&[f32], MinMax)> = parts.map(|part| (part, min_max(part))).collect();
        self.observe_ranges(sample, name, values.len(), &parts)
    }

    /// Observes the parts of one value, one for each sample.
    fn observe_ranges(
        &mut self,
        sample: &str,
        name: &str,
        len: usize,
        parts: &[(&[f32], MinMax)],
    ) -> Result<(), Error> {
        let count = parts.iter().map(|(_, range)| range.n_nan + range.n_inf).sum();
        if count > 0 {
            return Err(Error::NotFinite {
                value: name.to_owned(),
                sample: sample.to_owned(),
                count,
                len,
            });
        }
        if !self.names.contains(name) {
            return Ok(());
        }
        let sketch = self.statistics.sketches.entry(name.to_owned()).or_default();
        for (part, range) in parts {
            // Adding 0 turns -0 into 0: which of the two a minimum finds is nobody's choice.
            let range = Range {
                min: range.min + 0.0,
                max: range.max + 0.0,
            };
            sketch.observe(if self.ranges_only { &[] } else { part }, range);
        }
        Ok(())
    }

    /// Adds the samples of another calibration of the same program, which come after those of this one.
    pub fn merge(&mut self, other: Self) {
        for (name, sketch) in other.statistics.sketches {
            self.statistics.sketches.entry(name).or_default().merge(&sketch);
        }
        self.statistics.n_samples += other.statistics.n_samples;
    }

    /// The statistics of all samples so far.
    pub fn finish(self) -> Statistics {
        self.statistics
    }
}

#[cfg(test)]
mod tests;
