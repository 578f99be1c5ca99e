//! What float16 cannot hold: numbers beyond its range, and numbers so small that they become 0.

use std::collections::BTreeMap;
use std::fmt;

use half::f16;
use qloupe_exec::{Stored, Tapped};
use rayon::prelude::*;

use super::candidates::Candidate;
use crate::Error;
use crate::prepare::Prepared;
use crate::samples::{Batch, Dataset};

/// A value that loses more of its energy than this to zeros is a hazard: its error would be a hundredth of it.
const MAX_LOST_SHARE: f64 = 1e-4;
/// Batches that each thread has in work before results are put together.
const N_AHEAD: usize = 4;

/// Why float16 cannot hold something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Hazard {
    /// Finite numbers become infinite.
    Overflow { max_abs: f32 },
    /// Numbers become 0.
    Vanish {
        n_vanished: usize,
        len: usize,
        lost_share: f64,
    },
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overflow { max_abs } => write!(f, "overflows in float16: max {max_abs:.1e}"),
            Self::Vanish {
                n_vanished,
                len,
                lost_share,
            } => write!(
                f,
                "vanishes in float16: {n_vanished} of {len} elements become 0, {:.2}% of its energy",
                lost_share * 100.0
            ),
        }
    }
}

/// What float16 makes of the numbers of one value.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    len: usize,
    max_abs: f32,
    overflows: bool,
    n_vanished: usize,
    energy: f64,
    lost: f64,
}

impl Seen {
    fn of(values: &[f32]) -> Self {
        let mut seen = Self {
            len: values.len(),
            ..Self::default()
        };
        for &value in values.iter().filter(|value| value.is_finite()) {
            let half = f16::from_f32(value);
            let energy = f64::from(value) * f64::from(value);
            seen.max_abs = seen.max_abs.max(value.abs());
            seen.overflows |= half.is_infinite();
            seen.energy += energy;
            if value != 0.0 && half.to_f32() == 0.0 {
                seen.n_vanished += 1;
                seen.lost += energy;
            }
        }
        seen
    }

    fn add(&mut self, other: &Self) {
        self.len += other.len;
        self.max_abs = self.max_abs.max(other.max_abs);
        self.overflows |= other.overflows;
        self.n_vanished += other.n_vanished;
        self.energy += other.energy;
        self.lost += other.lost;
    }

    fn hazard(&self) -> Option<Hazard> {
        if self.overflows {
            return Some(Hazard::Overflow {
                max_abs: self.max_abs,
            });
        }
        let lost_share = self.lost / self.energy;
        (lost_share > MAX_LOST_SHARE).then_some(Hazard::Vanish {
            n_vanished: self.n_vanished,
            len: self.len,
            lost_share,
        })
    }
}

/// The hazards of a network on samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Hazards {
    values: BTreeMap<String, Hazard>,
    constants: BTreeMap<String, Hazard>,
}

impl Hazards {
    pub(super) fn value(&self, name: &str) -> Option<&Hazard> {
        self.values.get(name)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = (&String, &Hazard)> {
        self.values.iter()
    }

    pub(super) fn constant(&self, name: &str) -> Option<&Hazard> {
        self.constants.get(name)
    }

    pub(super) fn constant_overflows(&self, name: &str) -> bool {
        matches!(self.constant(name), Some(Hazard::Overflow { .. }))
    }

    /// What a candidate suffers from, in words: its own values first, then its constants, then what it reads.
    pub(super) fn of_candidate(&self, candidate: &Candidate) -> Option<String> {
        let own = candidate.values.iter().find_map(|name| self.value(name));
        let constant = || {
            let named = |name: &String| Some(format!("constant \"{name}\" {}", self.constant(name)?));
            candidate.constants.iter().find_map(named)
        };
        let read = || {
            let named = |name: &String| Some(format!("reads \"{name}\", which {}", self.value(name)?));
            candidate.reads.iter().find_map(named)
        };
        own.map(Hazard::to_string).or_else(constant).or_else(read)
    }
}

/// Runs the samples in float and looks at every value and constant.
///
/// # Errors
/// A sample that cannot be read, a run that fails.
pub(super) fn find_hazards(prepared: &Prepared, dataset: &Dataset) -> Result<Hazards, Error> {
    let program = &prepared.program;
    let names: Vec<String> = prepared.value_names();
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let n_ahead = N_AHEAD * rayon::current_num_threads();
    for start in (0..dataset.n_batches()).step_by(n_ahead) {
        let end = usize::min(start + n_ahead, dataset.n_batches());
        let run = |idx| seen_in(prepared, &names, &dataset.batch(idx)?);
        let of_batches: Vec<Result<_, Error>> = (start..end).into_par_iter().map(run).collect();
        for of_batch in of_batches {
            for (name, of_value) in of_batch? {
                seen.entry(name).or_default().add(&of_value);
            }
        }
    }
    let mut hazards = Hazards::default();
    for (name, seen) in seen {
        hazards.values.extend(seen.hazard().map(|hazard| (name, hazard)));
    }
    let nodes = program.graph().nodes.iter();
    for name in nodes.flat_map(|node| &node.inputs) {
        let values = program.constant(name).and_then(|tensor| tensor.as_slice::<f32>());
        let hazard = values.and_then(|values| Seen::of(values).hazard());
        hazards
            .constants
            .extend(hazard.map(|hazard| (name.clone(), hazard)));
    }
    Ok(hazards)
}

fn seen_in(prepared: &Prepared, names: &[String], batch: &Batch) -> Result<Vec<(String, Seen)>, Error> {
    let program = &prepared.program;
    let located = |source| Error::Exec {
        file: format!("sample {}", batch.first),
        source,
    };
    let mut seen = Vec::new();
    let mut look = |name: &str, value: &Stored| {
        if let Some(values) = value.physical().as_slice::<f32>() {
            seen.push((name.to_owned(), Seen::of(values)));
        }
    };
    let given: Vec<(String, Stored)> = batch
        .inputs
        .iter()
        .map(|(name, tensor)| (name.clone(), Stored::plain(tensor.clone())))
        .collect();
    for (name, value) in &given {
        look(name, value);
    }
    let goals: Vec<&str> = program.graph().output_names().collect();
    let wanted: Vec<bool> = program
        .values()
        .map(|name| names.iter().any(|n| n == name))
        .collect();
    let mut walk = program
        .walk_tapped(given, &goals, Tapped::Only(&wanted))
        .map_err(located)?;
    while let Some(stepped) = walk.step().map_err(located)? {
        for (name, value) in stepped.outputs() {
            if let Some(tensor) = value.as_tensor() {
                look(name, tensor);
            }
        }
    }
    drop(walk);
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hazard_says_what_is_lost() {
        struct Case {
            values: Vec<f32>,
            text: Option<&'static str>,
        }
        let cases = [
            Case {
                values: vec![1.0, -65504.0, 0.0, 65519.0],
                text: None,
            },
            Case {
                values: vec![1.0, -120_000.0],
                text: Some("overflows in float16: max 1.2e5"),
            },
            Case {
                values: vec![1e-9, 2e-9, 0.0],
                text: Some("vanishes in float16: 2 of 3 elements become 0, 100.00% of its energy"),
            },
            Case {
                values: vec![1e-9, 1.0],
                text: None,
            },
            Case {
                values: vec![f32::NEG_INFINITY, 1.0],
                text: None,
            },
            Case {
                values: vec![],
                text: None,
            },
        ];
        for Case { values, text } in cases {
            let hazard = Seen::of(&values).hazard().map(|hazard| hazard.to_string());
            assert_eq!(hazard.as_deref(), text, "{values:?}");
        }
    }
}
