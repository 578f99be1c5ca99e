//! What a run leaves behind: outputs collected over samples, and dumps of every value.

use std::path::{Path, PathBuf};

use qloupe_tensor::Tensor;

use crate::Error;
use crate::analyze::Tap;
use crate::array::dump_npy;
use crate::leading_axis;

/// How many classes a summary lists.
const TOP_K: usize = 5;

/// Outputs of several samples, joined along the first axis.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    outputs: Vec<(String, Vec<Tensor>)>,
}

impl Collected {
    /// Adds the outputs of one sample.
    pub fn add(&mut self, outputs: Vec<(String, Tensor)>) {
        for (name, tensor) in outputs {
            match self.outputs.iter_mut().find(|(known, _)| *known == name) {
                Some((_, list)) => list.push(tensor),
                None => self.outputs.push((name, vec![tensor])),
            }
        }
    }

    /// One array for each output; outputs of rank 0 get an axis for the samples.
    ///
    /// # Errors
    /// An output whose shape differs from sample to sample.
    pub fn join(&self) -> Result<Vec<(String, Tensor)>, Error> {
        self.outputs
            .iter()
            .map(|(name, list)| Ok((name.clone(), join(name, list)?)))
            .collect()
    }
}

fn join(name: &str, list: &[Tensor]) -> Result<Tensor, Error> {
    let first = &list[0];
    let tail = first.shape().get(1..).unwrap_or_default().to_vec();
    if let Some(other) = list
        .iter()
        .find(|t| t.rank() != first.rank() || t.shape().get(1..).unwrap_or_default() != tail)
    {
        return Err(Error::Options(format!(
            "output \"{name}\" has another shape in a later sample, expected {:?}, got {:?}: write one sample at a time",
            first.shape(),
            other.shape()
        )));
    }
    let unstored = || {
        let dtype = first.dtype();
        Error::Options(format!(
            "output \"{name}\" is {dtype}, which cannot be stored as an array"
        ))
    };
    Ok(leading_axis::join(list).ok_or_else(unstored)??)
}

/// One output of one sample in a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The output.
    pub name: String,
    /// Its dtype.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Elements that are NaN; the other figures leave them out.
    pub n_nan: usize,
    /// Smallest, largest and mean element; `None` without numbers.
    pub range: Option<(f64, f64, f64)>,
    /// The largest elements of a vector of scores, by index.
    pub top: Vec<(usize, f64)>,
}

impl Summary {
    /// Summarizes an output.
    pub fn of(name: &str, tensor: &Tensor) -> Self {
        let all = tensor.to_f64_vec().unwrap_or_default();
        let numbers: Vec<(usize, f64)> = all
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, v)| !v.is_nan())
            .collect();
        let n_nan = all.len() - numbers.len();
        let fold = |f: fn(f64, f64) -> f64, start| numbers.iter().map(|(_, v)| *v).fold(start, f);
        let mean = numbers.iter().map(|(_, v)| v).sum::<f64>() / numbers.len().max(1) as f64;
        let range = (!numbers.is_empty()).then(|| {
            (
                fold(f64::min, f64::INFINITY),
                fold(f64::max, f64::NEG_INFINITY),
                mean,
            )
        });
        let is_vector = tensor.shape().iter().rev().skip(1).all(|&d| d == 1) && all.len() > 1;
        let mut top = if tensor.dtype().is_float() && is_vector {
            numbers
        } else {
            Vec::new()
        };
        top.sort_by(|a, b| b.1.total_cmp(&a.1));
        top.truncate(TOP_K);
        Self {
            name: name.to_owned(),
            dtype: tensor.dtype().name().to_owned(),
            shape: tensor.shape().to_vec(),
            n_nan,
            range,
            top,
        }
    }
}

/// Dumps values as `.npy`, `index.json` maps each value to its file.
#[derive(Debug)]
pub struct DumpWriter {
    folder: PathBuf,
    sample: usize,
    index: serde_json::Map<String, serde_json::Value>,
}

impl DumpWriter {
    /// Tells that [`DumpWriter::create`] would fail, without creating anything.
    ///
    /// # Errors
    /// The folder, or one above it, is a file.
    pub fn check(folder: &Path) -> Result<(), Error> {
        match folder.ancestors().find(|above| above.exists()) {
            Some(above) if !above.is_dir() => Err(Error::File {
                path: folder.to_owned(),
                what: format!("cannot be created: {above:?} is not a folder"),
            }),
            _ => Ok(()),
        }
    }

    /// Creates the folder.
    ///
    /// # Errors
    /// A folder that cannot be created.
    pub fn create(folder: &Path) -> Result<Self, Error> {
        let failed = |e: std::io::Error| Error::File {
            path: folder.to_owned(),
            what: format!("cannot be created: {e}"),
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
        Ok(Self {
            folder: folder.to_owned(),
            sample: 0,
            index: serde_json::Map::new(),
        })
    }

    /// Writes one value; `kind` is a folder, `golden` or `test`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&mut self, kind: &str, name: &str, tensor: &Tensor) -> Result<(), Error> {
        let sample = format!("sample_{}", self.sample);
        let folder = self.folder.join(&sample).join(kind);
        let failed = |e: std::io::Error| Error::File {
            path: folder.clone(),
            what: format!("cannot be created: {e}"),
        };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let entry = self
            .index
            .entry(sample.clone())
            .or_insert_with(|| serde_json::json!({}));
        let files = entry.as_object_mut().expect("invariant: an object, set above");
        let n_values = files.len();
        let file = match files
            .get(name)
            .and_then(|v| v.get("file"))
            .and_then(|v| v.as_str())
        {
            Some(file) => file.to_owned(),
            None => format!("{n_values:04}_{}.npy", safe(name)),
        };
        files.insert(
            name.to_owned(),
            serde_json::json!({ "file": file, "shape": tensor.shape() }),
        );
        dump_npy(&folder.join(file), tensor)?;
        Ok(())
    }

    /// Writes `index.json`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn finish(self) -> Result<(), Error> {
        let text = serde_json::Value::Object(self.index).to_string();
        Ok(crate::write::write_atomically(
            &self.folder.join("index.json"),
            text.as_bytes(),
        )?)
    }
}

impl Tap for DumpWriter {
    fn begin_sample(&mut self, idx: usize) {
        self.sample = idx;
    }

    fn value(&mut self, name: &str, golden: &Tensor, test: &Tensor) -> Result<(), Error> {
        self.write("golden", name, golden)?;
        self.write("test", name, test)
    }
}

/// A value's name as a file name.
fn safe(name: &str) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' || c == '.' {
            c
        } else {
            '_'
        }
    };
    let text: String = name.trim_start_matches('/').chars().map(keep).collect();
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_join_along_the_first_axis() {
        let mut collected = Collected::default();
        collected.add(vec![(
            "y".to_owned(),
            Tensor::new(&[1, 2], vec![1.0_f32, 2.0]).unwrap(),
        )]);
        collected.add(vec![(
            "y".to_owned(),
            Tensor::new(&[1, 2], vec![3.0_f32, 4.0]).unwrap(),
        )]);
        let joined = collected.join().unwrap();
        assert_eq!(
            joined[0].1,
            Tensor::new(&[2, 2], vec![1.0_f32, 2.0, 3.0, 4.0]).unwrap()
        );
        collected.add(vec![(
            "y".to_owned(),
            Tensor::new(&[1, 3], vec![0.0_f32; 3]).unwrap(),
        )]);
        assert_eq!(
            collected.join().unwrap_err().to_string(),
            "output \"y\" has another shape in a later sample, expected [1, 2], got [1, 3]: write one sample at a time"
        );
    }

    #[test]
    fn every_name_is_a_file_name() {
        struct Case {
            name: String,
            file: String,
        }
        let cases = [
            ("scope/x:0 y", "scope_x_0_y".to_owned()),
            ("../../etc/passwd", ".._.._etc_passwd".to_owned()),
            ("/abs\\C:\0\n", "abs_C___".to_owned()),
            ("\u{e9}\u{4f60}\u{1f40d}", "___".to_owned()),
            ("", String::new()),
        ]
        .map(|(name, file)| Case {
            name: name.to_owned(),
            file,
        });
        let long = Case {
            name: "n".repeat(1000),
            file: "n".repeat(100),
        };
        for Case { name, file } in cases.into_iter().chain([long]) {
            assert_eq!(safe(&name), file, "{name:?}");
        }
    }

    #[test]
    fn a_summary_lists_the_best_classes() {
        let summary = Summary::of("y", &Tensor::new(&[1, 3], vec![0.5_f32, 2.0, -1.0]).unwrap());
        assert_eq!(summary.range, Some((-1.0, 2.0, 0.5)));
        assert_eq!(summary.top, [(1, 2.0), (0, 0.5), (2, -1.0)]);
    }

    #[test]
    fn a_summary_counts_nan_and_leaves_it_out() {
        let summary = Summary::of(
            "y",
            &Tensor::new(&[1, 4], vec![f32::NAN, 2.0, 4.0, f32::NAN]).unwrap(),
        );
        assert_eq!((summary.n_nan, summary.range), (2, Some((2.0, 4.0, 3.0))));
        assert_eq!(summary.top, [(2, 4.0), (1, 2.0)]);
        assert_eq!(Summary::of("y", &Tensor::vector(vec![f32::NAN])).range, None);
    }
}
