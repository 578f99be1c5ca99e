//! `threshold`: a probability for each frame, at least one half is a yes.

use qloupe_tensor::Tensor;

use super::{Hits, Judge, Refusal, Subject, Task, scores_of};
use crate::samples::{Label, LabelValue};

/// A probability from here on is a yes.
const THRESHOLD: f64 = 0.5;

/// Voice activity and other yes-or-no questions, one for each frame. `frames`: answers that are the label's.
///
/// # Shapes
/// As many elements of the output as the label has numbers; the samples may have different lengths.
/// # Edge cases
/// NaN is neither yes nor no: it is wrong.
pub(super) struct Threshold;

impl Task for Threshold {
    fn id(&self) -> &'static str {
        "threshold"
    }

    fn title(&self) -> &'static str {
        "labels are 0 or 1 for each frame: the probability is at least 0.5"
    }

    fn judge(&self, subject: &Subject<'_>) -> Result<Box<dyn Judge>, Refusal> {
        if !subject.output.dtype().is_float() {
            let dtype = subject.output.dtype();
            return Err(Refusal::Unfit(format!(
                "the output is {dtype}, expected float probabilities"
            )));
        }
        let truths = subject
            .labels
            .iter()
            .map(frames_of)
            .collect::<Result<Vec<_>, _>>()?;
        let n_first = truths.first().map_or(0, Vec::len);
        if n_first != subject.output.len() {
            return Err(Refusal::Unfit(format!(
                "the output has shape {:?}, expected {n_first} elements as the first label has",
                subject.output.shape()
            )));
        }
        Ok(Box::new(Frames { truths }))
    }
}

fn frames_of(label: &Label) -> Result<Vec<bool>, Refusal> {
    let unfit = |got: &dyn std::fmt::Display| {
        Refusal::Unfit(format!("{}: expected labels 0 and 1, got {got}", label.place))
    };
    match &label.value {
        LabelValue::Text(text) => match text.as_str() {
            "0" => Ok(vec![false]),
            "1" => Ok(vec![true]),
            other => Err(unfit(&format!("\"{other}\""))),
        },
        LabelValue::Numbers(numbers) => {
            let frame = |&number: &f64| match number {
                0.0 => Ok(false),
                1.0 => Ok(true),
                other => Err(unfit(&other)),
            };
            numbers.iter().map(frame).collect()
        }
    }
}

#[derive(Debug)]
struct Frames {
    truths: Vec<Vec<bool>>,
}

/// The answer of each frame; `None` of NaN.
fn answers(output: &Tensor) -> Result<Vec<Option<bool>>, String> {
    let answer = |probability: f64| (!probability.is_nan()).then_some(probability >= THRESHOLD);
    Ok(scores_of(output)?.into_iter().map(answer).collect())
}

impl Judge for Frames {
    fn metrics(&self) -> &'static [&'static str] {
        &["frames"]
    }

    fn about(&self) -> String {
        format!("probabilities, yes from {THRESHOLD}")
    }

    fn score(&self, sample: usize, output: &Tensor) -> Result<Vec<Hits>, String> {
        let (answers, truth) = (answers(output)?, &self.truths[sample]);
        if answers.len() != truth.len() {
            return Err(format!(
                "wrong number of frames, expected {} as the label has, got {}",
                truth.len(),
                answers.len()
            ));
        }
        let n_hits = answers
            .iter()
            .zip(truth)
            .filter(|(answer, truth)| **answer == Some(**truth))
            .count();
        Ok(vec![Hits {
            n_hits,
            n: truth.len(),
        }])
    }

    fn agreement(&self, reference: &Tensor, test: &Tensor) -> Result<Hits, String> {
        let (reference, test) = (answers(reference)?, answers(test)?);
        if reference.len() != test.len() {
            return Err(format!(
                "wrong number of frames, expected {}, got {}",
                reference.len(),
                test.len()
            ));
        }
        let n_hits = reference.iter().zip(&test).filter(|(a, b)| a == b).count();
        Ok(Hits {
            n_hits,
            n: test.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(value: LabelValue) -> Label {
        Label {
            place: "l.csv:1".to_owned(),
            value,
        }
    }

    fn judge(output: &Tensor, value: LabelValue) -> Result<Box<dyn Judge>, Refusal> {
        Threshold.judge(&Subject {
            output,
            labels: &[label(value)],
            class_names: None,
            metadata: &[],
        })
    }

    #[test]
    fn each_frame_is_a_trial() {
        let output = Tensor::vector(vec![0.5_f32, 0.49, 0.9, f32::NAN]);
        let judge = judge(&output, LabelValue::Numbers(vec![1.0, 0.0, 0.0, 0.0])).unwrap();
        assert_eq!(judge.score(0, &output).unwrap(), [Hits { n_hits: 2, n: 4 }]);
        let other = Tensor::vector(vec![0.2_f32, 0.1, 0.6, f32::NAN]);
        assert_eq!(
            judge.agreement(&output, &other).unwrap(),
            Hits { n_hits: 3, n: 4 }
        );
        let short = Tensor::vector(vec![0.2_f32]);
        assert_eq!(
            judge.score(0, &short).unwrap_err(),
            "wrong number of frames, expected 4 as the label has, got 1"
        );
        assert_eq!(
            judge.agreement(&output, &short).unwrap_err(),
            "wrong number of frames, expected 4, got 1"
        );
    }

    #[test]
    fn other_labels_and_outputs_do_not_fit() {
        let one = Tensor::new(&[1, 1], vec![0.7_f32]).unwrap();
        let yes = judge(&one, LabelValue::Text("1".to_owned())).unwrap();
        assert_eq!(yes.score(0, &one).unwrap(), [Hits { n_hits: 1, n: 1 }]);
        struct Case {
            output: Tensor,
            label: LabelValue,
            why: &'static str,
        }
        #[rustfmt::skip]
        let cases = [
            Case { output: one.clone(), label: LabelValue::Text("2".to_owned()), why: "l.csv:1: expected labels 0 and 1, got \"2\"" },
            Case { output: one.clone(), label: LabelValue::Numbers(vec![0.5]), why: "l.csv:1: expected labels 0 and 1, got 0.5" },
            Case { output: one, label: LabelValue::Numbers(vec![0.0, 1.0]), why: "the output has shape [1, 1], expected 2 elements as the first label has" },
            Case { output: Tensor::vector(vec![1_i64]), label: LabelValue::Numbers(vec![1.0]), why: "the output is int64, expected float probabilities" },
        ];
        for Case { output, label, why } in cases {
            assert_eq!(judge(&output, label).unwrap_err(), Refusal::Unfit(why.to_owned()));
        }
    }
}
