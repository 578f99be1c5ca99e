//! `qloupe inspect`: what is in a model, and what a target makes of it.

use std::process::ExitCode;

use clap::{ArgMatches, Args, FromArgMatches};
use qloupe::inspect::{format_text, inspect, to_json};
use qloupe::passes::resolve_branches::resolve_branches;
use qloupe::prepare::load_model;
use qloupe::targets;

use super::Command;
use crate::args::ModelArgs;
use crate::progress;

const EXAMPLE: &str = "Example:
  qloupe inspect model.onnx --target rk3588 --shape images=1,3,640,640";

#[derive(Args, Debug)]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// Tell what this target does with each operator
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub(super) struct Inspect;

impl Command for Inspect {
    fn name(&self) -> &'static str {
        "inspect"
    }

    fn define(&self) -> clap::Command {
        let about = "List operators, shapes, parameters and costs; with a target, int8, fp16 or fallback";
        Arguments::augment_args(clap::Command::new(self.name()))
            .about(about)
            .after_help(EXAMPLE)
    }

    fn run(&self, arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
        let args = Arguments::from_arg_matches(arguments)?;
        args.model.set_threads()?;
        let target = args.target.as_deref().map(targets::find).transpose()?;
        let mut model = load_model(args.model.path(), &args.model.crop())?;
        let file = args.model.path().display().to_string();
        let shapes = args.model.shapes()?;
        resolve_branches(&mut model, &shapes);
        let inspection = inspect(&model, &file, &shapes, target)?;
        if args.json {
            progress::result(&serde_json::to_string_pretty(&to_json(&inspection))?)?;
        } else {
            progress::result(&format_text(&inspection))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
