//! `qloupe hybrid propose` and `apply`: the least of the network in higher precision that reaches a goal.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{ArgMatches, Args, FromArgMatches};
use qloupe::analyze::N_EFFECT_SAMPLES;
use qloupe::evaluate::{Choice, Question};
use qloupe::export::model_of_plan;
use qloupe::hybrid::{Goal, ProposeOptions, format_hybrid, plan_reference, propose_on, read_hybrid};
use qloupe::plan::{constants_path, write_plan};
use qloupe::quantize::{Quantized, read_plan};
use qloupe::samples::{Dataset, Labelled};
use qloupe::write::write_atomically;
use qloupe::{Error, write_model};

use super::{Command, quantize};
use crate::args::{ModelArgs, QuantizeArgs, is_same_file};
use crate::progress::{self, Stages};

const EXAMPLE: &str = "Examples:
  qloupe hybrid propose model.onnx --plan model.int8.plan.toml --dataset calib/ --min-sqnr-db 30
  qloupe hybrid propose model.onnx --target rk3588 --dataset calib/ --labels test.csv --max-drop 1.0
  qloupe hybrid apply model.onnx --hybrid model.hybrid.toml -o model.hybrid.onnx";

pub(super) struct Hybrid;

impl Command for Hybrid {
    fn name(&self) -> &'static str {
        "hybrid"
    }

    fn define(&self) -> clap::Command {
        let propose = ProposeArguments::augment_args(clap::Command::new("propose"))
            .mut_arg("dataset", |arg| {
                arg.help("Samples to calibrate on, and to judge on where there are no others: a folder of images, a dataset.txt, an .npz, .npy or .safetensors file")
            })
            .about("Find the least set of units in higher precision that reaches a goal")
            .after_help(EXAMPLE);
        let apply = ApplyArguments::augment_args(clap::Command::new("apply"))
            .about("Build the model of a proposal, as it is or edited")
            .after_help(EXAMPLE);
        clap::Command::new(self.name())
            .about("Keep the least of a network in higher precision that reaches a goal")
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommand(propose)
            .subcommand(apply)
            .after_help(EXAMPLE)
    }

    fn run(&self, arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
        match arguments.subcommand() {
            Some(("propose", arguments)) => ProposeArguments::from_arg_matches(arguments)?.run(),
            Some(("apply", arguments)) => ApplyArguments::from_arg_matches(arguments)?.run(),
            _ => bail!("hybrid: expected propose or apply"),
        }
    }
}

#[derive(Args, Debug)]
struct ProposeArguments {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    quantize: QuantizeArgs,
    /// Samples to judge on [default: those of --dataset]
    #[arg(long, value_name = "FILE", num_args = 1..)]
    input: Vec<String>,
    /// The right answers, for --max-drop: a labels.csv of lines path,label, or an array whose samples are those of --input
    #[arg(long, value_name = "LABELS")]
    labels: Option<PathBuf>,
    /// The goal: the worst network output, or part of one, has this signal to noise ratio in dB
    #[arg(long, value_name = "DB", group = "goal")]
    min_sqnr_db: Option<f64>,
    /// The goal: the worst network output, or part of one, has this mean cosine
    #[arg(long, value_name = "COSINE", group = "goal")]
    min_cosine: Option<f64>,
    /// The goal: at most so many points of task accuracy lost against float
    #[arg(long, value_name = "POINTS", group = "goal", requires = "labels")]
    max_drop: Option<f64>,
    /// integer (what the hardware does) or fake-quant (what the QDQ model says)
    #[arg(long, value_name = "MODE", default_value = "integer")]
    mode: String,
    /// Samples that alone and rescued are measured on, at most
    #[arg(long, value_name = "N", default_value_t = N_EFFECT_SAMPLES)]
    effect_samples: usize,
    /// The proposal to write [default: MODEL.hybrid.toml]; a plan that is calibrated for it goes beside it, to MODEL.hybrid.base.plan.toml
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the proposal as JSON
    #[arg(long)]
    json: bool,
}

impl ProposeArguments {
    fn goal(&self) -> anyhow::Result<Goal> {
        let goal = match (self.min_sqnr_db, self.min_cosine, self.max_drop) {
            (Some(db), _, _) => Goal::MinSqnrDb(db),
            (_, Some(cosine), _) => Goal::MinCosine(cosine),
            (_, _, Some(points)) => Goal::MaxDrop(points),
            _ => bail!("a goal is missing, expected --min-sqnr-db DB, --min-cosine C or --max-drop POINTS"),
        };
        let (Goal::MinSqnrDb(number) | Goal::MinCosine(number) | Goal::MaxDrop(number)) = goal;
        if !number.is_finite() {
            bail!("the goal is wrong, expected a number, got {number}");
        }
        Ok(goal)
    }

    fn run(&self) -> anyhow::Result<ExitCode> {
        let goal = self.goal()?;
        let choices = quantize::check(&self.quantize)?;
        let mode = quantize::parse_mode(&self.mode)?;
        let output = self
            .output
            .clone()
            .unwrap_or_else(|| self.model.beside("hybrid.toml"));
        let plan_path = output.with_extension("base.plan.toml");
        self.model.check_output(&output)?;
        if self.quantize.plan.is_none() {
            self.model.check_output(&plan_path)?;
            self.model.check_output(&constants_path(&plan_path))?;
        }
        let mut session = self.model.open(self.quantize.recipe.as_deref())?;
        let labelled = self
            .labels
            .as_deref()
            .map(|labels| Labelled::open(labels, &self.input, &session.inputs));
        let labelled = labelled.transpose().map_err(Error::from)?;
        let samples = match (&self.quantize.dataset, self.input.is_empty()) {
            (_, false) => Some(Dataset::from_args(&self.input, &session.inputs).map_err(Error::from)?),
            (Some(dataset), true) => Some(Dataset::open(dataset, &session.inputs).map_err(Error::from)?),
            (None, true) => None,
        };
        let samples = samples
            .as_ref()
            .or(labelled.as_ref().map(|labelled| &labelled.dataset));
        let Some(samples) = samples else {
            bail!("samples to judge on are missing, expected --input FILE, --dataset D or --labels L")
        };
        let quiet = self.model.quiet;
        let quantized = quantize::quantize(&self.quantize, &choices, &mut session, Some(samples), quiet)?;
        let stages = Stages::new(quiet);
        let show = |stage: &str, done, all| stages.show(stage, done, all);
        let question = labelled
            .as_ref()
            .map(|labelled| Question::choose(&session.network, labelled, Choice::default()));
        let question = question.transpose()?;
        let task = labelled.as_ref().zip(question.as_ref());
        let options = ProposeOptions {
            mode,
            n_effect_samples: self.effect_samples,
        };
        let proposal = propose_on((&session, &quantized), samples, task, goal, options, &show)?;
        stages.finish();
        let plan = match &self.quantize.plan {
            Some(path) => plan_reference(path, &output),
            None => {
                write_plan(&plan_path, &quantized.plan)?;
                plan_reference(&plan_path, &output)
            }
        };
        write_atomically(&output, format_hybrid(&proposal, &plan).as_bytes()).map_err(Error::from)?;
        if self.json {
            let mut json = proposal.to_json();
            json["file"] = output.display().to_string().into();
            progress::result(&serde_json::to_string_pretty(&json)?)?;
        } else {
            progress::result(&format!("{}\nwrote {}", proposal.to_text(), output.display()))?;
        }
        Ok(if proposal.is_reached {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(crate::GATE_FAILED)
        })
    }
}

#[derive(Args, Debug)]
struct ApplyArguments {
    #[command(flatten)]
    model: ModelArgs,
    /// The proposal: a file of `hybrid propose`, or the vendor's .quantization.cfg with custom_quantize_layers (then with
    /// --plan)
    #[arg(long, value_name = "FILE", required = true)]
    hybrid: PathBuf,
    /// The plan to set the precisions in [default: that of the proposal]
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    /// The recipe of the inputs
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<PathBuf>,
    /// The model to write [default: MODEL.hybrid.onnx]; the plan is written beside it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
}

impl ApplyArguments {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let output = self
            .output
            .clone()
            .unwrap_or_else(|| self.model.beside("hybrid.onnx"));
        let plan_path = output.with_extension("plan.toml");
        for path in [&output, &plan_path, &constants_path(&plan_path)] {
            self.model.check_output(path)?;
        }
        let file = read_hybrid(&self.hybrid)?;
        let session = self.model.open(self.recipe.as_deref())?;
        let base = self.plan.clone().or_else(|| file.plan_path()).with_context(|| {
            format!(
                "{}: tells no plan, expected --plan P.toml beside it",
                self.hybrid.display()
            )
        })?;
        if is_same_file(&base, &plan_path) {
            bail!(
                "{}: the plan of the proposal would be written over, expected another --output",
                plan_path.display()
            );
        }
        let Quantized { prepared, plan, .. } = read_plan(&base, &session)?;
        let plan = file.apply(&prepared, &plan)?;
        prepared.check_plan(&self.hybrid.display().to_string(), &plan)?;
        let applied = Quantized::new(prepared, plan).with_given_up_weights(&session.network)?;
        let Quantized { prepared, plan, .. } = applied;
        let model = model_of_plan(&session.network.file, &prepared, &plan)?;
        write_model(&model, &output).map_err(Error::from)?;
        write_plan(&plan_path, &plan)?;
        if self.json {
            let summary = plan.summary();
            let written = serde_json::json!({
                "model": output.display().to_string(),
                "plan": plan_path.display().to_string(),
                "n_quantized": summary.n_quantized,
                "n_fp16": summary.n_fp16,
                "n_float": summary.n_float,
            });
            progress::result(&serde_json::to_string_pretty(&written)?)?;
        } else {
            progress::result(&format!(
                "wrote {}\n      {}\n{}",
                output.display(),
                plan_path.display(),
                plan.counts_in_words()
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
