//! `ctc`: scores of characters in steps, read greedily as a line of text.

use qloupe_tensor::Tensor;

use super::{Hits, Judge, Refusal, Subject, Task, argmax, scores_of};
use crate::samples::{Label, LabelValue};

/// The metadata key under which PaddleOCR's models keep their characters, one a line.
const CHARACTERS_KEY: &str = "character";

/// Text recognition: the best character of each step, repeats joined, blanks dropped. `lines`: lines that are the
/// label's; `lines_unspaced`: the same without spaces.
///
/// # Shapes
/// output: `[1, steps, characters]`. Index 0 is the blank, then the characters of the model's metadata `character`, one
/// a line; where the output has one more, the last is the space.
/// # Source
/// A. Graves et al., 2006, section 3.2, best path decoding; PaddleOCR's CTCLabelDecode.
pub(super) struct Ctc;

impl Task for Ctc {
    fn id(&self) -> &'static str {
        "ctc"
    }

    fn title(&self) -> &'static str {
        "labels are lines of text: the best character of each step"
    }

    fn judge(&self, subject: &Subject<'_>) -> Result<Box<dyn Judge>, Refusal> {
        let shape = subject.output.shape();
        let &[1, _, n_classes] = shape else {
            return Err(Refusal::Unfit(format!(
                "the output has shape {shape:?}, expected [1, steps, characters]"
            )));
        };
        if !subject.output.dtype().is_float() {
            let dtype = subject.output.dtype();
            return Err(Refusal::Unfit(format!(
                "the output is {dtype}, expected float scores"
            )));
        }
        let Some(listed) = subject.metadata(CHARACTERS_KEY) else {
            return Err(Refusal::Unfit(format!(
                "the model has no metadata \"{CHARACTERS_KEY}\""
            )));
        };
        let mut characters: Vec<String> = listed
            .strip_suffix('\n')
            .unwrap_or(listed)
            .split('\n')
            .map(|line| line.trim_end_matches('\r').to_owned())
            .collect();
        if characters.len() + 2 == n_classes {
            characters.push(" ".to_owned());
        }
        if characters.len() + 1 != n_classes {
            let n = characters.len();
            return Err(Refusal::Unfit(format!(
                "the output has {n_classes} characters, expected {} (a blank and the {n} of metadata \
                 \"{CHARACTERS_KEY}\") or one more for the space",
                n + 1
            )));
        }
        Ok(Box::new(Lines {
            characters,
            truths: subject.labels.iter().map(text_of).collect::<Result<_, _>>()?,
        }))
    }
}

fn text_of(label: &Label) -> Result<String, Refusal> {
    match &label.value {
        LabelValue::Text(text) => Ok(text.clone()),
        LabelValue::Numbers(_) => {
            let why = format!("{}: labels are numbers, expected lines of text", label.place);
            Err(Refusal::Unfit(why))
        }
    }
}

#[derive(Debug)]
struct Lines {
    /// The blank left out.
    characters: Vec<String>,
    truths: Vec<String>,
}

impl Lines {
    fn read(&self, output: &Tensor) -> Result<String, String> {
        let n_classes = self.characters.len() + 1;
        if output.shape().last() != Some(&n_classes) {
            let shape = output.shape();
            return Err(format!(
                "wrong shape, expected [1, steps, {n_classes}], got {shape:?}"
            ));
        }
        let mut line = String::new();
        let mut before = None;
        for step in scores_of(output)?.chunks_exact(n_classes) {
            let best = argmax(step);
            if let Some(class) = best.filter(|&class| class > 0 && best != before) {
                line.push_str(&self.characters[class - 1]);
            }
            before = best;
        }
        Ok(line)
    }
}

fn unspaced(line: &str) -> String {
    line.split_whitespace().collect()
}

impl Judge for Lines {
    fn metrics(&self) -> &'static [&'static str] {
        &["lines", "lines_unspaced"]
    }

    fn about(&self) -> String {
        format!("{} characters", self.characters.len())
    }

    fn score(&self, sample: usize, output: &Tensor) -> Result<Vec<Hits>, String> {
        let (line, truth) = (self.read(output)?, &self.truths[sample]);
        Ok(vec![
            Hits::one(line == *truth),
            Hits::one(unspaced(&line) == unspaced(truth)),
        ])
    }

    fn agreement(&self, reference: &Tensor, test: &Tensor) -> Result<Hits, String> {
        Ok(Hits::one(self.read(reference)? == self.read(test)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One hot steps over the blank, `a`, `b` and the space.
    fn output(steps: &[usize]) -> Tensor {
        let mut values = vec![0.0_f32; steps.len() * 4];
        for (step, class) in steps.iter().enumerate() {
            values[step * 4 + class] = 1.0;
        }
        Tensor::new(&[1, steps.len(), 4], values).unwrap()
    }

    fn judge(
        output: &Tensor,
        label: LabelValue,
        characters: Option<&str>,
    ) -> Result<Box<dyn Judge>, Refusal> {
        let metadata = characters.map(|text| (CHARACTERS_KEY.to_owned(), text.to_owned()));
        let place = "l.csv:1".to_owned();
        Ctc.judge(&Subject {
            output,
            labels: &[Label { place, value: label }],
            class_names: None,
            metadata: metadata.as_slice(),
        })
    }

    #[test]
    fn repeats_join_and_blanks_part() {
        struct Case {
            steps: &'static [usize],
            line: &'static str,
            hits: [usize; 2],
        }
        let cases = [
            Case {
                steps: &[0, 1, 1, 0, 1, 2, 0],
                line: "aab",
                hits: [1, 1],
            },
            Case {
                steps: &[1, 1, 2],
                line: "aab",
                hits: [0, 0],
            },
            Case {
                steps: &[1, 3, 2],
                line: "a b",
                hits: [1, 1],
            },
            Case {
                steps: &[1, 2],
                line: "a b",
                hits: [0, 1],
            },
            Case {
                steps: &[0, 0],
                line: "",
                hits: [1, 1],
            },
        ];
        for Case { steps, line, hits } in cases {
            let output = output(steps);
            let judge = judge(&output, LabelValue::Text(line.to_owned()), Some("a\nb")).unwrap();
            let found: Vec<usize> = judge
                .score(0, &output)
                .unwrap()
                .iter()
                .map(|h| h.n_hits)
                .collect();
            assert_eq!(found, hits, "{steps:?} {line}");
        }
        let judge = judge(
            &output(&[1]),
            LabelValue::Text(String::new()),
            Some("a\r\nb\r\n \n"),
        )
        .unwrap();
        assert_eq!(
            judge
                .agreement(&output(&[1]), &output(&[1, 1, 0]))
                .unwrap()
                .n_hits,
            1
        );
        assert_eq!(judge.agreement(&output(&[1]), &output(&[2])).unwrap().n_hits, 0);
        assert_eq!(
            judge
                .score(0, &Tensor::new(&[1, 1, 3], vec![0.0_f32; 3]).unwrap())
                .unwrap_err(),
            "wrong shape, expected [1, steps, 4], got [1, 1, 3]"
        );
    }

    #[test]
    fn what_is_no_text_does_not_fit() {
        let text = || LabelValue::Text("a".to_owned());
        struct Case {
            output: Tensor,
            label: LabelValue,
            characters: Option<&'static str>,
            why: &'static str,
        }
        #[rustfmt::skip]
        let cases = [
            Case { output: Tensor::vector(vec![0.0_f32]), label: text(), characters: Some("a\nb"), why: "the output has shape [1], expected [1, steps, characters]" },
            Case { output: Tensor::new(&[1, 1, 4], vec![0_i64; 4]).unwrap(), label: text(), characters: Some("a\nb"), why: "the output is int64, expected float scores" },
            Case { output: output(&[1]), label: text(), characters: None, why: "the model has no metadata \"character\"" },
            Case { output: output(&[1]), label: text(), characters: Some("a"), why: "the output has 4 characters, expected 2 (a blank and the 1 of metadata \"character\") or one more for the space" },
            Case { output: output(&[1]), label: LabelValue::Numbers(vec![1.0]), characters: Some("a\nb"), why: "l.csv:1: labels are numbers, expected lines of text" },
        ];
        for Case {
            output,
            label,
            characters,
            why,
        } in cases
        {
            assert_eq!(
                judge(&output, label, characters).unwrap_err(),
                Refusal::Unfit(why.to_owned())
            );
        }
    }
}
