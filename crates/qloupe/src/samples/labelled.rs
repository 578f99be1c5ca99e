//! Samples with their labels: which label belongs to which sample.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use qloupe_tensor::Tensor;

use super::Dataset;
use super::error::{SampleError, SamplePlace, quoted};
use super::input_spec::InputSpec;
use super::labels::{LabelLine, read_labels};
use super::source::{Sources, has_extension, open_arrays, unreadable};

const LABEL_KINDS: &str = ".csv, .npy, .npz or .safetensors";
/// The arrays of a file of several that hold labels, the first one first.
const LABEL_ARRAYS: [&str; 2] = ["label", "labels"];

/// The label of one sample and where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// `labels.csv:3` or `"labels.npy", label 2`.
    pub place: String,
    /// The label.
    pub value: LabelValue,
}

/// A label as it is written.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelValue {
    /// A class, its name, a line of text.
    Text(String),
    /// The numbers of an array, one or several for a sample.
    Numbers(Vec<f64>),
}

/// Samples and the label of each.
#[derive(Debug)]
pub struct Labelled {
    /// The samples.
    pub dataset: Dataset,
    /// A label for each sample.
    pub labels: Vec<Label>,
}

impl Labelled {
    /// Opens labels and their samples.
    ///
    /// A `.csv` of lines `path,label` names its samples; where samples are given, it says what they are. A label that
    /// ends in `.npy` is a file of numbers. `.npy` holds the labels of the given samples along its first axis, `.npz` and
    /// `.safetensors` hold them under `label` or `labels` and may hold the samples too.
    ///
    /// # Errors
    /// As [`Dataset::open`] and [`Dataset::from_args`]; samples without a label, labels without samples.
    pub fn open(labels: &Path, samples: &[String], inputs: &[InputSpec]) -> Result<Self, SampleError> {
        let given = || Dataset::from_args(samples, inputs);
        Self::of(labels, (!samples.is_empty()).then_some(&given), inputs)
    }

    /// As [`Labelled::open`], for samples that are open already.
    ///
    /// # Errors
    /// Samples without a label, labels without samples.
    pub fn of_dataset(labels: &Path, dataset: &Dataset, inputs: &[InputSpec]) -> Result<Self, SampleError> {
        let given = || Ok(dataset.first(dataset.len()));
        Self::of(labels, Some(&given), inputs)
    }

    /// `given` opens the samples, where there are some beside the labels.
    fn of(
        labels: &Path,
        given: Option<&dyn Fn() -> Result<Dataset, SampleError>>,
        inputs: &[InputSpec],
    ) -> Result<Self, SampleError> {
        let place = SamplePlace {
            list: None,
            file: labels.display().to_string(),
        };
        if has_extension(labels, &["csv"]) {
            let lines = read_labels(labels)?;
            return match given {
                None => Self::of_lines(labels, &lines, inputs),
                Some(given) => Self::of_named_samples(labels, &lines, given()?),
            };
        }
        if !has_extension(labels, &["npy", "npz", "safetensors"]) {
            return Err(SampleError::Kind {
                place,
                expected: LABEL_KINDS,
            });
        }
        std::fs::metadata(labels).map_err(|source| unreadable(place.clone(), source))?;
        let (name, array) = read_label_array(labels, &place)?;
        let dataset = match given {
            Some(given) => given()?,
            None if has_extension(labels, &["npy"]) => {
                return Err(SampleError::NoSamples { labels: place.file });
            }
            None => {
                let mut sources = Sources::new(inputs);
                sources.use_array(&name);
                sources.add_dataset(labels)?;
                Dataset::of(sources, inputs)?
            }
        };
        let n_labels = array.shape().first().copied().unwrap_or(1);
        if n_labels != dataset.len() {
            return Err(SampleError::LabelCount {
                labels: place.file,
                n_labels,
                n_samples: dataset.len(),
            });
        }
        let numbers = numbers_of(&array, &place)?;
        let label = |idx: usize| {
            let length = numbers.len() / n_labels;
            Label {
                place: format!("{place}, label {idx}"),
                value: LabelValue::Numbers(numbers[idx * length..(idx + 1) * length].to_vec()),
            }
        };
        let labels = (0..n_labels).map(label).collect();
        Ok(Self { dataset, labels })
    }

    fn of_lines(list: &Path, lines: &[LabelLine], inputs: &[InputSpec]) -> Result<Self, SampleError> {
        let folder = list.parent().unwrap_or(Path::new(""));
        let mut sources = Sources::new(inputs);
        let mut labels = Vec::with_capacity(lines.len());
        for line in lines {
            let at = place_of(list, line);
            sources.add_line(folder, std::slice::from_ref(&line.file), &at)?;
            labels.push(label_of(list, line)?);
        }
        let dataset = Dataset::of(sources, inputs)?;
        Ok(Self { dataset, labels })
    }

    fn of_named_samples(list: &Path, lines: &[LabelLine], dataset: Dataset) -> Result<Self, SampleError> {
        let shown = list.display().to_string();
        // The same file may be written in several ways.
        let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut known: BTreeMap<PathBuf, &LabelLine> = BTreeMap::new();
        for line in lines {
            let before = known.insert(resolved(&line.path(list)), line);
            if let Some(before) = before.filter(|before| before.label != line.label) {
                return Err(SampleError::Line {
                    list: place_of(list, line),
                    what: format!(
                        "\"{}\" is \"{}\", expected \"{}\" as in line {}",
                        line.file, line.label, before.label, before.number
                    ),
                });
            }
        }
        let label = |idx: usize| {
            let file = dataset.file(idx).ok_or_else(|| SampleError::Unnamed {
                sample: idx,
                labels: shown.clone(),
            })?;
            let line = known
                .get(&resolved(file))
                .ok_or_else(|| SampleError::Unlabelled {
                    file: file.display().to_string(),
                    labels: shown.clone(),
                })?;
            label_of(list, line)
        };
        let labels = (0..dataset.len()).map(label).collect::<Result<_, _>>()?;
        Ok(Self { dataset, labels })
    }
}

fn place_of(list: &Path, line: &LabelLine) -> String {
    format!("{}:{}", list.display(), line.number)
}

fn label_of(list: &Path, line: &LabelLine) -> Result<Label, SampleError> {
    let at = place_of(list, line);
    let value = if has_extension(Path::new(&line.label), &["npy"]) {
        let place = SamplePlace {
            list: Some(at.clone()),
            file: line.label.clone(),
        };
        let path = list.parent().unwrap_or(Path::new("")).join(&line.label);
        std::fs::metadata(&path).map_err(|source| unreadable(place.clone(), source))?;
        let (_, array) = read_label_array(&path, &place)?;
        LabelValue::Numbers(numbers_of(&array, &place)?)
    } else {
        LabelValue::Text(line.label.clone())
    };
    Ok(Label { place: at, value })
}

/// The array of labels of a file and its name.
fn read_label_array(path: &Path, place: &SamplePlace) -> Result<(String, Tensor), SampleError> {
    let file = open_arrays(path, place.list.as_deref())?;
    let held = || file.arrays().iter().map(|info| info.name.as_str());
    let found = if has_extension(path, &["npy"]) {
        Some(0)
    } else {
        LABEL_ARRAYS.iter().find_map(|name| file.position(name))
    };
    let idx = found.ok_or_else(|| SampleError::NoLabelArray {
        place: place.clone(),
        held: quoted(held()),
    })?;
    let array = file.read(idx).map_err(|source| SampleError::ArrayFile {
        list: place.list.clone(),
        source,
    })?;
    Ok((file.arrays()[idx].name.clone(), array))
}

fn numbers_of(array: &Tensor, place: &SamplePlace) -> Result<Vec<f64>, SampleError> {
    if let Some(flags) = array.as_slice::<bool>() {
        return Ok(flags.iter().map(|&flag| f64::from(u8::from(flag))).collect());
    }
    array.to_f64_vec().map_err(|_| SampleError::LabelArray {
        place: place.clone(),
        what: array.dtype().name().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::{Compression, write_npy, write_npz};
    use crate::recipe::Recipe;
    use qloupe_tensor::DType;

    fn inputs() -> [InputSpec; 1] {
        let shape = vec![None, Some(2)];
        [InputSpec::new("x", DType::Float32, shape, &Recipe::default()).unwrap()]
    }

    fn floats(shape: &[usize]) -> Tensor {
        Tensor::new(shape, vec![0.5_f32; shape.iter().product()]).unwrap()
    }

    fn values(labelled: &Labelled) -> Vec<LabelValue> {
        labelled.labels.iter().map(|label| label.value.clone()).collect()
    }

    #[test]
    fn labels_find_their_samples() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let shown = |name: &str| path(name).display().to_string();
        let number = |value: f64| LabelValue::Numbers(vec![value]);
        for name in ["a.npy", "b.npy"] {
            write_npy(&path(name), &floats(&[1, 2])).unwrap();
        }
        write_npy(&path("frames.npy"), &Tensor::vector(vec![true, false])).unwrap();
        std::fs::write(path("l.csv"), "path,label\na.npy,seven\nb.npy,frames.npy\n").unwrap();
        let lines = Labelled::open(&path("l.csv"), &[], &inputs()).unwrap();
        let (text, frames) = (
            LabelValue::Text("seven".to_owned()),
            LabelValue::Numbers(vec![1.0, 0.0]),
        );
        assert_eq!(values(&lines), [text.clone(), frames.clone()]);
        assert_eq!(
            (lines.dataset.len(), lines.labels[1].place.as_str()),
            (2, &*format!("{}:3", shown("l.csv")))
        );
        let given = Labelled::open(&path("l.csv"), &[shown("b.npy"), shown("a.npy")], &inputs()).unwrap();
        assert_eq!(values(&given), [frames, text]);

        let arrays = [
            ("x".to_owned(), floats(&[2, 2])),
            ("label".to_owned(), Tensor::vector(vec![3_u8, 4])),
        ];
        write_npz(&path("both.npz"), &arrays, Compression::Stored).unwrap();
        let both = Labelled::open(&path("both.npz"), &[], &inputs()).unwrap();
        assert_eq!(values(&both), [number(3.0), number(4.0)]);
        assert!(both.dataset.notes().is_empty(), "the label array is used");

        write_npy(
            &path("l.npy"),
            &Tensor::new(&[2, 2], vec![0_i64, 1, 1, 0]).unwrap(),
        )
        .unwrap();
        let apart = Labelled::open(&path("l.npy"), &[shown("a.npy"), shown("b.npy")], &inputs()).unwrap();
        assert_eq!(
            values(&apart),
            [
                LabelValue::Numbers(vec![0.0, 1.0]),
                LabelValue::Numbers(vec![1.0, 0.0])
            ]
        );
    }

    #[test]
    fn each_refusal_has_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display().to_string();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
        write_npy(&path("a.npy"), &floats(&[1, 2])).unwrap();
        write_npy(&path("two.npy"), &floats(&[2, 2])).unwrap();
        write_npy(&path("l.npy"), &Tensor::vector(vec![1_i64, 2, 3])).unwrap();
        write_npz(
            &path("x.npz"),
            &[("x".to_owned(), floats(&[1, 2]))],
            Compression::Stored,
        )
        .unwrap();
        write("unknown.csv", "path,label\na.npy,1\nnone.npy,2\n");
        write("several.csv", "two.npy,1\n");
        write("other.csv", "l.npy,1\n");
        write("twice.csv", "a.npy,1\n./a.npy,2\n");
        write("frames.csv", "a.npy,frames.npy\n");
        struct Case {
            labels: &'static str,
            samples: &'static [&'static str],
            error: &'static str,
        }
        #[rustfmt::skip]
        let cases = [
            Case { labels: "none.csv", samples: &[], error: "\"{root}/none.csv\" does not exist" },
            Case { labels: "none.npy", samples: &["a.npy"], error: "\"{root}/none.npy\" does not exist" },
            Case { labels: "l.json", samples: &[], error: "\"{root}/l.json\" is of unknown kind, expected .csv, .npy, .npz or .safetensors" },
            Case { labels: "unknown.csv", samples: &[], error: "{root}/unknown.csv:3: \"none.npy\" does not exist" },
            Case { labels: "several.csv", samples: &[], error: "{root}/several.csv:1: \"two.npy\" holds 2 samples, expected 1 a line" },
            Case { labels: "frames.csv", samples: &[], error: "{root}/frames.csv:1: \"frames.npy\" does not exist" },
            Case { labels: "other.csv", samples: &["a.npy"], error: "\"{root}/a.npy\" has no label in \"{root}/other.csv\"" },
            Case { labels: "twice.csv", samples: &["a.npy"], error: "{root}/twice.csv:2: \"./a.npy\" is \"2\", expected \"1\" as in line 1" },
            Case { labels: "several.csv", samples: &["two.npy"], error: "sample 0 is one of several of its file, which \"{root}/several.csv\" cannot name; give labels as an array (.npy, .npz, .safetensors)" },
            Case { labels: "l.npy", samples: &[], error: "\"{root}/l.npy\" holds labels only, expected the samples with --input FILE" },
            Case { labels: "l.npy", samples: &["two.npy"], error: "\"{root}/l.npy\" holds 3 labels, expected 2 as there are samples" },
            Case { labels: "x.npz", samples: &[], error: "\"{root}/x.npz\" has no array \"label\" or \"labels\", it holds \"x\"" },
        ];
        for Case {
            labels,
            samples,
            error,
        } in cases
        {
            let samples: Vec<String> = samples.iter().map(|name| format!("{root}/{name}")).collect();
            let refused = Labelled::open(&path(labels), &samples, &inputs()).unwrap_err();
            assert_eq!(refused.to_string(), error.replace("{root}", &root), "{labels}");
        }
    }
}
