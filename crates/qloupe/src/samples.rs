//! Owns datasets: where samples come from, and how one sample becomes the tensors of the model's inputs.
//!
//! Opening a dataset finds what is missing or does not fit, before long work. Samples are then read one by one; none is
//! kept.

mod array_input;
mod batch;
mod cast;
mod dataset_txt;
mod error;
mod fit;
mod image_tensor;
mod input_spec;
mod labelled;
mod labels;
mod pixels;
mod resize;
mod source;

use std::path::Path;

use qloupe_ir::suggestion;
use qloupe_tensor::Tensor;

pub use batch::Batch;
pub use error::{SampleError, SamplePlace};
pub use input_spec::{ImageInput, InputSpec};
pub use labelled::{Label, LabelValue, Labelled};
pub use resize::Interpolation;

pub(crate) use cast::cast;

use source::{Item, Sources};

/// Samples for the inputs of one model.
#[derive(Debug)]
pub struct Dataset {
    inputs: Vec<InputSpec>,
    /// For each input, one item a sample; none for inputs that the recipe feeds.
    columns: Vec<Vec<Item>>,
    /// Samples that the model takes at once.
    n_rows: usize,
    notes: Vec<String>,
}

impl Dataset {
    /// Opens a folder of pictures (by name), a `dataset.txt`, a file of arrays or one picture.
    ///
    /// Arrays: the keys of `.npz` and `.safetensors` are input names, the leading axis is the sample; a `.npy` feeds
    /// the only input. `dataset.txt` has one sample a line with one file for each input, relative to the list.
    ///
    /// # Errors
    /// [`SampleError`] for what is missing, empty, of unknown kind, or does not fit the inputs.
    pub fn open(path: &Path, inputs: &[InputSpec]) -> Result<Self, SampleError> {
        let mut sources = Sources::new(inputs);
        sources.add_dataset(path)?;
        Self::of(sources, inputs)
    }

    /// Opens the files of a command line: `FILE` for a model of one input or a file of named arrays, `NAME=FILE`
    /// otherwise. The files of one input are its samples, in order.
    ///
    /// # Errors
    /// As [`Dataset::open`]; unknown input names suggest the nearest.
    pub fn from_args(args: &[String], inputs: &[InputSpec]) -> Result<Self, SampleError> {
        let mut sources = Sources::new(inputs);
        for arg in args {
            match arg.split_once('=') {
                Some((name, file)) if !Path::new(arg).exists() => {
                    sources.add_file(input_idx(name, inputs)?, Path::new(file), file, None)?;
                }
                _ => sources.add_dataset(Path::new(arg))?,
            }
        }
        Self::of(sources, inputs)
    }

    /// Samples out of arrays in memory, by input name; the leading axis is the sample, as in an `.npz`.
    ///
    /// # Errors
    /// As [`Dataset::open`]; unknown input names suggest the nearest.
    pub fn from_arrays(arrays: &[(String, Tensor)], inputs: &[InputSpec]) -> Result<Self, SampleError> {
        let mut sources = Sources::new(inputs);
        for (name, tensor) in arrays {
            sources.add_given(input_idx(name, inputs)?, tensor)?;
        }
        Self::of(sources, inputs)
    }

    fn of(sources: Sources<'_>, inputs: &[InputSpec]) -> Result<Self, SampleError> {
        let (columns, notes) = sources.finish()?;
        let n_rows = n_rows(inputs, &columns)?;
        Ok(Self {
            inputs: inputs.to_vec(),
            columns,
            n_rows,
            notes,
        })
    }

    /// The first `n` samples, or all where there are fewer.
    pub fn first(&self, n: usize) -> Self {
        let column = |column: &Vec<Item>| column.iter().take(n).cloned().collect();
        Self {
            inputs: self.inputs.clone(),
            columns: self.columns.iter().map(column).collect(),
            n_rows: self.n_rows,
            notes: self.notes.clone(),
        }
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.columns.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The number of runs that take all samples.
    pub fn n_batches(&self) -> usize {
        self.len().div_ceil(self.n_rows)
    }

    /// True when there are no samples: only for a model without inputs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the user should know: defaults that pictures get without a recipe, arrays that are ignored.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Reads sample `idx`: each input's name and its tensor of batch 1, in the model's layout and dtype.
    ///
    /// An array that has exactly the fixed shape of its input is handed over with its batch as it is.
    ///
    /// # Errors
    /// [`SampleError`] with the file, and the line of the list it comes from.
    /// # Panics
    /// When there is no sample `idx`.
    pub fn sample(&self, idx: usize) -> Result<Vec<(String, Tensor)>, SampleError> {
        let of = |(spec, column): (&InputSpec, &Vec<Item>)| {
            let tensor = match &spec.constant {
                Some(constant) => constant.clone(),
                None => column[idx].read(spec)?,
            };
            Ok((spec.name.clone(), tensor))
        };
        self.inputs.iter().zip(&self.columns).map(of).collect()
    }

    /// Reads what run `idx` takes: one sample, or as many as the fixed batch of the model.
    ///
    /// # Errors
    /// As [`Dataset::sample`]; samples of one batch whose shapes differ.
    /// # Panics
    /// When there is no batch `idx`.
    pub fn batch(&self, idx: usize) -> Result<Batch, SampleError> {
        if self.n_rows == 1 {
            return Ok(Batch::single(idx, self.sample(idx)?));
        }
        let first = idx * self.n_rows;
        let end = usize::min(first + self.n_rows, self.len());
        let samples = (first..end)
            .map(|idx| self.sample(idx))
            .collect::<Result<_, _>>()?;
        Batch::join(first, self.n_rows, samples, |input| {
            self.inputs[input].constant.is_some()
        })
    }

    /// The file of sample `idx`, when it holds no other sample.
    pub fn file(&self, idx: usize) -> Option<&Path> {
        self.columns
            .iter()
            .find_map(|column| column.get(idx))?
            .only_file()
    }
}

/// The place of the input of a name.
fn input_idx(name: &str, inputs: &[InputSpec]) -> Result<usize, SampleError> {
    let names = || inputs.iter().map(|input| input.name.as_str());
    names()
        .position(|known| known == name)
        .ok_or_else(|| SampleError::UnknownInput {
            name: name.to_owned(),
            help: suggestion(name, names()),
        })
}

/// How many samples one run takes: as many as the fixed batch of the inputs that are fed sample by sample.
fn n_rows(inputs: &[InputSpec], columns: &[Vec<Item>]) -> Result<usize, SampleError> {
    let items = inputs
        .iter()
        .zip(columns)
        .flat_map(|(spec, column)| column.iter().map(move |item| (spec, item)));
    let mut first: Option<(&InputSpec, usize)> = None;
    for (spec, item) in items {
        let Some(n) = item.n_rows(spec) else { continue };
        let (known, n_rows) = *first.get_or_insert((spec, n));
        if n != n_rows {
            return Err(SampleError::BatchSize {
                input: known.name.clone(),
                n_rows,
                other: spec.name.clone(),
                n_other: n,
            });
        }
    }
    Ok(first.map_or(1, |(_, n_rows)| n_rows))
}

#[cfg(test)]
mod tests;
