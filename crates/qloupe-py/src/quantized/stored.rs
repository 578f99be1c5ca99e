//! A model that another tool quantized: opened beside the float model it was made from, or beside its own float twin.

use std::path::Path;
use std::sync::Arc;

use qloupe::Error;
use qloupe::prepare::load_model;
use qloupe::prequantized::{Prequantized, is_quantized, quantizing_nodes};
use qloupe::quantize::Quantized;
use qloupe::report::Report;
use qloupe::session::Session;
use qloupe::targets::{self, Target};
use qloupe_tensor::Tensor;

use crate::model::Origin;

/// What another tool quantized.
pub(super) struct Stored {
    model: Prequantized,
    target: &'static Target,
}

/// Reads the quantized model of an origin: what it is compared with, its twin under its plan, and the model itself.
pub(super) fn open(
    origin: &Origin,
    original: Option<&Path>,
    target: &str,
) -> Result<(Arc<Session>, Quantized, Stored), Error> {
    let Origin {
        path,
        crop,
        shapes,
        recipe,
    } = origin;
    let target = targets::find(target)?;
    let file = path.display().to_string();
    if target.keeps_values_float() {
        let what = format!(
            "{file}: target {} has no integers, expected one that has",
            target.id
        );
        return Err(Error::Options(what));
    }
    let model = load_model(path, &Default::default())?;
    if !is_quantized(&model) {
        return Err(Error::Options(format!(
            "{file}: the model is not quantized, expected one with QuantizeLinear or operators on integers"
        )));
    }
    let model = Prequantized::read(file.clone(), model)?;
    let twin = Session::of_model(file, model.cropped_twin(crop)?, shapes, recipe)?;
    let (prepared, plan) = model.prepare(&twin.network, target)?;
    let session = match original {
        None => twin,
        Some(original) => {
            let file = original.display().to_string();
            let mut float = load_model(original, crop)?;
            if let Some(node) = quantizing_nodes(&float).first() {
                let what = format!("\"{}\" ({})", node.label(), node.op_type);
                return Err(Error::Quantized { file, what });
            }
            model.align(&twin.network.model, &mut float, &file)?;
            Session::of_model(file, float, shapes, recipe)?
        }
    };
    let made = Quantized::new(prepared, plan);
    Ok((Arc::new(session), made, Stored { model, target }))
}

impl Stored {
    /// Adds what is wrong with the way in which the model was quantized, and how well its plan says what it computes.
    pub(super) fn add_to(
        &self,
        report: &mut Report,
        quantized: &super::Quantized,
        inputs: &[(String, Tensor)],
    ) {
        report.findings.extend(self.model.audit(self.target));
        report.findings.sort_by_key(|finding| finding.severity);
        report.notes.push(
            match self.model.agreement(&quantized.prepared, &quantized.plan, inputs) {
                Ok(agreement) => {
                    format!("as the model's own operators compute the first sample: {agreement}")
                }
                Err(error) => format!("not compared with the model's own operators: {error}"),
            },
        );
    }
}
