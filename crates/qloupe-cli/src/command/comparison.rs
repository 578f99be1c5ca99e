//! What `analyze` prints where several algorithms or methods are named: one table with a row for each plan.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Arg;
use qloupe::Error;
use qloupe::compare_plans::{Examination, compare_plans};
use qloupe::evaluate::{Choice, Question};
use qloupe::quantize::QuantizeOptions;
use qloupe::samples::{Dataset, Labelled};

use super::analyze::Arguments;
use super::quantize;
use crate::args::QuantizeArgs;
use crate::progress::{self, Stages};

/// The help of `--algorithm`.
pub(super) fn algorithms(arg: Arg) -> Arg {
    arg.value_name("ALGORITHMS")
        .help("How ranges are found; several, as min_max,mse,auto, are compared in one table [default: auto]")
}

/// The help of `--method`.
pub(super) fn methods(arg: Arg) -> Arg {
    arg.value_name("METHODS")
        .help("Scales of weights: channel or layer, or both in one table [default: channel]")
}

/// True where plans are to be compared with each other.
pub(super) fn is_wanted(args: &Arguments) -> bool {
    let QuantizeArgs {
        algorithm, method, ..
    } = &args.quantize;
    let lists = |given: &Option<String>| given.as_ref().is_some_and(|names| names.contains(','));
    lists(algorithm) || lists(method)
}

/// Calibrates once, judges every plan and prints the table.
pub(super) fn run(args: &Arguments) -> anyhow::Result<ExitCode> {
    refuse_what_is_of_one_plan(args)?;
    let (target, options) = options(&args.quantize)?;
    let mode = quantize::parse_mode(&args.mode)?;
    let mut session = args.model.open(args.quantize.recipe.as_deref())?;
    let samples = Dataset::from_args(&args.input, &session.inputs).map_err(Error::from)?;
    let labelled = match &args.labels {
        Some(labels) => Some(Labelled::open(labels, &args.input, &session.inputs).map_err(Error::from)?),
        None => None,
    };
    let calibration = quantize::calibration_samples(&args.quantize, target, &session)?;
    let calibration = calibration.as_ref().unwrap_or(&samples);
    quantize::resolve_branches(&mut session, Some(calibration), args.model.quiet)?;
    let question = match &labelled {
        Some(labelled) => Some(Question::choose(&session.network, labelled, Choice::default())?),
        None => None,
    };
    let examination = Examination {
        samples: &samples,
        mode,
        task: labelled.as_ref().zip(question.as_ref()),
    };
    let stages = Stages::new(args.model.quiet);
    let show = |stage: &str, done, all| stages.show(stage, done, all);
    let comparison = compare_plans(&session, calibration, &options, examination, &show)?;
    stages.finish();
    if args.json {
        progress::result(&serde_json::to_string_pretty(&comparison.to_json())?)?;
    } else {
        progress::result(&comparison.to_text(progress::colours()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses options that say something of one plan.
fn refuse_what_is_of_one_plan(args: &Arguments) -> anyhow::Result<()> {
    let given = [
        ("--quantized", args.quantized.is_some()),
        ("--plan", args.quantize.plan.is_some()),
        ("--ranges", args.quantize.ranges.is_some()),
        ("--precision", args.quantize.precision.is_some()),
        ("--report", !args.report.is_empty()),
        ("--dump", args.dump.is_some()),
        ("--fail-under", !args.fail_under.is_empty()),
        ("--until-stable", args.until_stable),
    ];
    let given: Vec<&str> = given
        .iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| *name)
        .collect();
    if given.is_empty() {
        return Ok(());
    }
    bail!(
        "several of --algorithm or --method ask for a table of plans, expected nothing beside it that is of one plan, got {}",
        given.join(", ")
    )
}

/// The target, and what the library is asked for: every method with every algorithm, each once.
fn options(args: &QuantizeArgs) -> anyhow::Result<(&'static qloupe::targets::Target, Vec<QuantizeOptions>)> {
    let mut options: Vec<QuantizeOptions> = Vec::new();
    for algorithm in names(args.algorithm.as_deref()) {
        for method in names(args.method.as_deref()) {
            let one = QuantizeArgs {
                algorithm: algorithm.clone(),
                method,
                ..args.clone()
            };
            let choices = quantize::check(&one)?;
            let new = choices.options(&one, choices.require_target()?);
            let is_known = |known: &QuantizeOptions| {
                known.algorithm.id() == new.algorithm.id() && known.method == new.method
            };
            if !options.iter().any(is_known) {
                options.push(new);
            }
        }
    }
    let target = options
        .first()
        .context("invariant: a list has at least one name")?
        .target;
    Ok((target, options))
}

/// The names of a list; one that is absent stands for the default.
fn names(list: Option<&str>) -> Vec<Option<String>> {
    match list {
        Some(list) => list.split(',').map(|name| Some(name.trim().to_owned())).collect(),
        None => vec![None],
    }
}
