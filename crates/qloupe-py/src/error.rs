//! Errors of the facade as exceptions of `qloupe.errors`: a class for each kind, data as attributes.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use qloupe::Error;
use qloupe::recipe::RecipeError;
use qloupe::samples::SampleError;
use qloupe_exec::{ExecError, OpError};

const MODULE: &str = "qloupe.errors";

/// The exception of an error. Where even that cannot be made, what keeps it from being made.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    made(py, error).unwrap_or_else(|failure| failure)
}

/// As [`to_python`], for what is wrong with the arguments of a call.
pub(crate) fn wrong_options(py: Python<'_>, what: impl Into<String>) -> PyErr {
    to_python(py, &Error::Options(what.into()))
}

fn made(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let fields = PyDict::new(py);
    let class = describe(error, &fields)?;
    fields.set_item("help", help_of(error))?;
    let class = py.import(MODULE)?.getattr(class)?;
    Ok(PyErr::from_value(
        class.call((error.to_string(),), Some(&fields))?,
    ))
}

/// The class of an error; its data goes to `fields`.
fn describe(error: &Error, fields: &Bound<'_, PyDict>) -> PyResult<&'static str> {
    Ok(match error {
        Error::UnknownChoice {
            kind,
            name,
            choices,
            nearest,
        } => {
            fields.set_item("what", *kind)?;
            fields.set_item("name", name)?;
            fields.set_item("choices", choices)?;
            fields.set_item("nearest", nearest)?;
            "UnknownChoiceError"
        }
        Error::Graph { file, .. } => {
            fields.set_item("file", file)?;
            "ModelError"
        }
        Error::NanConstant { file, name, .. } => {
            fields.set_item("file", file)?;
            fields.set_item("value", name)?;
            "ModelError"
        }
        Error::Onnx(_) => "ModelError",
        Error::Quantized { file, .. } => {
            fields.set_item("file", file)?;
            "QuantizedModelError"
        }
        Error::Exec { file, source } => {
            fields.set_item("file", file)?;
            match source {
                ExecError::UnsupportedOperators(operators) => {
                    fields.set_item("operators", operators)?;
                    "UnsupportedOperatorsError"
                }
                ExecError::Interrupted => "InterruptedRunError",
                ExecError::Node { node, op_type, .. } => {
                    fields.set_item("node", node)?;
                    fields.set_item("op_type", op_type)?;
                    "RunError"
                }
                ExecError::MissingInput { name } | ExecError::WrongInput { name, .. } => {
                    fields.set_item("value", name)?;
                    "RunError"
                }
                _ => "RunError",
            }
        }
        Error::Sample(SampleError::Recipe(recipe)) | Error::Recipe(recipe) => {
            if let RecipeError::UnknownKey { key, .. } | RecipeError::Value { key, .. } = recipe {
                fields.set_item("key", key)?;
            }
            "RecipeError"
        }
        Error::Sample(_) => "SampleError",
        Error::Plan { file, .. } => {
            fields.set_item("file", file)?;
            "PlanError"
        }
        Error::NotFinite {
            value, sample, count, ..
        } => {
            fields.set_item("value", value)?;
            fields.set_item("sample", sample)?;
            fields.set_item("count", count)?;
            "NotFiniteError"
        }
        Error::Report { file, .. } => {
            fields.set_item("file", file)?;
            "FileError"
        }
        Error::File { path, .. } => {
            fields.set_item("file", path.display().to_string())?;
            "FileError"
        }
        Error::Array(_) | Error::Write(_) => "FileError",
        _ => "OptionsError",
    })
}

/// One action to take, in the words of the package.
fn help_of(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::Exec {
            source: ExecError::UnsupportedOperators(_),
            ..
        } => "keep the part before them with load(.., outputs=[..]), or export the model without them",
        Error::Exec {
            source:
                ExecError::Node {
                    source: OpError::TooLarge { .. },
                    ..
                },
            ..
        } => return None,
        Error::Exec {
            source: ExecError::Node { .. },
            ..
        } => {
            "where the size of the input is at fault, fix it with load(.., shapes={..}) or with a resize in the recipe"
        }
        Error::NotFinite { .. } => {
            "look at the sample, at the mean and std of the recipe, and with Model.inspect() at the weights"
        }
        Error::NanConstant { .. } => "export the model again; Model.inspect() lists every such constant",
        Error::Quantized { .. } => {
            "load_quantized() reads a quantized model and shows where it loses accuracy"
        }
        Error::Plan { .. } => "Model.build() makes a plan that fits the model",
        Error::Report { .. } => "Report.save(\"FILE.json\") writes one",
        Error::Graph { .. } => "Model.inspect() lists the values of the graph",
        _ => return None,
    })
}
