//! What `analyze`, `bench`, `build`, `evaluate` and `infer` share: from arguments to a prepared graph and a plan.

use anyhow::{Context, bail};
use qloupe::mixed_fp16::quantize_to_mixed_fp16;
use qloupe::plan::{Method, weight_only_word};
use qloupe::quantize::{DEFAULT_ALGORITHM, QuantizeOptions, Quantized, quantize_to_fp16, read_plan};
use qloupe::samples::Dataset;
use qloupe::session::Session;
use qloupe::targets::Target;
use qloupe::weight_only::quantize_weights_alone;
use qloupe::{Error, Mode, calibrate, targets};
use qloupe_tensor::Tensor;

use crate::args::QuantizeArgs;
use crate::progress::{self, Stages};

const MODES: &[(&str, Mode)] = &[("integer", Mode::Integer), ("fake-quant", Mode::FakeQuant)];

/// How quantized units compute.
pub(super) fn parse_mode(name: &str) -> anyhow::Result<Mode> {
    let found = MODES.iter().find(|(id, _)| *id == name).map(|(_, mode)| *mode);
    Ok(found.ok_or_else(|| Error::unknown_choice("mode", name, MODES.iter().map(|(id, _)| *id)))?)
}

/// What `bench` and `infer` run.
const RUN_MODES: &[&str] = &["float", "fake-quant", "fp16", "integer"];

/// The mode of a run, which fits to a plan being there or not.
pub(super) fn check_run_mode(given: Option<&str>, has_plan: bool) -> anyhow::Result<&'static str> {
    let name = given.unwrap_or(if has_plan { "integer" } else { "float" });
    let Some(&mode) = RUN_MODES.iter().find(|known| **known == name) else {
        return Err(Error::unknown_choice("mode", name, RUN_MODES.iter().copied()).into());
    };
    let needs_plan = mode == "integer" || mode == "fake-quant";
    if needs_plan != has_plan {
        let verb = if needs_plan { "needs a" } else { "takes no" };
        bail!("mode {mode} {verb} plan, expected --mode integer or fake-quant with --plan P.toml");
    }
    Ok(mode)
}

/// How the quantized units of a run compute.
pub(super) fn mode_of_run(mode: &str) -> Mode {
    if mode == "fake-quant" {
        Mode::FakeQuant
    } else {
        Mode::Integer
    }
}

/// Choices that are checked before any work begins.
pub(super) struct Choices {
    target: Option<&'static Target>,
    algorithm: &'static dyn calibrate::Algorithm,
    method: Method,
}

impl Choices {
    /// True for a target without integers.
    pub(super) fn is_fp16(&self) -> bool {
        self.target.is_some_and(Target::is_fp16)
    }

    /// The word for units of a target that has integer weights and float16 values.
    pub(super) fn weight_only(&self) -> Option<&'static str> {
        let target = self.target.filter(|target| target.quantizes_weights_only())?;
        weight_only_word(target.weight_dtype)
    }

    /// The target, where no plan is read.
    pub(super) fn require_target(&self) -> anyhow::Result<&'static Target> {
        self.target.context(
            "a target is missing, expected --target T --dataset D, --plan P.toml or --precision fp16",
        )
    }

    /// What the library is asked for.
    pub(super) fn options(&self, args: &QuantizeArgs, target: &'static Target) -> QuantizeOptions {
        QuantizeOptions {
            target,
            algorithm: self.algorithm,
            method: self.method,
            optimization_level: args.optimization_level(),
            statistics: args.statistics.clone(),
            ranges: args.ranges.clone(),
        }
    }
}

/// The samples of `--dataset`; `None` for a target that can do without.
pub(super) fn calibration_samples(
    args: &QuantizeArgs,
    target: &Target,
    session: &Session,
) -> anyhow::Result<Option<Dataset>> {
    match &args.dataset {
        Some(path) => Ok(Some(Dataset::open(path, &session.inputs).map_err(Error::from)?)),
        None if !target.keeps_values_float() => {
            bail!(
                "calibration samples are missing for target {}, expected --dataset D or --plan P.toml",
                target.id
            )
        }
        None => Ok(None),
    }
}

/// Checks the names that the user chose.
pub(super) fn check(args: &QuantizeArgs) -> anyhow::Result<Choices> {
    let beside = args.given_beside_plan();
    if args.plan.is_some() && !beside.is_empty() {
        bail!(
            "--plan says how the model is quantized, expected nothing beside it, got {}",
            beside.join(", ")
        );
    }
    let mut target = args.target.as_deref().map(targets::find).transpose()?;
    match args.precision.as_deref() {
        None => {}
        Some("fp16") => target = Some(target.unwrap_or(targets::find("fp16")?)),
        Some("int8") => bail!("--precision int8 is what a target is for, expected --target T --dataset D"),
        Some(other) => return Err(Error::unknown_choice("precision", other, ["fp16"]).into()),
    }
    if let Some(target) = target.filter(|t| args.precision.is_some() && !t.is_fp16()) {
        bail!(
            "--precision fp16 with target {} is not supported, expected --precision fp16 without a target",
            target.id
        );
    }
    let method = args.method.as_deref().map(Method::parse).transpose()?;
    let method = match target {
        Some(target) => Method::for_target(method, target)?,
        None => method.unwrap_or(Method::Channel),
    };
    Ok(Choices {
        target,
        algorithm: calibrate::find(args.algorithm.as_deref().unwrap_or(DEFAULT_ALGORITHM))?,
        method,
    })
}

/// Reads the plan, or calibrates one. `inputs` are the samples of the command, for a plan that needs no calibration.
pub(super) fn quantize(
    args: &QuantizeArgs,
    choices: &Choices,
    session: &mut Session,
    inputs: Option<&Dataset>,
    quiet: bool,
) -> anyhow::Result<Quantized> {
    if let Some(path) = &args.plan {
        resolve_branches(session, inputs, quiet)?;
        return Ok(read_plan(path, session)?);
    }
    let target = choices.require_target()?;
    let opened = calibration_samples(args, target, session)?;
    if target.quantizes_weights_only() && opened.is_none() {
        return Ok(from_weights_alone(
            session,
            inputs,
            quiet,
            &choices.options(args, target),
        )?);
    }
    let Some(dataset) = opened.as_ref().or(inputs) else {
        bail!("samples are missing, expected --dataset D")
    };
    resolve_branches(session, Some(dataset), quiet)?;
    let options = choices.options(args, target);
    let stages = Stages::new(quiet);
    let show = |stage: &str, done, all| stages.show(stage, done, all);
    let quantized = if choices.is_fp16() && args.dataset.is_some() {
        quantize_to_mixed_fp16(session, dataset, &options, &show)?
    } else {
        qloupe::quantize::quantize(session, dataset, &options, &show)?
    };
    stages.finish();
    for note in quantized.notes.iter().filter(|_| !quiet) {
        progress::message(&format!("note: {note}"));
    }
    Ok(quantized)
}

/// Integer weights beside float16 values, without samples to learn from: those of the command tell ranges and no more.
fn from_weights_alone(
    session: &mut Session,
    inputs: Option<&Dataset>,
    quiet: bool,
    options: &QuantizeOptions,
) -> Result<Quantized, Error> {
    resolve_branches(session, inputs, quiet).map_err(|e| Error::Options(e.to_string()))?;
    match inputs {
        Some(inputs) => quantize_weights_alone(session, Some(&inputs.batch(0)?.inputs), options),
        None => quantize_weights_alone(session, None, options),
    }
}

/// Everything in float16. The inputs are of one run, which tells what values are float.
pub(super) fn in_fp16(session: &mut Session, inputs: &[(String, Tensor)]) -> anyhow::Result<Quantized> {
    session.resolve_branches(inputs)?;
    Ok(quantize_to_fp16(session, inputs)?)
}

/// Puts branches that the shapes of the first sample decide in the place of their `If`.
pub(super) fn resolve_branches(
    session: &mut Session,
    dataset: Option<&Dataset>,
    quiet: bool,
) -> anyhow::Result<()> {
    let has_branches = session
        .network
        .model
        .graph
        .nodes
        .iter()
        .any(|node| node.is_onnx("If"));
    let Some(dataset) = dataset.filter(|_| has_branches) else {
        return Ok(());
    };
    let batch = dataset.batch(0).map_err(Error::from)?;
    for change in session.resolve_branches(&batch.inputs)?.iter().filter(|_| !quiet) {
        progress::message(&format!("note: {change}"));
    }
    Ok(())
}
