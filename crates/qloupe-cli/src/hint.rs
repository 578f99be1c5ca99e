//! One action to take for an error: the `help:` line.

use qloupe::Error;
use qloupe_exec::{ExecError, OpError};
use qloupe_ir::IrError;

/// The text of an error. Errors of the library say everything in one sentence; their sources would repeat it.
pub(crate) fn text_of(error: &anyhow::Error) -> String {
    match error.chain().find_map(|cause| cause.downcast_ref::<Error>()) {
        Some(error) => error.to_string(),
        None => format!("{error:#}"),
    }
}

/// The hint of an error, if there is something to do.
pub(crate) fn of(error: &anyhow::Error) -> Option<String> {
    let error = error.chain().find_map(|cause| cause.downcast_ref::<Error>())?;
    Some(match error {
        Error::Exec { source: ExecError::UnsupportedOperators(_), .. } => {
            "keep the part before them with --crop-outputs, or export the model without them".to_owned()
        }
        Error::Exec { source: ExecError::WrongInput { what: "shape", name, .. }, .. } => {
            format!("feed \"{name}\" an array of that shape; pictures become samples of the input's size, as many as its batch")
        }
        Error::Exec { source: ExecError::MissingInput { name }, .. } => format!("feed it with --input {name}=FILE"),
        Error::Exec { source: ExecError::Node { source: OpError::TooLarge { .. }, .. }, .. } => return None,
        Error::Exec { source: ExecError::Node { .. }, .. } => {
            "where the size of the input is at fault, fix it with --shape NAME=DIMS or with a resize in the recipe".to_owned()
        }
        Error::NotFinite { .. } => {
            "look at the sample, at the mean and std of the recipe, and with `qloupe inspect MODEL` at the weights".to_owned()
        }
        Error::NanConstant { .. } => "export the model again; `qloupe inspect MODEL` lists every such constant".to_owned(),
        Error::Quantized { file, .. } => {
            format!("`qloupe analyze --quantized {file} [MODEL.onnx] --input FILE` shows where a quantized model loses accuracy")
        }
        Error::Report { .. } => "`qloupe analyze .. --report FILE.json` writes one".to_owned(),
        Error::Plan { .. } => "`qloupe build` writes a plan that fits the model".to_owned(),
        Error::Graph { source: IrError::UnknownValue { .. } | IrError::CutInput { .. }, .. } => "`qloupe inspect MODEL` lists the values of the graph".to_owned(),
        _ => return None,
    })
}
