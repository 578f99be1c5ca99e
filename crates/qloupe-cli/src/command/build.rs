//! `qloupe build`: the quantized model and its plan.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgMatches, Args, FromArgMatches};
use qloupe::export::model_of_plan;
use qloupe::mixed_fp16::{MIN_SQNR_DB, convert_by_plan, judge_written, kept_in_float32, proof_of};
use qloupe::passes::convert_fp16::convert_fp16;
use qloupe::plan::{constants_path, write_plan};
use qloupe::prepare::Prepared;
use qloupe::{Error, targets, write_model};

use super::quantize::Choices;
use super::{Command, quantize};
use crate::args::{ModelArgs, QuantizeArgs, is_same_file};
use crate::progress;

const FP16_INPUTS: &str = "inputs and outputs stay float32: feed the same arrays as to the float model";

const EXAMPLE: &str = "Examples:
  qloupe build model.onnx --target rk3588 --dataset calib/ --recipe recipe.toml -o model.int8.onnx
  qloupe build model.onnx --plan model.int8.plan.toml
  qloupe build model.onnx --target rk3576-w4a16    int4 weights beside float16 values; better with --dataset calib/
  qloupe build model.onnx --precision fp16
  qloupe build model.onnx --precision fp16 --dataset calib/    keeps in float32 what the samples show to need it";

#[derive(Args, Debug)]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    quantize: QuantizeArgs,
    /// The model to write [default: MODEL.int8.onnx, MODEL.w4a16.onnx or MODEL.fp16.onnx]; the plan is written beside it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
}

pub(super) struct Build;

impl Command for Build {
    fn name(&self) -> &'static str {
        "build"
    }

    fn define(&self) -> clap::Command {
        let about = "Write the quantized model as QDQ ONNX, with its plan";
        Arguments::augment_args(clap::Command::new(self.name()))
            .about(about)
            .after_help(EXAMPLE)
    }

    fn run(&self, arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
        let args = Arguments::from_arg_matches(arguments)?;
        let choices = quantize::check(&args.quantize)?;
        if choices.is_fp16() {
            return match &args.quantize.dataset {
                Some(_) => build_mixed_fp16(&args, &choices),
                None => build_fp16(&args),
            };
        }
        let output = args.output.clone().unwrap_or_else(|| {
            let word = choices.weight_only().unwrap_or("int8");
            args.model.beside(&format!("{word}.onnx"))
        });
        let plan_path = output.with_extension("plan.toml");
        // An edited plan is an input: it is not written over.
        let writes_plan = !args
            .quantize
            .plan
            .as_deref()
            .is_some_and(|plan| is_same_file(plan, &plan_path));
        args.model.check_output(&output)?;
        if writes_plan {
            args.model.check_output(&plan_path)?;
            args.model.check_output(&constants_path(&plan_path))?;
        }
        let mut session = args.model.open(args.quantize.recipe.as_deref())?;
        let quantized = quantize::quantize(&args.quantize, &choices, &mut session, None, args.model.quiet)?;
        let model = model_of_plan(&session.network.file, &quantized.prepared, &quantized.plan)?;
        write_model(&model, &output).map_err(Error::from)?;
        if writes_plan {
            write_plan(&plan_path, &quantized.plan)?;
        }
        let feeds = qloupe::feed::board_inputs(&session, &quantized.plan);
        let summary = quantized.plan.summary();
        if args.json {
            let inputs: Vec<serde_json::Value> =
                feeds.iter().map(qloupe::feed::BoardInput::to_json).collect();
            let written = serde_json::json!({
                "model": output.display().to_string(),
                "plan": plan_path.display().to_string(),
                "target": quantized.plan.target,
                "n_quantized": summary.n_quantized,
                "n_fp16": summary.n_fp16,
                "n_float": summary.n_float,
                "inputs": inputs,
            });
            progress::result(&serde_json::to_string_pretty(&written)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut lines = vec![
            format!("wrote {}{}", output.display(), size_of(&output)),
            format!("      {}", plan_path.display()),
            format!(
                "{}, target {}",
                quantized.plan.counts_in_words(),
                quantized.plan.target
            ),
        ];
        if quantized.prepared.target.keeps_values_float() {
            lines.push(FP16_INPUTS.to_owned());
        } else {
            lines.extend(feeds.iter().map(ToString::to_string));
        }
        lines.extend(
            quantized
                .prepared
                .changes
                .iter()
                .filter(|_| !args.model.quiet)
                .map(|change| format!("note: {change}")),
        );
        lines.extend(quantized.prepared.target.note.map(|note| format!("note: {note}")));
        progress::result(&lines.join("\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn build_fp16(args: &Arguments) -> anyhow::Result<ExitCode> {
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| args.model.beside("fp16.onnx"));
    args.model.check_output(&output)?;
    let network = args.model.open(args.quantize.recipe.as_deref())?.network;
    let prepared = Prepared::new(
        &network,
        targets::find("fp16")?,
        args.quantize.optimization_level(),
    )?;
    let half = convert_fp16(&prepared.model).map_err(|e| Error::Options(format!("{}: {e}", network.file)))?;
    write_model(&half, &output).map_err(Error::from)?;
    if args.json {
        let written = serde_json::json!({ "model": output.display().to_string(), "precision": "fp16" });
        progress::result(&serde_json::to_string_pretty(&written)?)?;
    } else {
        progress::result(&format!(
            "wrote {}{}\n{FP16_INPUTS}",
            output.display(),
            size_of(&output)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// float16 with what the samples show to need float32.
fn build_mixed_fp16(args: &Arguments, choices: &Choices) -> anyhow::Result<ExitCode> {
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| args.model.beside("fp16.onnx"));
    let plan_path = output.with_extension("plan.toml");
    args.model.check_output(&output)?;
    args.model.check_output(&plan_path)?;
    let mut session = args.model.open(args.quantize.recipe.as_deref())?;
    let quantized = quantize::quantize(&args.quantize, choices, &mut session, None, args.model.quiet)?;
    let model = convert_by_plan(&session.network.file, &quantized.prepared, &quantized.plan)?;
    let dataset = quantize::calibration_samples(&args.quantize, quantized.prepared.target, &session)?;
    let dataset = dataset.context("invariant: asked for with a dataset")?;
    let verdict = judge_written(&session, model.clone(), &dataset)?;
    write_model(&model, &output).map_err(Error::from)?;
    write_plan(&plan_path, &quantized.plan)?;
    let summary = quantized.plan.summary();
    let kept = kept_in_float32(&quantized.plan);
    if args.json {
        let kept: Vec<serde_json::Value> = kept
            .iter()
            .map(|(name, reason)| serde_json::json!({ "name": name, "reason": reason }))
            .collect();
        let written = serde_json::json!({
            "model": output.display().to_string(),
            "plan": plan_path.display().to_string(),
            "precision": "fp16",
            "n_fp16": summary.n_fp16,
            "n_float": summary.n_float,
            "kept_in_float32": kept,
            "passes": verdict.passes(),
            "worst": verdict.to_string(),
        });
        progress::result(&serde_json::to_string_pretty(&written)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = vec![
        format!("wrote {}{}", output.display(), size_of(&output)),
        format!("      {}", plan_path.display()),
        format!(
            "{} values in float16, {} in float32",
            summary.n_fp16, summary.n_float
        ),
    ];
    lines.extend(proof_of(&quantized.plan));
    lines.push(format!(
        "the written model on {} samples: {verdict}, {} at least {MIN_SQNR_DB} dB",
        dataset.len(),
        if verdict.passes() {
            "as expected"
        } else {
            "NOT the expected"
        },
    ));
    lines.push(FP16_INPUTS.to_owned());
    progress::result(&lines.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn size_of(path: &Path) -> String {
    std::fs::metadata(path).map_or_else(
        |_| String::new(),
        |m| format!(" ({:.2} MB)", m.len() as f64 / 1e6),
    )
}
