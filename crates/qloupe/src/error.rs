//! Errors of the facade: one enum, each variant with its data, text made here.

use std::path::PathBuf;

use qloupe_exec::ExecError;
use qloupe_ir::{IrError, nearest_name};
use qloupe_onnx::OnnxError;
use qloupe_tensor::TensorError;

/// Anything that keeps qloupe from giving an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that is none of the choices.
    #[error("unknown {kind} \"{name}\",{} expected one of {}", did_you_mean(nearest), choices.join(", "))]
    UnknownChoice {
        /// `target`, `algorithm`, `method`.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        choices: Vec<String>,
        /// The nearest choice.
        nearest: Option<String>,
    },
    /// The model file cannot be read or written.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The graph is malformed, or a name does not exist in it.
    #[error("{file}: {source}")]
    Graph {
        /// The model file.
        file: String,
        /// What is wrong.
        source: IrError,
    },
    /// A run failed.
    #[error("{file}: {source}")]
    Exec {
        /// The model file.
        file: String,
        /// What is wrong.
        source: ExecError,
    },
    /// Quantization parameters or tensors do not fit.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Samples, images, recipe.
    #[error(transparent)]
    Sample(#[from] crate::samples::SampleError),
    /// The recipe file.
    #[error(transparent)]
    Recipe(#[from] crate::recipe::RecipeError),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] crate::write::WriteError),
    /// An array file cannot be read or written.
    #[error(transparent)]
    Array(#[from] crate::array::ArrayError),
    /// A gate that makes no sense.
    #[error(transparent)]
    Gate(#[from] crate::report::GateError),
    /// A plan file does not fit.
    #[error("{file}: {what}")]
    Plan {
        /// The plan file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// A file that is no report, or one of another version.
    #[error("{file}: {what}")]
    Report {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// A model that is quantized already, where a float one is expected.
    #[error("{file}: the model is quantized already, expected the float model it was made from, got {what}")]
    Quantized {
        /// The model file.
        file: String,
        /// What makes it one.
        what: String,
    },
    /// A value of the network is NaN or infinite.
    #[error("value \"{value}\", {sample}: {count} of {len} elements are NaN or infinite")]
    NotFinite {
        /// The value.
        value: String,
        /// The sample, `sample 3`.
        sample: String,
        /// How many elements.
        count: usize,
        /// Of how many.
        len: usize,
    },
    /// A stored tensor holds NaN: nothing that is computed from it has a meaning.
    #[error("{file}: constant \"{name}\": {count} of {len} elements are NaN, expected numbers")]
    NanConstant {
        /// The model file.
        file: String,
        /// The constant.
        name: String,
        /// How many elements.
        count: usize,
        /// Of how many.
        len: usize,
    },
    /// A file cannot be read.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// Options that do not fit together or do not fit the model.
    #[error("{0}")]
    Options(String),
}

impl Error {
    /// The error of a name that is none of `choices`.
    pub fn unknown_choice<'a>(
        kind: &'static str,
        name: &str,
        choices: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let choices: Vec<String> = choices.into_iter().map(str::to_owned).collect();
        let nearest = nearest_name(name, choices.iter().map(String::as_str)).map(str::to_owned);
        Self::UnknownChoice {
            kind,
            name: name.to_owned(),
            choices,
            nearest,
        }
    }
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map_or_else(String::new, |name| format!(" did you mean \"{name}\"?"))
}
