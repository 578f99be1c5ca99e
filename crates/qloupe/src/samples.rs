//! Owns datasets: where samples come from, and how one sample becomes the tensors of the model's inputs.
//!
//! Opening a dataset finds what is missing or does not fit, before long work. Samples are then read one by one; none is
//! kept.

mod array_input;
mod cast;
mod dataset_txt;
mod error;
mod fit;
mod image_tensor;
mod input_spec;
mod labels;
mod pixels;
mod resize;
mod source;

use std::path::Path;

use qloupe_ir::suggestion;
use qloupe_tensor::Tensor;

pub use error::{SampleError, SamplePlace};
pub use input_spec::{ImageInput, InputSpec};
pub use labels::{Label, read_labels};
pub use resize::Interpolation;

use source::{Item, Sources};

/// Samples for the inputs of one model.
#[derive(Debug)]
pub struct Dataset {
    inputs: Vec<InputSpec>,
    /// For each input, one item a sample.
    columns: Vec<Vec<Item>>,
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
            let names = || inputs.iter().map(|input| input.name.as_str());
            match arg.split_once('=') {
                Some((name, file)) if !Path::new(arg).exists() => {
                    let idx =
                        names()
                            .position(|known| known == name)
                            .ok_or_else(|| SampleError::UnknownInput {
                                name: name.to_owned(),
                                help: suggestion(name, names()),
                            })?;
                    sources.add_file(idx, Path::new(file), file, None)?;
                }
                _ => sources.add_dataset(Path::new(arg))?,
            }
        }
        Self::of(sources, inputs)
    }

    fn of(sources: Sources<'_>, inputs: &[InputSpec]) -> Result<Self, SampleError> {
        let (columns, notes) = sources.finish()?;
        Ok(Self {
            inputs: inputs.to_vec(),
            columns,
            notes,
        })
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
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
        let of = |(spec, column): (&InputSpec, &Vec<Item>)| Ok((spec.name.clone(), column[idx].read(spec)?));
        self.inputs.iter().zip(&self.columns).map(of).collect()
    }
}

#[cfg(test)]
mod tests;
