//! The statistics file: an `.npz`, so that NumPy reads it, too.
//!
//! `qloupe-statistics-1` holds the fingerprint of the model; for each value, `NAME/samples` is `[n, 2]` float32, the range
//! of each sample, and `NAME/histogram` is `[m, 2]` uint64, the number of a bin and its count.

use std::collections::BTreeMap;
use std::path::Path;

use qloupe_tensor::{Element, Range, Tensor};

use super::histogram::Histogram;
use super::{Sketch, Statistics};
use crate::Error;
use crate::array::{ArrayFile, Compression, write_npz};

const FINGERPRINT: &str = "qloupe-statistics-1";
const SAMPLES: &str = "/samples";
const HISTOGRAM: &str = "/histogram";

/// Writes statistics; `fingerprint` is that of the model they belong to.
///
/// # Errors
/// A path that cannot be written, or does not end in `.npz`.
pub fn write_statistics(path: &Path, statistics: &Statistics, fingerprint: u64) -> Result<(), Error> {
    if path.extension().is_none_or(|extension| extension != "npz") {
        return Err(Error::Options(format!(
            "{}: wrong extension of a statistics file, expected .npz",
            path.display()
        )));
    }
    let mut arrays = vec![
        (FINGERPRINT.to_owned(), array(&[1], vec![fingerprint])?),
        (
            "n_samples".to_owned(),
            array(&[1], vec![statistics.n_samples as u64])?,
        ),
    ];
    for (name, sketch) in &statistics.sketches {
        let samples: Vec<f32> = sketch.samples().iter().flat_map(|r| [r.min, r.max]).collect();
        let pairs = sketch.histogram().pairs();
        arrays.push((
            format!("{name}{SAMPLES}"),
            array(&[samples.len() / 2, 2], samples)?,
        ));
        let shape = [pairs.len(), 2];
        arrays.push((
            format!("{name}{HISTOGRAM}"),
            array(&shape, pairs.into_flattened())?,
        ));
    }
    Ok(write_npz(path, &arrays, Compression::Deflated)?)
}

fn array<T: Element>(shape: &[usize], values: Vec<T>) -> Result<Tensor, Error> {
    Ok(Tensor::new(shape, values)?)
}

/// Reads the statistics of the model with this fingerprint.
///
/// # Errors
/// A file that cannot be read or is none of statistics; statistics of another model.
pub fn read_statistics(path: &Path, fingerprint: u64) -> Result<Statistics, Error> {
    let wrong = |what: String| Error::File {
        path: path.to_owned(),
        what,
    };
    let file = ArrayFile::open(path)?;
    let read = |name: &str| file.position(name).map(|idx| file.read(idx)).transpose();
    let stored = read(FINGERPRINT)?
        .as_ref()
        .and_then(|tensor| tensor.as_slice::<u64>()?.first().copied());
    let Some(stored) = stored else {
        return Err(wrong(format!(
            "no statistics file, expected an array \"{FINGERPRINT}\""
        )));
    };
    if stored != fingerprint {
        return Err(wrong(format!(
            "statistics of another model, optimization level or target, expected fingerprint {fingerprint:016x}, got \
             {stored:016x}; delete the file to calibrate again"
        )));
    }
    let mut statistics = Statistics::default();
    let n_samples = read("n_samples")?.and_then(|tensor| tensor.as_slice::<u64>()?.first().copied());
    statistics.n_samples = usize::try_from(n_samples.unwrap_or(0)).unwrap_or(usize::MAX);
    let mut sketches: BTreeMap<String, Sketch> = BTreeMap::new();
    for name in file
        .arrays()
        .iter()
        .filter_map(|info| info.name.strip_suffix(SAMPLES))
    {
        let samples = read(&format!("{name}{SAMPLES}"))?;
        let pairs = read(&format!("{name}{HISTOGRAM}"))?;
        let malformed = || wrong(format!("statistics of value \"{name}\" are malformed"));
        let samples = samples.as_ref().and_then(|tensor| tensor.as_slice::<f32>());
        let pairs = pairs.as_ref().and_then(|tensor| tensor.as_slice::<u64>());
        let (Some((samples, [])), Some((pairs, []))) = (
            samples.map(<[f32]>::as_chunks::<2>),
            pairs.map(<[u64]>::as_chunks::<2>),
        ) else {
            return Err(malformed());
        };
        let is_range = |&[min, max]: &[f32; 2]| min.is_finite() && max.is_finite() && min <= max;
        let histogram = Histogram::of_pairs(pairs).filter(|_| samples.iter().all(is_range));
        let samples = samples.iter().map(|&[min, max]| Range { min, max }).collect();
        sketches.insert(
            name.to_owned(),
            Sketch::new(samples, histogram.ok_or_else(malformed)?),
        );
    }
    statistics.sketches = sketches;
    Ok(statistics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_another_model_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.npz");
        let mut sketch = Sketch::default();
        sketch.observe(&[0.0, -1.5, 3.0], Range { min: -1.5, max: 3.0 });
        let mut only_ranges = Sketch::default();
        only_ranges.observe(&[], Range { min: 0.0, max: 1.0 });
        let statistics = Statistics {
            sketches: [("a/b".to_owned(), sketch), ("c".to_owned(), only_ranges)].into(),
            n_samples: 1,
        };
        write_statistics(&path, &statistics, 7).unwrap();
        let read = read_statistics(&path, 7).unwrap();
        assert_eq!(read.sketches["a/b"], statistics.sketches["a/b"]);
        assert_eq!(read.sketches["c"].samples(), statistics.sketches["c"].samples());
        assert!(!read.has_histograms() && read.n_samples == 1);
        let error = read_statistics(&path, 8).unwrap_err().to_string();
        let expected = "statistics of another model, optimization level or target, expected fingerprint 0000000000000008, got 0000000000000007; delete the file to calibrate again";
        assert!(error.ends_with(expected), "{error}");
        let error = write_statistics(&folder.path().join("s"), &statistics, 7).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("wrong extension of a statistics file, expected .npz")
        );
    }
}
