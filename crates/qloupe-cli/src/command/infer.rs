//! `qloupe infer`: runs the model, in float or as the target would.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args, FromArgMatches};
use qloupe::Error;
use qloupe::analyze::Tap;
use qloupe::array::{Compression, write_npz};
use qloupe::outputs::{Collected, DumpWriter, Summary};
use qloupe::runner::{Named, Runner};
use qloupe::samples::{Batch, Dataset};
use qloupe::session::Session;
use qloupe_tensor::Tensor;

use super::{Command, quantize};
use crate::args::{ModelArgs, QuantizeArgs};
use crate::progress;

const EXAMPLE: &str = "Examples:
  qloupe infer model.onnx --recipe recipe.toml --input test.jpg
  qloupe infer model.onnx --plan model.int8.plan.toml --mode integer --input test/ --out outputs.npz";

#[derive(Args, Debug)]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// Samples: images, arrays, a folder or a dataset.txt; NAME=FILE for several inputs
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    input: Vec<String>,
    /// The plan, for the modes fake-quant and integer
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    /// float, fake-quant, fp16 or integer [default: integer with a plan, float without]
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// How inputs are made from images: a TOML file with [input.NAME]
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<PathBuf>,
    /// Write the outputs under their ONNX names, samples along the first axis
    #[arg(long, short, alias = "output", value_name = "OUT.npz")]
    out: Option<PathBuf>,
    /// Write every value as .npy with an index.json
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub(super) struct Infer;

impl Command for Infer {
    fn name(&self) -> &'static str {
        "infer"
    }

    fn define(&self) -> clap::Command {
        let about = "Run the model on samples, in float or as the target would";
        Arguments::augment_args(clap::Command::new(self.name()))
            .about(about)
            .after_help(EXAMPLE)
    }

    fn run(&self, arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
        let args = Arguments::from_arg_matches(arguments)?;
        let mode = quantize::check_run_mode(args.mode.as_deref(), args.plan.is_some())?;
        if let Some(out) = &args.out {
            args.model.check_output(out)?;
        }
        if let Some(folder) = &args.dump {
            DumpWriter::check(folder)?;
        }
        let mut session = args.model.open(args.recipe.as_deref())?;
        let dataset = Dataset::from_args(&args.input, &session.inputs).map_err(Error::from)?;
        let runner = args.runner(mode, &mut session, &dataset)?;
        let mut dump = args.dump.as_deref().map(DumpWriter::create).transpose()?;
        let mut collected = Collected::default();
        let mut summaries = Vec::new();
        let bar = progress::bar("infer", dataset.len(), args.model.quiet);
        for idx in 0..dataset.n_batches() {
            let batch = dataset.batch(idx).map_err(Error::from)?;
            let outputs = match &mut dump {
                None => runner.run(&session.network, &batch.inputs, None)?,
                Some(dump) => {
                    dump.begin_sample(idx);
                    let mut write = |name: &str, tensor: &Tensor| dump.write("values", name, tensor);
                    runner.run(&session.network, &batch.inputs, Some(&mut write))?
                }
            };
            let samples = split(&batch, &outputs);
            for (offset, outputs) in samples.into_iter().enumerate() {
                let summary = |(name, tensor): &(String, Tensor)| Summary::of(name, tensor);
                summaries.push((
                    batch.first + offset,
                    outputs.iter().map(summary).collect::<Vec<_>>(),
                ));
                if args.out.is_some() {
                    collected.add(outputs);
                }
            }
            bar.inc(batch.n_samples as u64);
        }
        bar.finish_and_clear();
        if let Some(dump) = dump {
            dump.finish()?;
        }
        if let Some(out) = &args.out {
            write_npz(out, &collected.join()?, Compression::Stored).map_err(Error::from)?;
        }
        if args.json {
            let json: Vec<serde_json::Value> = summaries.iter().map(|(_, s)| to_json(s)).collect();
            progress::result(&serde_json::to_string_pretty(&json)?)?;
        } else {
            let text: Vec<String> = summaries.iter().map(|(idx, s)| to_text(*idx, s)).collect();
            progress::result(&text.join("\n"))?;
        }
        for note in dataset.notes().iter().filter(|_| !args.model.quiet) {
            progress::message(&format!("note: {note}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Arguments {
    /// What runs in a mode.
    fn runner(&self, mode: &str, session: &mut Session, dataset: &Dataset) -> anyhow::Result<Runner> {
        if mode == "float" {
            return Ok(Runner::Float);
        }
        let quantize_args = QuantizeArgs {
            plan: self.plan.clone(),
            precision: (mode == "fp16").then(|| "fp16".to_owned()),
            recipe: self.recipe.clone(),
            ..QuantizeArgs::default()
        };
        let choices = quantize::check(&quantize_args)?;
        let quantized = quantize::quantize(&quantize_args, &choices, session, Some(dataset), true)?;
        Ok(quantized.runner(session, quantize::mode_of_run(mode))?)
    }
}

/// The outputs of each sample of a batch; those of a whole batch where an output does not tell its samples apart.
fn split(batch: &Batch, outputs: &[(String, Tensor)]) -> Vec<Named> {
    let parts: Vec<Vec<Tensor>> = outputs.iter().map(|(_, tensor)| batch.split(tensor)).collect();
    if parts.iter().any(|parts| parts.len() != batch.n_samples) {
        return vec![outputs.to_vec()];
    }
    let of = |sample: usize| {
        let named =
            |((name, _), parts): (&(String, Tensor), &Vec<Tensor>)| (name.clone(), parts[sample].clone());
        outputs.iter().zip(&parts).map(named).collect()
    };
    (0..batch.n_samples).map(of).collect()
}

fn to_text(sample: usize, summaries: &[Summary]) -> String {
    let line = |s: &Summary| {
        let range = s.range.map_or_else(
            || "no numbers".to_owned(),
            |(min, max, mean)| format!("min {min:.6} max {max:.6} mean {mean:.6}"),
        );
        let top: Vec<String> = s
            .top
            .iter()
            .map(|(class, score)| format!("{class}: {score:.4}"))
            .collect();
        let top = if top.is_empty() {
            String::new()
        } else {
            format!("  top {}", top.join(", "))
        };
        let nan = if s.n_nan == 0 {
            String::new()
        } else {
            format!("  NaN {}", s.n_nan)
        };
        format!(
            "sample {sample}  {}  {}{:?}  {range}{nan}{top}",
            s.name, s.dtype, s.shape
        )
    };
    summaries.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn to_json(summaries: &[Summary]) -> serde_json::Value {
    let entry = |s: &Summary| {
        let top: Vec<serde_json::Value> = s
            .top
            .iter()
            .map(|(class, score)| serde_json::json!([class, score]))
            .collect();
        serde_json::json!({
            "name": s.name, "dtype": s.dtype, "shape": s.shape, "top": top,
            "n_nan": s.n_nan, "min": s.range.map(|r| r.0), "max": s.range.map(|r| r.1), "mean": s.range.map(|r| r.2),
        })
    };
    summaries.iter().map(entry).collect()
}
