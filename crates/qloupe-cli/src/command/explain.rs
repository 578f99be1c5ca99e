//! `qloupe explain`: one layer's story in plain words.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{ArgMatches, Args, FromArgMatches};
use qloupe::Error;
use qloupe::analyze::{AnalyzeOptions, N_EFFECT_SAMPLES, ViewSet, analyze};
use qloupe::compare_reports::read_report;
use qloupe::report::Report;
use qloupe::samples::Dataset;
use qloupe::sensitivity::Depth;

use super::{Command, quantize};
use crate::args::{ModelArgs, QuantizeArgs};
use crate::progress::{self, Stages};

const EXAMPLE: &str = "Examples:
  qloupe explain model.onnx --layer /model.22/Concat_5_output_0 --plan model.int8.plan.toml --input test/
  qloupe explain --report out.json --layer /model.22/Concat_5_output_0";

/// Every view: a story needs them.
const VIEWS: [&str; 5] = ["entire", "tensor", "local", "alone", "rescued"];

#[derive(Args, Debug)]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    quantize: QuantizeArgs,
    /// The layer: a value or a node, named as in the ONNX file
    #[arg(long, value_name = "NAME")]
    layer: String,
    /// Samples to compare on
    #[arg(long, value_name = "FILE", num_args = 1..)]
    input: Vec<String>,
    /// A report that `analyze --report out.json` wrote, instead of a model and samples
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// integer (what the hardware does) or fake-quant (what the QDQ model says)
    #[arg(long, value_name = "MODE", default_value = "integer")]
    mode: String,
    /// Samples that alone and rescued are measured on, at most
    #[arg(long, value_name = "N", default_value_t = N_EFFECT_SAMPLES)]
    effect_samples: usize,
    /// Print the paragraphs as JSON
    #[arg(long)]
    json: bool,
}

pub(super) struct Explain;

impl Command for Explain {
    fn name(&self) -> &'static str {
        "explain"
    }

    fn define(&self) -> clap::Command {
        let about = "Tell one layer's story in plain words";
        Arguments::augment_args(clap::Command::new(self.name()))
            .mut_arg("model", |model| {
                model.required(false).required_unless_present("report")
            })
            .about(about)
            .after_help(EXAMPLE)
    }

    fn run(&self, arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
        let args = Arguments::from_arg_matches(arguments)?;
        let report = match &args.report {
            Some(path) => read_report(path)?,
            None => args.analyzed()?,
        };
        let story = report.story(&args.layer)?;
        if args.json {
            progress::result(&serde_json::to_string_pretty(&story)?)?;
        } else {
            progress::result(&story.join("\n\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Arguments {
    fn analyzed(&self) -> anyhow::Result<Report> {
        if self.input.is_empty() {
            bail!("samples are missing, expected --input FILE or --report FILE.json");
        }
        let choices = quantize::check(&self.quantize)?;
        let mode = quantize::parse_mode(&self.mode)?;
        let mut session = self.model.open(self.quantize.recipe.as_deref())?;
        let dataset = Dataset::from_args(&self.input, &session.inputs).map_err(Error::from)?;
        let quiet = self.model.quiet;
        let quantized = quantize::quantize(&self.quantize, &choices, &mut session, Some(&dataset), quiet)?;
        let options = AnalyzeOptions {
            mode,
            views: ViewSet::parse(VIEWS)?,
            n_effect_samples: self.effect_samples,
            depth: Depth::default(),
            until_stable: false,
        };
        let stages = Stages::new(quiet);
        let show = |stage: &str, done, all| stages.show(stage, done, all);
        let subject = (&session.network, &quantized.prepared, &quantized.plan);
        let report = analyze(subject, &dataset, &options, &show, None);
        stages.finish();
        Ok(report?)
    }
}
