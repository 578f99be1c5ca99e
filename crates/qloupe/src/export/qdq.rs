//! `qdq`: the plan in the graph, as QuantizeLinear and DequantizeLinear.

use std::path::{Path, PathBuf};

use super::{ExportFormat, ExportOption, Exported, Request, model_of_plan};
use crate::Error;

/// What `qloupe build --plan` writes.
pub(super) struct Qdq;

impl ExportFormat for Qdq {
    fn id(&self) -> &'static str {
        "qdq"
    }

    fn title(&self) -> &'static str {
        "ONNX with QuantizeLinear and DequantizeLinear, as `qloupe build --plan` writes it"
    }

    fn needs(&self) -> &'static [ExportOption] {
        &[]
    }

    fn default_output(&self, request: &Request<'_>) -> PathBuf {
        request.model.with_extension("int8.onnx")
    }

    fn export(&self, request: &Request<'_>, output: &Path) -> Result<Exported, Error> {
        let model = model_of_plan(&request.session.network.file, request.prepared, request.plan)?;
        qloupe_onnx::write_model(&model, output)?;
        Ok(Exported {
            files: vec![output.to_owned()],
            ..Exported::default()
        })
    }
}
