//! `top1`: a score for each class, the largest is the answer.

use std::cmp::Ordering;

use qloupe_ir::suggestion;
use qloupe_tensor::Tensor;

use super::{Hits, Judge, Refusal, Subject, Task, argmax, scores_of};
use crate::samples::{Label, LabelValue};

/// Classes of which the label may be any of the best for the second metric.
const TOP_K: usize = 5;

/// Classification. `top1`: the largest score is that of the label; `top5`: fewer than five are larger.
///
/// # Edge cases
/// Of equal scores the first class counts as larger. NaN is smaller than every number.
pub(super) struct Top1;

impl Task for Top1 {
    fn id(&self) -> &'static str {
        "top1"
    }

    fn title(&self) -> &'static str {
        "labels are classes: the largest score, and the five largest"
    }

    fn judge(&self, subject: &Subject<'_>) -> Result<Box<dyn Judge>, Refusal> {
        let shape = subject.output.shape();
        let n_classes = subject.output.len();
        if !subject.output.dtype().is_float() {
            let dtype = subject.output.dtype();
            return Err(Refusal::Unfit(format!(
                "the output is {dtype}, expected float scores"
            )));
        }
        if n_classes < 2 || shape.iter().filter(|&&size| size != 1).count() != 1 {
            return Err(Refusal::Unfit(format!(
                "the output has shape {shape:?}, expected a score for each class"
            )));
        }
        let class = |label: &Label| class_of(label, n_classes, subject.class_names);
        Ok(Box::new(Classes {
            n_classes,
            truths: subject.labels.iter().map(class).collect::<Result<_, _>>()?,
        }))
    }
}

fn class_of(label: &Label, n_classes: usize, names: Option<&[String]>) -> Result<usize, Refusal> {
    let place = &label.place;
    let range = |got: &dyn std::fmt::Display| {
        Refusal::Label(format!(
            "{place}: wrong class, expected 0 to {}, got {got}",
            n_classes - 1
        ))
    };
    match &label.value {
        LabelValue::Numbers(numbers) => match numbers[..] {
            [number] => (0..n_classes)
                .find(|&class| (class as f64).partial_cmp(&number) == Some(Ordering::Equal))
                .ok_or_else(|| range(&number)),
            _ => Err(Refusal::Unfit(format!(
                "{place}: expected one class for a sample, got {} numbers",
                numbers.len()
            ))),
        },
        LabelValue::Text(text) => {
            if text.parse::<i64>().is_ok() {
                let class = text.parse().ok().filter(|&class: &usize| class < n_classes);
                return class.ok_or_else(|| range(text));
            }
            let Some(names) = names else {
                return Err(Refusal::Unfit(format!(
                    "{place}: \"{text}\" is no number of a class, and the classes have no names (--classes FILE)"
                )));
            };
            let named = names.iter().take(n_classes).position(|name| name == text);
            named.ok_or_else(|| {
                let help = suggestion(text, names.iter().map(String::as_str));
                Refusal::Label(format!("{place}: no class is named \"{text}\"{help}"))
            })
        }
    }
}

#[derive(Debug)]
struct Classes {
    n_classes: usize,
    truths: Vec<usize>,
}

impl Classes {
    fn scores(&self, output: &Tensor) -> Result<Vec<f64>, String> {
        let scores = scores_of(output)?;
        if scores.len() != self.n_classes {
            return Err(format!(
                "wrong number of scores, expected {} as in the first sample, got {}",
                self.n_classes,
                scores.len()
            ));
        }
        Ok(scores)
    }
}

impl Judge for Classes {
    fn metrics(&self) -> &'static [&'static str] {
        if self.n_classes > TOP_K {
            &["top1", "top5"]
        } else {
            &["top1"]
        }
    }

    fn about(&self) -> String {
        format!("{} classes", self.n_classes)
    }

    fn score(&self, sample: usize, output: &Tensor) -> Result<Vec<Hits>, String> {
        let scores = self.scores(output)?;
        let truth = self.truths[sample];
        let own = scores[truth];
        let is_before = |&(class, score): &(usize, &f64)| match score.partial_cmp(&own) {
            Some(Ordering::Equal) => class < truth,
            order => order == Some(Ordering::Greater),
        };
        let n_before = scores.iter().enumerate().filter(is_before).count();
        let is_within = |k: usize| Hits::one(!own.is_nan() && n_before < k);
        Ok([1, TOP_K][..self.metrics().len()]
            .iter()
            .map(|&k| is_within(k))
            .collect())
    }

    fn agreement(&self, reference: &Tensor, test: &Tensor) -> Result<Hits, String> {
        let answers = [reference, test].map(|output| Ok::<_, String>(argmax(&self.scores(output)?)));
        let [reference, test] = answers;
        Ok(Hits::one(reference? == test?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(label: &str) -> Label {
        Label {
            place: "l.csv:1".to_owned(),
            value: LabelValue::Text(label.to_owned()),
        }
    }

    fn judge(output: &Tensor, label: Label, names: Option<&[String]>) -> Result<Box<dyn Judge>, Refusal> {
        Top1.judge(&Subject {
            output,
            labels: &[label],
            class_names: names,
            metadata: &[],
        })
    }

    #[test]
    fn the_largest_scores_are_the_answers() {
        struct Case {
            label: &'static str,
            scores: [f32; 6],
            hits: [usize; 2],
        }
        let cases = [
            Case {
                label: "2",
                scores: [0.0, 1.0, 9.0, 0.0, 0.0, 0.0],
                hits: [1, 1],
            },
            Case {
                label: "1",
                scores: [0.0, 1.0, 9.0, 0.0, 0.0, 0.0],
                hits: [0, 1],
            },
            Case {
                label: "2",
                scores: [0.0, 9.0, 9.0, 0.0, 0.0, 0.0],
                hits: [0, 1],
            },
            Case {
                label: "1",
                scores: [0.0, 9.0, 9.0, 0.0, 0.0, 0.0],
                hits: [1, 1],
            },
            Case {
                label: "5",
                scores: [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
                hits: [0, 0],
            },
            Case {
                label: "1",
                scores: [0.0, f32::NAN, 0.0, 0.0, 0.0, 0.0],
                hits: [0, 0],
            },
        ];
        for Case { label, scores, hits } in cases {
            let output = Tensor::new(&[1, 6, 1, 1], scores.to_vec()).unwrap();
            let judge = judge(&output, text(label), None).unwrap();
            assert_eq!(
                (judge.metrics(), judge.about().as_str()),
                (&["top1", "top5"][..], "6 classes")
            );
            let found = judge.score(0, &output).unwrap();
            assert_eq!(
                found.iter().map(|h| h.n_hits).collect::<Vec<_>>(),
                hits,
                "{label} {scores:?}"
            );
        }
    }

    #[test]
    fn agreement_is_that_of_the_answers() {
        let output = |a: f32, b: f32| Tensor::new(&[1, 2], vec![a, b]).unwrap();
        let judge = judge(&output(0.0, 1.0), text("0"), None).unwrap();
        assert_eq!(judge.metrics(), ["top1"], "two of two classes are no answer");
        let agree = |test: &Tensor| judge.agreement(&output(0.0, 1.0), test).unwrap().n_hits;
        assert_eq!((agree(&output(3.0, 4.0)), agree(&output(1.0, 1.0))), (1, 0));
        assert_eq!(
            judge.score(0, &Tensor::vector(vec![1.0_f32; 3])).unwrap_err(),
            "wrong number of scores, expected 2 as in the first sample, got 3"
        );
    }

    #[test]
    fn labels_are_classes_or_their_names() {
        let names = ["cat".to_owned(), "dog".to_owned()];
        let output = Tensor::new(&[1, 2], vec![0.0_f32, 1.0]).unwrap();
        let hits =
            |label| judge(&output, label, Some(&names)).map(|j| j.score(0, &output).unwrap()[0].n_hits);
        let numbers = |numbers: &[f64]| Label {
            place: "l.npy, label 0".to_owned(),
            value: LabelValue::Numbers(numbers.to_vec()),
        };
        assert_eq!(hits(text("dog")), Ok(1));
        assert_eq!(hits(numbers(&[0.0])), Ok(0));
        let label = |what: &str| Err(Refusal::Label(what.to_owned()));
        assert_eq!(
            hits(text("2")),
            label("l.csv:1: wrong class, expected 0 to 1, got 2")
        );
        assert_eq!(
            hits(text("-1")),
            label("l.csv:1: wrong class, expected 0 to 1, got -1")
        );
        assert_eq!(
            hits(numbers(&[0.5])),
            label("l.npy, label 0: wrong class, expected 0 to 1, got 0.5")
        );
        assert_eq!(
            hits(text("dogs")),
            label("l.csv:1: no class is named \"dogs\", did you mean \"dog\"?")
        );
        let unfit = |output: &Tensor, label| match judge(output, label, None) {
            Err(Refusal::Unfit(why)) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            unfit(&output, text("dog")),
            "l.csv:1: \"dog\" is no number of a class, and the classes have no names (--classes FILE)"
        );
        assert_eq!(
            unfit(&output, numbers(&[0.0, 1.0])),
            "l.npy, label 0: expected one class for a sample, got 2 numbers"
        );
        let map = Tensor::new(&[1, 2, 2], vec![0.0_f32; 4]).unwrap();
        assert_eq!(
            unfit(&map, text("1")),
            "the output has shape [1, 2, 2], expected a score for each class"
        );
        let classes = Tensor::vector(vec![0_i64; 2]);
        assert_eq!(
            unfit(&classes, text("1")),
            "the output is int64, expected float scores"
        );
    }
}
