//! `qloupe bench`: how long the model takes on this machine, in float or as the target would compute it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::{ArgMatches, Args, FromArgMatches};
use indicatif::ProgressBar;
use qloupe::bench::{Bench as Benched, BenchOptions, Subject, input_shapes, make_inputs, measure};
use qloupe::prepare::load_model;
use qloupe::recipe::Recipe;
use qloupe::session::Session;

use super::{Command, quantize};
use crate::args::ModelArgs;
use crate::progress;

const EXAMPLE: &str = "Examples:
  qloupe bench model.onnx --threads 1 --profile
  qloupe bench model.onnx --plan model.int8.plan.toml --shape images=1,3,640,640 --json";

/// A bar for less than this would only flicker.
const QUIET_TIME: Duration = Duration::from_secs(1);

#[derive(Args, Debug)]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// The plan, for the modes fake-quant and integer
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    /// float, fake-quant, fp16 or integer [default: integer with a plan, float without]
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// The leading dimension of inputs that leave it open [default: 1]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Timed runs
    #[arg(long, value_name = "N", default_value_t = 10)]
    runs: usize,
    /// Runs before them that are not timed
    #[arg(long, value_name = "N", default_value_t = 2)]
    warmup: usize,
    /// Time every node (of a plan: every unit) within a run
    #[arg(long)]
    profile: bool,
    /// Time a run in which every intermediate value is handed over
    #[arg(long)]
    observe: bool,
    /// Time every node (of a plan: every unit) executed alone, on inputs held in memory
    #[arg(long)]
    units: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub(super) struct Bench;

impl Command for Bench {
    fn name(&self) -> &'static str {
        "bench"
    }

    fn define(&self) -> clap::Command {
        let about = "Measure latency and memory on this machine; inputs are made up";
        Arguments::augment_args(clap::Command::new(self.name()))
            .about(about)
            .after_help(EXAMPLE)
    }

    fn run(&self, arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
        let args = Arguments::from_arg_matches(arguments)?;
        let mode = quantize::check_run_mode(args.mode.as_deref(), args.plan.is_some())?;
        for (name, n) in [("--runs", Some(args.runs)), ("--batch", args.batch)] {
            if n == Some(0) {
                bail!("{name}: expected at least 1, got 0");
            }
        }
        let mut session = args.open()?;
        let inputs = make_inputs(&session.inputs)?;
        let quantized = match (&args.plan, mode) {
            (Some(plan), _) => Some(qloupe::quantize::read_plan(plan, &session)?),
            (None, "fp16") => Some(quantize::in_fp16(&mut session, &inputs)?),
            (None, _) => None,
        };
        let program = match &quantized {
            Some(quantized) => {
                let (prepared, plan) = (&quantized.prepared, &quantized.plan);
                Some(prepared.quantized(&session.network, plan, quantize::mode_of_run(mode))?)
            }
            None => None,
        };
        let network = &session.network;
        let subject = match (&quantized, &program) {
            (Some(quantized), Some(program)) => Subject::Quantized {
                network,
                prepared: &quantized.prepared,
                program,
            },
            _ => Subject::Float(network),
        };
        let options = BenchOptions {
            n_warmup: args.warmup,
            n_runs: args.runs,
            observe: args.observe,
            profile: args.profile,
            units: args.units,
        };
        let mut late = LateBar::new(args.model.quiet);
        let measurement = measure(subject, &inputs, options, &mut |done, total| {
            late.show(done, total)
        })?;
        late.finish();
        let bench = Benched {
            model: network.file.clone(),
            mode: mode.to_owned(),
            isa: qloupe_kernels::isa().name().to_owned(),
            n_threads: rayon::current_num_threads(),
            n_runs: args.runs,
            inputs: Benched::describe(&inputs),
            measurement,
        };
        if args.json {
            progress::result(&serde_json::to_string_pretty(&bench.to_json())?)?;
        } else {
            progress::result(&bench.to_text())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Arguments {
    /// Opens the model with every input dimension fixed.
    fn open(&self) -> anyhow::Result<Session> {
        self.model.set_threads()?;
        let model = load_model(self.model.path(), &self.model.crop())?;
        let shapes = input_shapes(&model, &self.model.shapes()?, self.batch)?;
        let file = self.model.path().display().to_string();
        Ok(Session::of_model(file, model, &shapes, &Recipe::default())?)
    }
}

/// A progress bar that appears when the work takes its time.
struct LateBar {
    start: Instant,
    quiet: bool,
    bar: Option<ProgressBar>,
}

impl LateBar {
    fn new(quiet: bool) -> Self {
        Self {
            start: Instant::now(),
            quiet,
            bar: None,
        }
    }

    fn show(&mut self, done: usize, total: usize) {
        if self.start.elapsed() > QUIET_TIME {
            let quiet = self.quiet;
            let bar = self
                .bar
                .get_or_insert_with(|| progress::bar("bench", total, quiet));
            bar.set_position(done as u64);
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
