//! Calibration: one streaming pass over samples, statistics of every float value. A new algorithm is a file and two
//! lines here.

mod min_max;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use qloupe_exec::{Program, Stored, Tapped};
use qloupe_kernels::{MinMax, min_max};
use qloupe_tensor::Range;

use crate::Error;
use crate::samples::Batch;

/// A calibration algorithm: how the values that were seen become a range.
pub trait Algorithm: Sync {
    /// The id.
    fn id(&self) -> &'static str;
    /// Names that other tools give it.
    fn aliases(&self) -> &'static [&'static str];
    /// One line for lists.
    fn title(&self) -> &'static str;
    /// True when observers look at ranges only: values then need not be in memory.
    fn needs_ranges_only(&self) -> bool {
        false
    }
    /// A new observer of one value.
    fn observer(&self) -> Box<dyn Observer>;
}

/// The statistics of one value: bounded memory, the same result in any order of merging.
pub trait Observer: Send {
    /// Sees all elements of one sample, which are finite; `range` is theirs. An algorithm that needs ranges only may get no
    /// elements.
    fn observe(&mut self, values: &[f32], range: Range);
    /// Adds what another observer of the same algorithm saw.
    fn merge(&mut self, other: &dyn Observer);
    /// For `merge` to find its own type again.
    fn as_any(&self) -> &dyn Any;
    /// The range.
    fn range(&self) -> Range;
}

/// Every algorithm, by id.
pub const ALL: &[&dyn Algorithm] = &[&min_max::MinMax];

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

/// The range of every float value that was computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Value to range.
    pub ranges: BTreeMap<String, Range>,
    /// How many samples were seen.
    pub n_samples: usize,
}

/// A calibration in progress.
pub struct Calibration<'p> {
    program: &'p Program,
    algorithm: &'static dyn Algorithm,
    observers: BTreeMap<String, Box<dyn Observer>>,
    n_samples: usize,
}

impl std::fmt::Debug for Calibration<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calibration")
            .field("n_samples", &self.n_samples)
            .finish_non_exhaustive()
    }
}

impl<'p> Calibration<'p> {
    /// Begins a calibration on the float program.
    pub fn new(program: &'p Program, algorithm: &'static dyn Algorithm) -> Self {
        Self {
            program,
            algorithm,
            observers: BTreeMap::new(),
            n_samples: 0,
        }
    }

    /// Runs the samples of a batch and observes every float value.
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
        if self.algorithm.needs_ranges_only() && batch.n_rows() == 1 {
            self.watch_ranges(&sample, given)?;
        } else {
            let goals = self.goals();
            let mut walk = self.program.walk(given, &goals).map_err(in_file)?;
            while let Some(stepped) = walk.step().map_err(in_file)? {
                for (name, value) in &stepped.outputs {
                    if let Some(tensor) = value.as_tensor() {
                        self.observe_value(&sample, batch, name, tensor)?;
                    }
                }
            }
        }
        self.n_samples += batch.n_samples;
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
        let algorithm = self.algorithm;
        let observer = match self.observers.get_mut(name) {
            Some(observer) => observer,
            None => self
                .observers
                .entry(name.to_owned())
                .or_insert_with(|| algorithm.observer()),
        };
        for (part, range) in parts {
            // Adding 0 turns -0 into 0: which of the two a minimum finds is nobody's choice.
            let range = Range {
                min: range.min + 0.0,
                max: range.max + 0.0,
            };
            observer.observe(part, range);
        }
        Ok(())
    }

    /// Adds the samples of another calibration of the same program.
    pub fn merge(&mut self, other: Self) {
        for (name, observer) in other.observers {
            match self.observers.get_mut(&name) {
                Some(own) => own.merge(observer.as_ref()),
                None => {
                    self.observers.insert(name, observer);
                }
            }
        }
        self.n_samples += other.n_samples;
    }

    /// The statistics of all samples so far.
    pub fn finish(self) -> Statistics {
        let ranges = self
            .observers
            .into_iter()
            .map(|(name, observer)| (name, observer.range()))
            .collect();
        Statistics {
            ranges,
            n_samples: self.n_samples,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn merging_observers_is_observing_everything(
            samples in prop::collection::vec(prop::collection::vec(-1e6_f32..1e6, 0..20), 0..8),
            cut in 0_usize..8,
        ) {
            for algorithm in ALL {
                let observe = |samples: &[Vec<f32>]| {
                    let mut observer = algorithm.observer();
                    for values in samples.iter().filter(|values| !values.is_empty()) {
                        let MinMax { min, max, .. } = min_max(values);
                        observer.observe(values, Range { min, max });
                    }
                    observer
                };
                let (first, second) = samples.split_at(cut.min(samples.len()));
                let mut merged = observe(first);
                merged.merge(observe(second).as_ref());
                prop_assert_eq!(merged.range(), observe(&samples).range(), "{}", algorithm.id());
            }
        }
    }

    #[test]
    fn ids_are_sorted_and_unique() {
        assert!(
            ALL.windows(2).all(|pair| pair[0].id() < pair[1].id()),
            "the list is sorted by id"
        );
    }
}
