//! `float`: the rewritten float model, for another compiler that quantizes by itself.

use std::path::{Path, PathBuf};

use super::{ExportFormat, ExportOption, Exported, Request};
use crate::Error;

/// The graph that the plan is about: batch norms folded, Concats rescaled, weights and biases as passes left them.
pub(super) struct Float;

impl ExportFormat for Float {
    fn id(&self) -> &'static str {
        "float"
    }

    fn title(&self) -> &'static str {
        "the float model as passes rewrote it, for another compiler that quantizes by itself"
    }

    fn needs(&self) -> &'static [ExportOption] {
        &[]
    }

    fn default_output(&self, request: &Request<'_>) -> PathBuf {
        request.model.with_extension("rewritten.onnx")
    }

    fn export(&self, request: &Request<'_>, output: &Path) -> Result<Exported, Error> {
        qloupe_onnx::write_model(&request.prepared.model, output)?;
        Ok(Exported {
            files: vec![output.to_owned()],
            ..Exported::default()
        })
    }
}
