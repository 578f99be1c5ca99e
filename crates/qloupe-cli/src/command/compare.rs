//! `qloupe compare`: what moved between two reports.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{ArgMatches, Args, FromArgMatches};
use qloupe::compare_reports::{ReportComparison, TableOptions, read_report};

use super::Command;
use crate::{GATE_FAILED, progress};

const EXAMPLE: &str = "Examples:
  qloupe compare before.json after.json
  qloupe compare main.json branch.json --fail-on-regression 0.5";

#[derive(Args, Debug)]
struct Arguments {
    /// The report before, written by `qloupe analyze --report A.json`
    #[arg(value_name = "A.json")]
    a: PathBuf,
    /// The report after
    #[arg(value_name = "B.json")]
    b: PathBuf,
    /// Show everything that moved, not only what moved most
    #[arg(long)]
    all: bool,
    /// Exit with status 1 when a network output, or a part of one, lost more than this many dB of sqnr in view entire
    #[arg(long, value_name = "DB", allow_hyphen_values = true)]
    fail_on_regression: Option<String>,
    /// Print results and errors only
    #[arg(long, short)]
    quiet: bool,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
}

pub(super) struct Compare;

impl Command for Compare {
    fn name(&self) -> &'static str {
        "compare"
    }

    fn define(&self) -> clap::Command {
        let about = "Show what moved between two reports: outputs, layers, settings, findings";
        Arguments::augment_args(clap::Command::new(self.name()))
            .about(about)
            .after_help(EXAMPLE)
    }

    fn run(&self, arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
        let args = Arguments::from_arg_matches(arguments)?;
        let limit_db = args.fail_on_regression.as_deref().map(parse_limit).transpose()?;
        let (a, b) = (read_report(&args.a)?, read_report(&args.b)?);
        let (file_a, file_b) = (args.a.display().to_string(), args.b.display().to_string());
        let comparison = ReportComparison::new((&file_a, &a), (&file_b, &b));
        let regression = limit_db
            .map(|limit_db| comparison.regression(limit_db))
            .transpose()?;
        if args.json {
            progress::result(&serde_json::to_string_pretty(&comparison.to_json())?)?;
        } else {
            progress::result(&comparison.to_text(TableOptions {
                colour: progress::colours(),
                width: progress::width(),
                all: args.all,
                quiet: args.quiet,
            }))?;
        }
        let Some(regression) = regression else {
            return Ok(ExitCode::SUCCESS);
        };
        progress::message(&regression.words);
        Ok(if regression.passed {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(GATE_FAILED)
        })
    }
}

fn parse_limit(text: &str) -> anyhow::Result<f64> {
    match text.trim().parse::<f64>() {
        Ok(limit_db) if limit_db >= 0.0 => Ok(limit_db),
        _ => {
            bail!("--fail-on-regression {text}: expected a number of dB that is not below 0, for example 0.5")
        }
    }
}
