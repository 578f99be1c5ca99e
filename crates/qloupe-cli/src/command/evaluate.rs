//! `qloupe evaluate`: how often the network is right, in float, fp16 and int8 side by side.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{ArgMatches, Args, FromArgMatches};
use qloupe::evaluate::{self, Choice, Contender, Evaluation, Gate, PRECISIONS, Question, read_class_names};
use qloupe::runner::Runner;
use qloupe::samples::{Dataset, Labelled};
use qloupe::session::Session;
use qloupe::{Error, Mode};

use super::Command;
use super::quantize::{self, Choices};
use crate::args::{ModelArgs, QuantizeArgs};
use crate::{GATE_FAILED, progress};
use qloupe::plan::weight_only_word;
use qloupe::quantize::{Quantized, read_plan_head};

const EXAMPLE: &str = "Examples:
  qloupe evaluate model.onnx --target rk3588 --dataset calib/ --recipe recipe.toml --labels test/labels.csv
  qloupe evaluate model.onnx --plan model.int8.plan.toml --recipe recipe.toml --labels test/labels.csv \\
      --only float,int8 --fail-under int8.top1=0.85";

#[derive(Args, Debug)]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    quantize: QuantizeArgs,
    /// The right answers: a labels.csv of lines path,label, or an array in .npy, .npz or .safetensors
    #[arg(long, value_name = "LABELS")]
    labels: PathBuf,
    /// The samples, where the labels do not name them: images, arrays, a folder or a dataset.txt
    #[arg(long, value_name = "FILE", num_args = 1..)]
    input: Vec<String>,
    /// What the labels are: top1, ctc or threshold [default: what fits]
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// The output to read [default: the first that fits]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// The names of the classes, one a line [default: from the model's metadata]
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// The precisions to run: float, fp16, int8 (w4a16 or w8a16 where the target has these) [default: float, fp16, and the last with a target or a plan]
    #[arg(long, value_name = "PRECISIONS", value_delimiter = ',')]
    only: Vec<String>,
    /// integer (what the hardware does) or fake-quant (what the QDQ model says)
    #[arg(long, value_name = "MODE", default_value = "integer")]
    mode: String,
    /// Exit with status 1 when [PRECISION.]METRIC is below X (can be repeated)
    #[arg(long, value_name = "[PRECISION.]METRIC=X")]
    fail_under: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) struct Evaluate;

impl Command for Evaluate {
    fn name(&self) -> &'static str {
        "evaluate"
    }

    fn define(&self) -> clap::Command {
        let about = "Compare the task accuracy of float, fp16 and int8";
        Arguments::augment_args(clap::Command::new(self.name()))
            .about(about)
            .after_help(EXAMPLE)
    }

    fn run(&self, arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
        let args = Arguments::from_arg_matches(arguments)?;
        let choices = quantize::check(&args.quantize)?;
        let mode = quantize::parse_mode(&args.mode)?;
        let precisions = args.precisions(&choices)?;
        let class_names = args.classes.as_deref().map(read_class_names).transpose()?;
        let mut session = args.model.open(args.quantize.recipe.as_deref())?;
        let labelled = Labelled::open(&args.labels, &args.input, &session.inputs).map_err(Error::from)?;
        let choice = Choice {
            task: args.task.as_deref(),
            output: args.output.as_deref(),
            class_names: class_names.as_deref(),
        };
        let question = Question::choose(&session.network, &labelled, choice)?;
        let metrics = question.judge.metrics();
        let gates: Vec<Gate> = args
            .fail_under
            .iter()
            .map(|text| Gate::parse(text, &precisions, metrics))
            .collect::<Result<_, _>>()
            .map_err(Error::from)?;
        let (contenders, int8) =
            args.contenders(&precisions, &choices, mode, &mut session, &labelled.dataset)?;
        let n_runs = labelled.dataset.len() * contenders.len();
        let bar = progress::bar("evaluate", n_runs, args.model.quiet);
        let done = |done, _| bar.set_position(done as u64);
        let scores = evaluate::evaluate(&session.network, &labelled, &question, &contenders, &done)?;
        bar.finish_and_clear();
        let evaluation = Evaluation {
            model: session.network.file.clone(),
            task: question.task,
            about: question.judge.about(),
            output: question.output,
            labels: args.labels.display().to_string(),
            n_samples: labelled.dataset.len(),
            int8,
            scores,
            notes: labelled.dataset.notes().to_vec(),
        };
        if args.json {
            progress::result(&serde_json::to_string_pretty(&evaluation.to_json())?)?;
        } else {
            progress::result(&evaluation.to_text())?;
        }
        let mut code = ExitCode::SUCCESS;
        for gate in &gates {
            let outcome = evaluation
                .gate(gate)
                .context("invariant: the gate was checked before")?;
            progress::message(&outcome.to_string());
            if !outcome.passed {
                code = ExitCode::from(GATE_FAILED);
            }
        }
        Ok(code)
    }
}

impl Arguments {
    /// The precisions to run, in the order of the table.
    fn precisions(&self, choices: &Choices) -> anyhow::Result<Vec<&'static str>> {
        let has_int8 = self.quantize.plan.is_some() || (self.quantize.target.is_some() && !choices.is_fp16());
        let known = match self.weight_only(choices)? {
            Some(word) => PRECISIONS.map(|precision| if precision == "int8" { word } else { precision }),
            None => PRECISIONS,
        };
        for name in &self.only {
            if !known.contains(&name.as_str()) {
                return Err(Error::unknown_choice("precision", name, known).into());
            }
        }
        if self.only.iter().any(|name| name == "int8") && !has_int8 {
            bail!(
                "--only int8 says nothing of how, expected --plan P.toml or --target T --dataset D beside it"
            );
        }
        let is_wanted = |name: &&str| {
            if self.only.is_empty() {
                *name != "int8" || has_int8
            } else {
                self.only.iter().any(|wanted| wanted == name)
            }
        };
        Ok(known.into_iter().filter(is_wanted).collect())
    }

    /// What the quantized network is called, where it has integer weights and float16 values.
    fn weight_only(&self, choices: &Choices) -> anyhow::Result<Option<&'static str>> {
        let Some(path) = &self.quantize.plan else {
            return Ok(choices.weight_only());
        };
        let target = qloupe::targets::find(&read_plan_head(path)?.target)?;
        Ok(weight_only_word(target.weight_dtype).filter(|_| target.quantizes_weights_only()))
    }

    /// What runs in each precision, and how int8 came to be.
    fn contenders(
        &self,
        precisions: &[&'static str],
        choices: &Choices,
        mode: Mode,
        session: &mut Session,
        samples: &Dataset,
    ) -> anyhow::Result<(Vec<Contender>, Option<String>)> {
        let mut contenders = Vec::new();
        let mut int8 = None;
        for &precision in precisions {
            let runner = match precision {
                "float" => Runner::Float,
                "fp16" => {
                    let quantize_args = QuantizeArgs {
                        precision: Some("fp16".to_owned()),
                        ..QuantizeArgs::default()
                    };
                    let choices = quantize::check(&quantize_args)?;
                    let half = quantize::quantize(&quantize_args, &choices, session, Some(samples), true)?;
                    half.runner(session, Mode::FakeQuant)?
                }
                _ => {
                    let quantized =
                        quantize::quantize(&self.quantize, choices, session, None, self.model.quiet)?;
                    if quantized.prepared.target.is_fp16() {
                        bail!(
                            "--plan is of target {}, expected one with integers; float16 is compared without a plan",
                            quantized.plan.target
                        );
                    }
                    int8 = Some(self.describe(&quantized));
                    quantized.runner(session, mode)?
                }
            };
            contenders.push(Contender { precision, runner });
        }
        Ok((contenders, int8))
    }

    fn describe(&self, quantized: &Quantized) -> String {
        let plan = &quantized.plan;
        let from = match &self.quantize.plan {
            Some(path) => path.display().to_string(),
            None => format!(
                "calibrated on {} samples, {}, {}",
                plan.n_samples,
                plan.algorithm,
                plan.method.name()
            ),
        };
        format!("target {}, {} mode, {from}", plan.target, self.mode)
    }
}
