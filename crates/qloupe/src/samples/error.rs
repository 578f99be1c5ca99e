//! What can be wrong with samples, with the place.

use std::fmt;
use std::io;

use crate::array::ArrayError;
use crate::recipe::RecipeError;

/// A file of a dataset, and the line of the list that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplePlace {
    /// `dataset.txt:3`, when the file comes from a list.
    pub list: Option<String>,
    /// The file as the user wrote it.
    pub file: String,
}

impl fmt::Display for SamplePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(list) = &self.list {
            write!(f, "{list}: ")?;
        }
        write!(f, "{:?}", self.file)
    }
}

/// An error of opening a dataset or reading a sample.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// A file or folder does not exist.
    #[error("{place} does not exist")]
    Missing {
        /// Where.
        place: SamplePlace,
    },
    /// The operating system refuses.
    #[error("{place} cannot be read: {source}")]
    Read {
        /// Where.
        place: SamplePlace,
        /// Its answer.
        source: io::Error,
    },
    /// The file is no picture, or damaged.
    #[error("{place} cannot be decoded: {what}")]
    Decode {
        /// Where.
        place: SamplePlace,
        /// The decoder's words.
        what: String,
    },
    /// The extension is none that we read.
    #[error("{place} is of unknown kind, expected {expected}")]
    Kind {
        /// Where.
        place: SamplePlace,
        /// The kinds.
        expected: &'static str,
    },
    /// There is no sample.
    #[error("{place} holds no samples, expected {expected}")]
    Empty {
        /// Where.
        place: SamplePlace,
        /// What should be there.
        expected: &'static str,
    },
    /// A line of a list is malformed.
    #[error("{list}: {what}")]
    Line {
        /// `dataset.txt:3`.
        list: String,
        /// `<what is wrong>, expected <X>, got <Y>`.
        what: String,
    },
    /// A picture for an input that takes none.
    #[error(
        "{place}: pictures cannot feed input \"{input}\": {why}; use an array (.npy, .npz, .safetensors)"
    )]
    NotAnImageInput {
        /// Where.
        place: SamplePlace,
        /// The input.
        input: String,
        /// Why.
        why: String,
    },
    /// One file, several inputs.
    #[error("{place} feeds one input, expected {n_inputs} ({names}); {remedy}")]
    SeveralInputs {
        /// Where.
        place: SamplePlace,
        /// The number of inputs.
        n_inputs: usize,
        /// Their names, quoted.
        names: String,
        /// What to do.
        remedy: &'static str,
    },
    /// An array file lacks an input.
    #[error("{place} has no array \"{input}\" for the input of that name, it holds {held}{help}")]
    MissingArray {
        /// Where.
        place: SamplePlace,
        /// The input.
        input: String,
        /// The arrays of the file.
        held: String,
        /// `, did you mean "x"?` or nothing.
        help: String,
    },
    /// An array does not fit its input.
    #[error("{place}, input \"{input}\": {what}")]
    Array {
        /// Where.
        place: SamplePlace,
        /// The input.
        input: String,
        /// `<what is wrong>, expected <X>, got <Y>`, with the sample and a remedy where there is one.
        what: String,
    },
    /// Inputs have different numbers of samples.
    #[error("input \"{other}\" has {n_other} samples, expected {n_samples} as input \"{input}\" has")]
    Count {
        /// The first input.
        input: String,
        /// Its samples.
        n_samples: usize,
        /// The other input.
        other: String,
        /// Its samples.
        n_other: usize,
    },
    /// A sample that the labels do not name.
    #[error("\"{file}\" has no label in \"{labels}\"")]
    Unlabelled {
        /// The file of the sample.
        file: String,
        /// The list of labels.
        labels: String,
    },
    /// A sample that no list of files can name.
    #[error(
        "sample {sample} is one of several of its file, which \"{labels}\" cannot name; give labels as an array (.npy, .npz, .safetensors)"
    )]
    Unnamed {
        /// The sample.
        sample: usize,
        /// The list of labels.
        labels: String,
    },
    /// Labels without samples.
    #[error("\"{labels}\" holds labels only, expected the samples with --input FILE")]
    NoSamples {
        /// The array file.
        labels: String,
    },
    /// Another number of labels than of samples.
    #[error("\"{labels}\" holds {n_labels} labels, expected {n_samples} as there are samples")]
    LabelCount {
        /// The array file.
        labels: String,
        /// Its labels.
        n_labels: usize,
        /// The samples.
        n_samples: usize,
    },
    /// A file of arrays without labels.
    #[error("{place} has no array \"label\" or \"labels\", it holds {held}")]
    NoLabelArray {
        /// Where.
        place: SamplePlace,
        /// The arrays of the file.
        held: String,
    },
    /// An array that is no label.
    #[error("{place}: labels are {what}, expected numbers")]
    LabelArray {
        /// Where.
        place: SamplePlace,
        /// `string`.
        what: String,
    },
    /// Samples that cannot be fed together.
    #[error(
        "input \"{input}\": sample {sample} does not fit a batch of {n_rows}, expected shape {expected:?} as sample {}, \
         got {got:?}; set size in the recipe", sample - sample % n_rows
    )]
    Batch {
        /// The input.
        input: String,
        /// Samples that the model takes at once.
        n_rows: usize,
        /// The sample that differs.
        sample: usize,
        /// The shape of the first sample of the batch.
        expected: Vec<usize>,
        /// Its shape.
        got: Vec<usize>,
    },
    /// Inputs of different fixed batches.
    #[error("input \"{other}\" takes {n_other} samples at once, expected {n_rows} as input \"{input}\" does")]
    BatchSize {
        /// The first input.
        input: String,
        /// Its samples.
        n_rows: usize,
        /// The other input.
        other: String,
        /// Its samples.
        n_other: usize,
    },
    /// A file for an input that the recipe feeds.
    #[error(
        "{place} feeds input \"{input}\", which the recipe feeds with value = {value}; remove one of them"
    )]
    FedByRecipe {
        /// Where.
        place: SamplePlace,
        /// The input.
        input: String,
        /// The value.
        value: f64,
    },
    /// `NAME=FILE` names no input.
    #[error("the model has no input \"{name}\"{help}")]
    UnknownInput {
        /// The name.
        name: String,
        /// `, did you mean "x"?` or nothing.
        help: String,
    },
    /// An input gets no file.
    #[error("input \"{name}\" gets no file, give it with {name}=FILE")]
    UnfedInput {
        /// The input.
        name: String,
    },
    /// The model tells too little of an input.
    #[error(
        "input \"{name}\" is not a tensor of known dtype and number of dimensions, give its shape with --shape {name}=1,3,224,224"
    )]
    UntypedInput {
        /// The input.
        name: String,
    },
    /// An array file cannot be read.
    #[error("{}{source}", .list.as_ref().map(|list| format!("{list}: ")).unwrap_or_default())]
    ArrayFile {
        /// `dataset.txt:3`, when the file comes from a list.
        list: Option<String>,
        /// What is wrong.
        source: ArrayError,
    },
    /// The recipe does not fit the model.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
}

/// Names for a message: `"a", "b"`.
pub(super) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names
        .into_iter()
        .map(|name| format!("\"{name}\""))
        .collect::<Vec<_>>()
        .join(", ")
}
