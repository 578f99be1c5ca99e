//! The tasks: how outputs become answers, and when an answer is right. A new task is a file and two lines here.

mod ctc;
mod threshold;
mod top1;

use std::fmt;

use qloupe_tensor::Tensor;

use super::interval::Hits;
use crate::samples::Label;

/// One way to read an output.
pub trait Task: Sync {
    /// The id.
    fn id(&self) -> &'static str;
    /// One line for lists.
    fn title(&self) -> &'static str;
    /// Looks at labels and an output, and gives the judge of this task or tells why it is none.
    ///
    /// # Errors
    /// [`Refusal::Unfit`] where the task is another one, [`Refusal::Label`] where it is this one but a label is wrong.
    fn judge(&self, subject: &Subject<'_>) -> Result<Box<dyn Judge>, Refusal>;
}

/// What a task is chosen by.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The float output of the first sample, of batch 1.
    pub output: &'a Tensor,
    /// The labels of all samples.
    pub labels: &'a [Label],
    /// The names of the classes, where they are known.
    pub class_names: Option<&'a [String]>,
    /// The metadata of the model.
    pub metadata: &'a [(String, String)],
}

impl Subject<'_> {
    /// The value of a metadata key.
    fn metadata(&self, key: &str) -> Option<&str> {
        let found = self.metadata.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str())
    }
}

/// Why a task does not judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The output or the labels are of another kind.
    Unfit(String),
    /// A label is wrong, with its place.
    Label(String),
}

/// Judges outputs by the labels it was made from.
pub trait Judge: Sync + fmt::Debug {
    /// What is counted; the first is the headline.
    fn metrics(&self) -> &'static [&'static str];
    /// What the output was taken for: `10 classes`.
    fn about(&self) -> String;
    /// The answer for a sample against its label, one count for each metric.
    ///
    /// # Errors
    /// An output that is not like that of the first sample.
    fn score(&self, sample: usize, output: &Tensor) -> Result<Vec<Hits>, String>;
    /// Whether two outputs mean the same answer.
    ///
    /// # Errors
    /// Outputs that are not alike.
    fn agreement(&self, reference: &Tensor, test: &Tensor) -> Result<Hits, String>;
}

/// Every task, by id.
pub const ALL: &[&dyn Task] = &[&ctc::Ctc, &threshold::Threshold, &top1::Top1];

/// The index of the largest score, the first of equal ones; NaN is never the largest.
fn argmax(scores: &[f64]) -> Option<usize> {
    let larger = |best: Option<usize>, idx: usize| match best {
        Some(best) if scores[best] >= scores[idx] => Some(best),
        _ if scores[idx].is_nan() => best,
        _ => Some(idx),
    };
    (0..scores.len()).fold(None, larger)
}

/// The numbers of an output.
fn scores_of(output: &Tensor) -> Result<Vec<f64>, String> {
    output.to_f64_vec().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sorted_and_well_formed() {
        assert!(ALL.windows(2).all(|pair| pair[0].id() < pair[1].id()), "sorted");
        let is_well_formed = |id: &str| {
            id.starts_with(|c: char| c.is_ascii_lowercase())
                && id
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        assert!(ALL.iter().all(|task| is_well_formed(task.id())), "well formed");
    }

    #[test]
    fn the_first_of_the_largest_wins() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(argmax(&[f64::NAN, -1.0, f64::NAN]), Some(1));
        assert_eq!(argmax(&[f64::NAN]), None);
        assert_eq!(argmax(&[]), None);
    }
}
