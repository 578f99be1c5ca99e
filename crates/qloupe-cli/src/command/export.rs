//! `qloupe export`: a plan written for another tool.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{ArgMatches, Args, FromArgMatches};
use qloupe::export::{self, Request};

use super::Command;
use crate::args::{ModelArgs, is_same_file};
use crate::progress;

const EXAMPLE: &str = "Examples:
  qloupe export model.onnx --plan model.int8.plan.toml --to rknn --cfg model.quantization.cfg -o model.qloupe.cfg
  qloupe export model.onnx --plan model.int8.plan.toml --to rknn-script --dataset calib/ --recipe recipe.toml -o convert/
  qloupe export model.onnx --plan model.int8.plan.toml --to qdq -o model.int8.onnx

rknn: step 1 of rknn-toolkit2's hybrid quantization writes model.quantization.cfg; give the exported file to step 2. Make
step 1 with quantized_algorithm='normal': bounds that the converter itself moves are kept.
rknn-script: convert/convert.py does all of it, on the samples that are written beside it.";

#[derive(Args, Debug)]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// The plan that `qloupe build` wrote, edited or not
    #[arg(long, value_name = "PLAN")]
    plan: PathBuf,
    /// The format: float, qdq, rknn or rknn-script
    #[arg(long, value_name = "FORMAT")]
    to: String,
    /// For rknn: the .quantization.cfg of step 1 of rknn-toolkit2's hybrid quantization
    #[arg(long, value_name = "FILE")]
    cfg: Option<PathBuf>,
    /// For rknn-script: the samples that its step 1 calibrates on
    #[arg(long, value_name = "DATASET")]
    dataset: Option<PathBuf>,
    /// How inputs are made from images: a TOML file with [input.NAME]
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<PathBuf>,
    /// The file or folder to write [default: CFG.qloupe.cfg, MODEL.rknn-script/ or MODEL.int8.onnx]
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
}

pub(super) struct Export;

impl Command for Export {
    fn name(&self) -> &'static str {
        "export"
    }

    fn define(&self) -> clap::Command {
        let about =
            "Write a plan for another tool: ranges and precisions for Rockchip's converter, or QDQ ONNX";
        Arguments::augment_args(clap::Command::new(self.name()))
            .about(about)
            .after_help(EXAMPLE)
    }

    fn run(&self, arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
        let args = Arguments::from_arg_matches(arguments)?;
        let format = export::find(&args.to)?;
        let session = args.model.open(args.recipe.as_deref())?;
        let quantized = qloupe::quantize::read_plan(&args.plan, &session)?;
        let crop = args.model.crop();
        let request = Request {
            model: args.model.path(),
            plan_path: &args.plan,
            session: &session,
            prepared: &quantized.prepared,
            plan: &quantized.plan,
            cfg: args.cfg.as_deref(),
            dataset: args.dataset.as_deref(),
            crop: &crop,
        };
        request.check(format)?;
        let output = args
            .output
            .clone()
            .unwrap_or_else(|| format.default_output(&request));
        let inputs = [
            Some(args.model.path()),
            Some(&args.plan),
            args.cfg.as_deref(),
            args.dataset.as_deref(),
        ];
        if inputs
            .into_iter()
            .flatten()
            .any(|input| is_same_file(&output, input))
        {
            bail!(
                "{output:?} cannot be written: it is one of the files that are read, expected another file"
            );
        }
        let exported = format.export(&request, &output)?;
        if args.json {
            progress::result(&serde_json::to_string_pretty(&exported.to_json(format))?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let wrote = exported
            .files
            .iter()
            .map(|file| format!("wrote {}", file.display()));
        let notes = exported.lines.into_iter().filter(|_| !args.model.quiet);
        progress::result(&wrote.chain(notes).collect::<Vec<_>>().join("\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}
