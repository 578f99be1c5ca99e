//! `qloupe analyze`: which layers lose accuracy, next to the float model.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{ArgMatches, Args, FromArgMatches};
use qloupe::Error;
use qloupe::analyze::{
    AnalyzeOptions, CostOptions, N_EFFECT_SAMPLES, Tap, ViewSet, add_origin, analyze, measure_costs,
};
use qloupe::findings;
use qloupe::outputs::DumpWriter;
use qloupe::report::{Gate, Options, Report, Thresholds, TxtStyle, View, format_of_extension};
use qloupe::samples::Dataset;
use qloupe::sensitivity::Depth;
use qloupe::session::Session;
use qloupe::targets::Target;
use qloupe::write::write_atomically;

use super::fixes::FixArgs;
use super::quantize::Choices;
use super::task_accuracy::Task;
use super::{Command, comparison, quantize, stored};
use crate::args::{ModelArgs, QuantizeArgs};
use crate::progress::Stages;
use crate::{GATE_FAILED, progress};
use qloupe::quantize::{QuantizeOptions, Quantized};

/// Timed runs of each precision in the closing table.
const N_COST_RUNS: usize = 3;

const TXT_STYLES: &[(&str, TxtStyle)] = &[("2", TxtStyle::V2), ("1.3", TxtStyle::V1_3)];

const EXAMPLE: &str = "Examples:
  qloupe analyze model.onnx --target rk3588 --dataset calib/ --recipe recipe.toml --input test.jpg --report out.html
  qloupe analyze model.onnx --target rk3588 --dataset calib/ --input test/ --algorithm min_max,mse,auto --method layer,channel
  qloupe analyze model.onnx --quantized model.quantized.onnx --recipe recipe.toml --input test/";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    pub(super) quantize: QuantizeArgs,
    /// A model that is quantized already: compared with MODEL, or without it with its own de-quantized weights
    #[arg(long, value_name = "Q.onnx")]
    pub(super) quantized: Option<PathBuf>,
    /// Samples to compare on: images, arrays, a folder or a dataset.txt; NAME=FILE for several inputs
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub(super) input: Vec<String>,
    /// The right answers, for the task accuracy beside the errors: a labels.csv of lines path,label, or an array in .npy, .npz
    /// or .safetensors, whose samples are those of --input
    #[arg(long, value_name = "LABELS")]
    pub(super) labels: Option<PathBuf>,
    /// Stop reading samples once the ten worst layers by entire and by local kept their order over the last quarter of them,
    /// and over at least four
    #[arg(long)]
    pub(super) until_stable: bool,
    /// The views to compute: entire, tensor, local, alone, rescued
    #[arg(
        long,
        value_name = "VIEWS",
        value_delimiter = ',',
        default_value = "entire,local,alone,rescued"
    )]
    views: Vec<String>,
    /// Samples that alone and rescued are measured on, at most
    #[arg(long, value_name = "N", default_value_t = N_EFFECT_SAMPLES)]
    effect_samples: usize,
    /// How alone and rescued are found: exact runs every unit again, estimated takes gradients and runs the units that do
    /// most again, auto is exact for networks of at most 64 units
    #[arg(long, value_name = "DEPTH", default_value = "auto")]
    depth: String,
    #[command(flatten)]
    fixes: FixArgs,
    /// integer (what the hardware does) or fake-quant (what the QDQ model says)
    #[arg(long, value_name = "MODE", default_value = "integer")]
    pub(super) mode: String,
    /// Write a report; its extension tells the format: html, json, csv, md, txt, xml (JUnit) (can be repeated)
    #[arg(long, value_name = "FILE")]
    pub(super) report: Vec<PathBuf>,
    /// The layout of a .txt report: 2 or 1.3
    #[arg(long, value_name = "STYLE", default_value = "2")]
    txt_style: String,
    /// Write every value, golden and test, as .npy with an index.json
    #[arg(long, value_name = "DIR")]
    pub(super) dump: Option<PathBuf>,
    /// Cosines below which a row is yellow and red
    #[arg(long, value_name = "YELLOW,RED", default_value = "0.99,0.98")]
    thresholds: String,
    /// Exit with status 1 when the worst [VIEW.]METRIC is worse than X (can be repeated)
    #[arg(long, value_name = "[VIEW.]METRIC=X")]
    pub(super) fail_under: Vec<String>,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) struct Analyze;

impl Command for Analyze {
    fn name(&self) -> &'static str {
        "analyze"
    }

    fn define(&self) -> clap::Command {
        let about = "Compare the quantized model with the float model, layer by layer";
        Arguments::augment_args(clap::Command::new(self.name()))
            .mut_arg("model", |model| {
                model.required(false).required_unless_present("quantized")
            })
            .mut_arg("algorithm", comparison::algorithms)
            .mut_arg("method", comparison::methods)
            .about(about)
            .after_help(EXAMPLE)
    }

    fn run(&self, arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
        let args = Arguments::from_arg_matches(arguments)?;
        if comparison::is_wanted(&args) {
            return comparison::run(&args);
        }
        let start = Instant::now();
        let outputs = Outputs::check(&args)?;
        let subject = Subject::check(&args)?;
        let views = ViewSet::parse(args.views.iter().map(String::as_str))?;
        let mode = quantize::parse_mode(&args.mode)?;
        let depth = Depth::parse(&args.depth)?;
        let mut opened = subject.open(&args)?;
        let dataset = Dataset::from_args(&args.input, &opened.session().inputs).map_err(Error::from)?;
        let task = Task::choose(&args, opened.session())?;
        let loaded = start.elapsed().as_secs_f64();
        let quantized = opened.quantize(&args, &dataset)?;
        let session = opened.session();
        let calibrated = start.elapsed().as_secs_f64();
        let mut dump = args.dump.as_deref().map(DumpWriter::create).transpose()?;
        let options = AnalyzeOptions {
            mode,
            views,
            n_effect_samples: args.effect_samples,
            depth,
            until_stable: args.until_stable,
        };
        let stages = Stages::new(args.model.quiet);
        let show = |stage: &str, done, all| stages.show(stage, done, all);
        let tap = dump.as_mut().map(|dump| dump as &mut dyn Tap);
        let subject = (&session.network, &quantized.prepared, &quantized.plan);
        let report = analyze(subject, &dataset, &options, &show, tap);
        stages.finish();
        let mut report = report?;
        if let Some(dump) = dump {
            dump.finish()?;
        }
        let first = dataset.batch(0).map_err(Error::from)?;
        let cost_options = CostOptions { n_runs: N_COST_RUNS };
        report.costs = measure_costs(
            &session.network,
            &quantized.prepared,
            &quantized.plan,
            &first.inputs,
            cost_options,
        )?;
        if let Opened::Stored(stored) = &opened {
            report.findings.extend(stored.audit());
            findings::sort(&mut report.findings);
            report.notes.push(stored.agreement(&quantized, &first.inputs));
        }
        if args.fixes.is_wanted() {
            let calibration = opened.calibration(&args)?;
            args.fixes.run(
                (session, &quantized, mode),
                &dataset,
                calibration
                    .as_ref()
                    .map(|(dataset, options)| (dataset, options.clone())),
                &args.model,
                &mut report,
                &show,
            )?;
            stages.finish();
        }
        if let Some(task) = &task {
            report.accuracy = Some(task.accuracy(&args, session, &quantized, mode)?);
        }
        add_origin(
            &mut report,
            (&quantized.prepared, &quantized.plan),
            &dataset,
            args.input.join(" "),
        );
        report.plan.file = args.quantize.plan.as_ref().map(|p| p.display().to_string());
        report.timing.total_seconds = start.elapsed().as_secs_f64();
        let phase = |name: &str, seconds| qloupe::report::Phase {
            name: name.to_owned(),
            seconds,
        };
        report.timing.phases.splice(
            0..0,
            [phase("load", loaded), phase("calibrate", calibrated - loaded)],
        );
        outputs.write(&args, &mut report)
    }
}

/// What is analyzed, checked before the work.
enum Subject {
    /// A model that is quantized for the analysis.
    Float(Choices),
    /// A model that another tool quantized.
    Quantized(PathBuf, &'static Target),
}

impl Subject {
    fn check(args: &Arguments) -> anyhow::Result<Self> {
        Ok(match &args.quantized {
            Some(path) => Self::Quantized(path.clone(), stored::check(&args.quantize)?),
            None => Self::Float(quantize::check(&args.quantize)?),
        })
    }

    fn open(&self, args: &Arguments) -> anyhow::Result<Opened<'_>> {
        let recipe = args.quantize.recipe.as_deref();
        Ok(match self {
            Self::Quantized(path, target) => {
                Opened::Stored(Box::new(stored::Stored::open(path, &args.model, recipe, target)?))
            }
            Self::Float(choices) => Opened::Float(Box::new(args.model.open(recipe)?), choices),
        })
    }
}

/// The models, opened.
enum Opened<'a> {
    Float(Box<Session>, &'a Choices),
    Stored(Box<stored::Stored>),
}

impl Opened<'_> {
    /// The golden model.
    fn session(&self) -> &Session {
        match self {
            Self::Float(session, _) => session,
            Self::Stored(stored) => stored.golden(),
        }
    }

    /// What it takes to quantize the model again; `None` where a plan or a quantized model was given.
    fn calibration(&self, args: &Arguments) -> anyhow::Result<Option<(Dataset, QuantizeOptions)>> {
        let Self::Float(session, choices) = self else {
            return Ok(None);
        };
        let target = choices
            .require_target()
            .ok()
            .filter(|_| args.quantize.plan.is_none());
        let Some(target) = target else { return Ok(None) };
        let samples = quantize::calibration_samples(&args.quantize, target, session)?;
        Ok(samples.map(|samples| (samples, choices.options(&args.quantize, target))))
    }

    fn quantize(&mut self, args: &Arguments, dataset: &Dataset) -> anyhow::Result<Quantized> {
        match self {
            Self::Float(session, choices) => {
                quantize::quantize(&args.quantize, choices, session, Some(dataset), args.model.quiet)
            }
            Self::Stored(stored) => stored.quantized(),
        }
    }
}

/// Where the report goes, checked before the work.
struct Outputs {
    options: Options,
    gates: Vec<Gate>,
}

impl Outputs {
    fn check(args: &Arguments) -> anyhow::Result<Self> {
        for path in &args.report {
            extension(path)?;
            args.model.check_output(path)?;
        }
        if let Some(folder) = &args.dump {
            DumpWriter::check(folder)?;
        }
        if args.fixes.is_wanted() && args.quantized.is_some() {
            bail!("--fix and --apply edit a plan, expected none of them with --quantized");
        }
        args.fixes.check(&args.model)?;
        let gates = args
            .fail_under
            .iter()
            .map(|text| parse_gate(text, &args.views))
            .collect::<anyhow::Result<_>>()?;
        let txt_style = TXT_STYLES
            .iter()
            .find(|(id, _)| *id == args.txt_style)
            .map(|(_, style)| *style);
        let unknown_style =
            || Error::unknown_choice("txt style", &args.txt_style, TXT_STYLES.iter().map(|(id, _)| *id));
        let options = Options {
            colour: progress::colours(),
            width: progress::width(),
            thresholds: parse_thresholds(&args.thresholds)?,
            txt_style: txt_style.ok_or_else(unknown_style)?,
        };
        Ok(Self { options, gates })
    }

    fn write(&self, args: &Arguments, report: &mut Report) -> anyhow::Result<ExitCode> {
        let outcomes: Vec<_> = self.gates.iter().map(|gate| report.gate(gate)).collect();
        report.gates = outcomes
            .iter()
            .flatten()
            .map(|outcome| outcome.result())
            .collect();
        let file_options = Options {
            colour: false,
            ..self.options
        };
        for path in &args.report {
            let format =
                format_of_extension(extension(path)?).context("invariant: checked before the work")?;
            write_atomically(path, format.write(report, &file_options).as_bytes()).map_err(Error::from)?;
        }
        let extension = if args.json { "json" } else { "table" };
        let format = qloupe::report::find_format(extension).context("invariant: both formats exist")?;
        progress::result(&format.write(report, &self.options))?;
        let mut code = ExitCode::SUCCESS;
        for outcome in outcomes {
            let outcome = outcome.map_err(Error::from)?;
            progress::message(&outcome.to_string());
            if !outcome.passed {
                code = ExitCode::from(GATE_FAILED);
            }
        }
        Ok(code)
    }
}

/// A gate on a view that is not computed would fail after the work.
fn parse_gate(text: &str, views: &[String]) -> anyhow::Result<Gate> {
    let gate: Gate = text.parse().map_err(Error::from)?;
    let view = gate.view().unwrap_or(View::Entire).id();
    if !views.iter().any(|computed| computed == view) {
        bail!(
            "gate \"{text}\": view {view} is not computed, expected one of --views {}",
            views.join(", ")
        );
    }
    Ok(gate)
}

fn extension(path: &std::path::Path) -> anyhow::Result<&str> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let known = qloupe::report::extensions();
    if extension.is_empty() {
        bail!(
            "{}: the extension that tells the report format is missing, expected one of {}",
            path.display(),
            known.join(", ")
        );
    }
    if !known.contains(&extension) {
        bail!(
            "{}: {}",
            path.display(),
            Error::unknown_choice("report format", extension, known)
        );
    }
    Ok(extension)
}

fn parse_thresholds(text: &str) -> anyhow::Result<Thresholds> {
    let wrong = || format!("--thresholds {text}: expected YELLOW,RED, for example 0.99,0.98");
    let (slight, severe) = text.split_once(',').with_context(wrong)?;
    let number = |part: &str| part.trim().parse::<f64>().ok().filter(|v| v.is_finite());
    let thresholds = Thresholds {
        slight: number(slight).with_context(wrong)?,
        wrong: number(severe).with_context(wrong)?,
    };
    if thresholds.slight < thresholds.wrong {
        bail!("--thresholds {text}: the first must not be below the second");
    }
    Ok(thresholds)
}
