//! What `analyze --quantized` needs: a model that another tool quantized, and what it is compared with.

use std::path::Path;

use anyhow::bail;
use qloupe::prepare::load_model;
use qloupe::prequantized::{Prequantized, is_quantized};
use qloupe::report::Finding;
use qloupe::session::Session;
use qloupe::targets::{self, Target};
use qloupe::{Error, prequantized};
use qloupe_tensor::Tensor;

use crate::args::{ModelArgs, QuantizeArgs, is_same_file, read_recipe};
use qloupe::quantize::Quantized;

/// The target of a quantized model that names none: the runtime whose format all of these tools write.
const DEFAULT_TARGET: &str = "onnxruntime";

/// The target, when no option says how to quantize.
pub(super) fn check(args: &QuantizeArgs) -> anyhow::Result<&'static Target> {
    let beside = args.given_beside_quantized();
    if !beside.is_empty() {
        bail!(
            "--quantized is a model that is quantized already, expected nothing beside it that says how, got {}",
            beside.join(", ")
        );
    }
    let target = targets::find(args.target.as_deref().unwrap_or(DEFAULT_TARGET))?;
    if target.keeps_values_float() {
        bail!(
            "--quantized with target {} is not supported, expected a target with integers",
            target.id
        );
    }
    Ok(target)
}

/// A quantized model with its twin, and the float model where there is one.
pub(super) struct Stored {
    target: &'static Target,
    model: Prequantized,
    twin: Session,
    original: Option<Session>,
}

impl Stored {
    /// Reads the quantized model at `path`, and the float one of `args`.
    pub(super) fn open(
        path: &Path,
        args: &ModelArgs,
        recipe: Option<&Path>,
        target: &'static Target,
    ) -> anyhow::Result<Self> {
        args.set_threads()?;
        let file = path.display().to_string();
        let stored = load_model(path, &Default::default())?;
        if !is_quantized(&stored) {
            bail!(
                "--quantized {file}: the model is not quantized, expected one with QuantizeLinear or operators on integers"
            );
        }
        let model = Prequantized::read(file.clone(), stored)?;
        let (recipe, shapes, crop) = (read_recipe(recipe)?, args.shapes()?, args.crop());
        let twin = model.cropped_twin(&crop)?;
        let twin = Session::of_model(file, twin, &shapes, &recipe)?;
        let original = match args.given_path().filter(|given| !is_same_file(given, path)) {
            Some(given) => {
                let file = given.display().to_string();
                let mut original = load_model(given, &crop)?;
                if let Some(node) = prequantized::quantizing_nodes(&original).first() {
                    let what = format!("\"{}\" ({})", node.label(), node.op_type);
                    return Err(Error::Quantized { file, what }.into());
                }
                model.align(&twin.network.model, &mut original, &file)?;
                Some(Session::of_model(file, original, &shapes, &recipe)?)
            }
            None => None,
        };
        Ok(Self {
            target,
            model,
            twin,
            original,
        })
    }

    /// What the quantized model is compared with.
    pub(super) fn golden(&self) -> &Session {
        self.original.as_ref().unwrap_or(&self.twin)
    }

    /// The twin and its plan.
    pub(super) fn quantized(&self) -> anyhow::Result<Quantized> {
        let (prepared, plan) = self.model.prepare(&self.twin.network, self.target)?;
        Ok(Quantized::new(prepared, plan))
    }

    /// What is wrong with the way in which it was quantized.
    pub(super) fn audit(&self) -> Vec<Finding> {
        self.model.audit(self.target)
    }

    /// How well the plan says what the model computes, on one sample.
    pub(super) fn agreement(&self, quantized: &Quantized, inputs: &[(String, Tensor)]) -> String {
        match self.model.agreement(&quantized.prepared, &quantized.plan, inputs) {
            Ok(agreement) => format!("as the model's own operators compute the first sample: {agreement}"),
            Err(error) => format!("not compared with the model's own operators: {error}"),
        }
    }
}
