//! Answers that changed, without labels: outputs that look like scores of classes, decision by decision.
//!
//! An output of one score for each class is one decision for each sample. Elsewhere, scores are between 0 and 1, and each
//! position is a decision: those of a softmax over the last axis all of them, those of a part of an output where the
//! golden model is sure of a class.

use qloupe_tensor::Tensor;

use super::SliceSpec;
use crate::report::Flips;
use crate::samples::Batch;

/// A class has to be among so many of the largest for the second count.
const TOP_K: usize = 5;
/// The least score of a position of a detector that says anything, as their post-processing has it.
const SURE: f32 = 0.25;
/// Numbers of a box, which may lie between 0 and 1 as well.
const N_BOX: usize = 4;
/// How far the sum of probabilities may be from 1.
const SUM_TOLERANCE: f64 = 1e-3;

/// The decisions of a network output and of its slices.
#[derive(Debug, Default)]
pub(super) struct OutputFlips {
    /// True once the first sample told what the output is.
    is_known: bool,
    whole: Option<Decisions>,
    slices: Vec<Option<Decisions>>,
}

/// The decisions of one block of scores.
#[derive(Clone, Debug)]
pub(crate) struct Decisions {
    axis: usize,
    n_classes: usize,
    /// Positions with less are no decisions.
    least_score: f32,
    n: u64,
    n_top1: u64,
    n_top5: u64,
    shift: f64,
}

impl OutputFlips {
    /// Adds the samples of a batch. What the output is, its first sample tells.
    pub(super) fn observe<'s>(
        &mut self,
        batch: &Batch,
        (golden, test): (&Tensor, &Tensor),
        slices: impl Iterator<Item = &'s SliceSpec>,
    ) {
        let shape = golden.shape();
        let (Some(reference), Some(tested)) = (golden.as_slice::<f32>(), test.as_slice::<f32>()) else {
            return;
        };
        let slices: Vec<&SliceSpec> = slices.collect();
        if !self.is_known {
            self.is_known = true;
            self.whole = Decisions::of_output(shape, reference, slices.is_empty());
            let of_slice = |spec: &&SliceSpec| Decisions::of_slice(spec, shape, &spec.cut(golden));
            self.slices = slices.iter().map(of_slice).collect();
        }
        if let Some(whole) = &mut self.whole {
            whole.observe(batch, shape, reference, tested);
        }
        for (spec, decisions) in slices.iter().zip(&mut self.slices) {
            if let Some(decisions) = decisions {
                decisions.observe(batch, shape, &spec.cut(golden), &spec.cut(test));
            }
        }
    }

    /// The decisions of the whole output.
    pub(super) fn whole(&self) -> Option<Flips> {
        self.whole.as_ref().and_then(Decisions::finish)
    }

    /// The decisions of a slice.
    pub(super) fn slice(&self, idx: usize) -> Option<Flips> {
        self.slices.get(idx)?.as_ref().and_then(Decisions::finish)
    }
}

impl Decisions {
    fn new(axis: usize, n_classes: usize, least_score: f32) -> Self {
        Self {
            axis,
            n_classes,
            least_score,
            n: 0,
            n_top1: 0,
            n_top5: 0,
            shift: 0.0,
        }
    }

    /// `[N, C]` with any further axes of one element, or probabilities over the last axis.
    pub(crate) fn of_output(shape: &[usize], golden: &[f32], is_one_kind: bool) -> Option<Self> {
        let features = shape.get(1..)?;
        let long: Vec<usize> = (0..features.len()).filter(|&axis| features[axis] != 1).collect();
        if let [axis] = long[..] {
            return Some(Self::new(axis + 1, features[axis], f32::NEG_INFINITY));
        }
        let n_classes = *features.last()?;
        let is_softmax = |scores: &[f32]| {
            let sum: f64 = scores.iter().map(|&s| f64::from(s)).sum();
            (sum - 1.0).abs() < SUM_TOLERANCE
        };
        let fits =
            is_one_kind && n_classes > 1 && are_scores(golden) && golden.chunks(n_classes).all(is_softmax);
        fits.then(|| Self::new(shape.len() - 1, n_classes, f32::NEG_INFINITY))
    }

    pub(crate) fn of_slice(spec: &SliceSpec, shape: &[usize], golden: &[f32]) -> Option<Self> {
        let n_classes = spec.end - spec.start;
        let fits =
            spec.axis > 0 && shape.len() > 2 && n_classes > 1 && n_classes != N_BOX && are_scores(golden);
        fits.then(|| Self::new(spec.axis, n_classes, SURE))
    }

    fn observe(&mut self, batch: &Batch, shape: &[usize], golden: &[f32], test: &[f32]) {
        if golden.len() != test.len() {
            return;
        }
        let (golden, test) = (batch.parts(shape, golden), batch.parts(shape, test));
        for (golden, test) in golden.into_iter().zip(test) {
            self.observe_scores(shape, golden, test);
        }
    }

    /// Adds the decisions of scores side by side, in blocks of `shape` behind its first axis.
    pub(crate) fn observe_scores(&mut self, shape: &[usize], golden: &[f32], test: &[f32]) {
        let n_inner: usize = shape.get(self.axis + 1..).unwrap_or_default().iter().product();
        let block = self.n_classes * n_inner;
        if block == 0 || golden.len() != test.len() || !golden.len().is_multiple_of(block) {
            return;
        }
        let mut scores = Vec::with_capacity(self.n_classes);
        for (golden, test) in golden.chunks(block).zip(test.chunks(block)) {
            for position in 0..n_inner {
                let scores_of = |values: &[f32], scores: &mut Vec<f32>| {
                    scores.clear();
                    scores.extend(values.iter().skip(position).step_by(n_inner));
                };
                scores_of(golden, &mut scores);
                if let Some(class) = largest(&scores).filter(|&class| scores[class] >= self.least_score) {
                    let sure = scores[class];
                    scores_of(test, &mut scores);
                    self.decide(class, sure, &scores);
                }
            }
        }
    }

    /// Adds the decisions of other samples.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.n_top1 += other.n_top1;
        self.n_top5 += other.n_top5;
        self.shift += other.shift;
    }

    /// Adds a decision for a class with a golden score, of which these are the tested scores of all classes.
    fn decide(&mut self, class: usize, golden: f32, test: &[f32]) {
        self.n += 1;
        self.n_top1 += u64::from(largest(test) != Some(class));
        let own = test[class];
        // Of equal scores the first class counts as larger.
        let is_before = |(other, score): &(usize, &f32)| **score > own || (**score >= own && *other < class);
        let n_before = test.iter().enumerate().filter(is_before).count();
        self.n_top5 += u64::from(own.is_nan() || n_before >= TOP_K);
        if own.is_finite() {
            self.shift += f64::from(own) - f64::from(golden);
        }
    }

    /// The counts; `None` where nothing was decided.
    pub(crate) fn finish(&self) -> Option<Flips> {
        (self.n > 0).then(|| Flips {
            axis: self.axis,
            n: self.n,
            top1: self.n_top1,
            top5: (self.n_classes > TOP_K).then_some(self.n_top5),
            mean_score_shift: self.shift / self.n as f64,
        })
    }
}

/// True for numbers between 0 and 1.
fn are_scores(values: &[f32]) -> bool {
    values.iter().all(|value| (0.0..=1.0).contains(value))
}

/// The class with the largest score, the first of equal ones; NaN is never the largest.
fn largest(scores: &[f32]) -> Option<usize> {
    let larger = |best: Option<usize>, (class, score): (usize, &f32)| match best {
        Some(best) if scores[best] >= *score => Some(best),
        _ if score.is_nan() => best,
        _ => Some(class),
    };
    scores.iter().enumerate().fold(None, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::new(shape, values.to_vec()).unwrap()
    }

    fn flips(
        shape: &[usize],
        golden: &[f32],
        test: &[f32],
        slices: &[SliceSpec],
    ) -> (Option<Flips>, Option<Flips>) {
        let mut flips = OutputFlips::default();
        let pair = (&tensor(shape, golden), &tensor(shape, test));
        flips.observe(&Batch::single(0, Vec::new()), pair, slices.iter());
        (flips.whole(), flips.slice(slices.len().saturating_sub(1)))
    }

    fn counted(flips: &Option<Flips>) -> Option<(u64, u64, Option<u64>)> {
        flips.as_ref().map(|f| (f.n, f.top1, f.top5))
    }

    #[test]
    fn a_classifier_is_one_decision_a_sample() {
        let golden = [0.0, 5.0, 1.0, 0.0, 0.0, 0.0];
        struct Case {
            test: [f32; 6],
            expected: (u64, u64, Option<u64>),
        }
        let cases = [
            Case {
                test: [0.0, 4.0, 1.0, 0.0, 0.0, 0.0],
                expected: (1, 0, Some(0)),
            },
            Case {
                test: [0.0, 4.0, 4.5, 0.0, 0.0, 0.0],
                expected: (1, 1, Some(0)),
            },
            Case {
                test: [4.0, 4.0, 0.0, 0.0, 0.0, 0.0],
                expected: (1, 1, Some(0)),
            },
            Case {
                test: [2.0, 1.0, 2.0, 2.0, 2.0, 2.0],
                expected: (1, 1, Some(1)),
            },
            Case {
                test: [0.0, f32::NAN, 0.0, 0.0, 0.0, 0.0],
                expected: (1, 1, Some(1)),
            },
        ];
        for Case { test, expected } in cases {
            for shape in [&[1, 6][..], &[1, 6, 1, 1]] {
                let (whole, _) = flips(shape, &golden, &test, &[]);
                assert_eq!(counted(&whole), Some(expected), "{test:?}");
            }
        }
        let (whole, _) = flips(&[1, 2], &[0.0, 1.0], &[0.5, 0.25], &[]);
        let whole = whole.unwrap();
        assert_eq!((whole.top1, whole.top5, whole.mean_score_shift), (1, None, -0.75));
    }

    #[test]
    fn a_softmax_over_the_last_axis_is_a_decision_for_each_position() {
        let golden = [0.9, 0.1, 0.2, 0.8];
        let (whole, _) = flips(&[1, 2, 2], &golden, &[0.9, 0.1, 0.6, 0.4], &[]);
        assert_eq!(counted(&whole), Some((2, 1, None)));
        let logits = [9.0, 1.0, 2.0, 8.0];
        assert_eq!(flips(&[1, 2, 2], &logits, &logits, &[]).0, None);
    }

    #[test]
    fn of_a_detector_the_positions_count_where_it_is_sure() {
        // Two boxes rows and three classes at two positions.
        let golden = [100.0, 90.0, 80.0, 70.0, 0.1, 0.9, 0.0, 0.2, 0.2, 0.1];
        let test = [100.0, 90.0, 80.0, 70.0, 0.9, 0.0, 0.0, 0.3, 0.0, 0.0];
        let slice = |start, end| SliceSpec {
            axis: 1,
            start,
            end,
            label: None,
        };
        let (whole, scores) = flips(&[1, 5, 2], &golden, &test, &[slice(0, 2), slice(2, 5)]);
        assert_eq!((counted(&whole), counted(&scores)), (None, Some((1, 1, None))));
        assert!((scores.unwrap().mean_score_shift + 0.9).abs() < 1e-6);
        let unsure = golden.map(|v| v * 0.2);
        assert_eq!(
            flips(&[1, 5, 2], &unsure, &test, &[slice(0, 2), slice(2, 5)]).1,
            None
        );
        assert_eq!(
            flips(&[1, 5, 2], &golden, &test, &[slice(0, 2)]).1,
            None,
            "boxes are no scores"
        );
    }
}
