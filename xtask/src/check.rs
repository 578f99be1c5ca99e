//! `cargo xtask check`: every step of the gate, timed; all steps run, then the failed ones are named.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::{deny, tidy};

/// What a step did when it did not fail.
pub(crate) enum Outcome {
    Passed,
    /// The tool is not installed; the text says how to get it.
    Skipped(&'static str),
}

impl Outcome {
    /// Prints why a step was skipped.
    pub(crate) fn say(&self) {
        if let Self::Skipped(why) = self {
            println!("skipped: {why}");
        }
    }
}

struct Step {
    name: &'static str,
    run: fn() -> anyhow::Result<Outcome>,
}

/// Cheap steps first. The tests are last, so that the closing line of the test runner is near the end of the output.
const STEPS: &[Step] = &[
    Step {
        name: "format",
        run: format,
    },
    Step {
        name: "tidy",
        run: || tidy::run().map(|()| Outcome::Passed),
    },
    Step {
        name: "deny",
        run: deny::run,
    },
    Step {
        name: "clippy",
        run: clippy,
    },
    Step {
        name: "doctests",
        run: doctests,
    },
    Step {
        name: "tests",
        run: tests,
    },
];

/// Runs every step.
///
/// # Errors
/// Names the steps that failed.
pub(crate) fn run() -> anyhow::Result<()> {
    let start = Instant::now();
    let mut failed = Vec::new();
    let mut skipped = Vec::new();
    for step in STEPS {
        println!("--- {}", step.name);
        let step_start = Instant::now();
        let verdict = match (step.run)() {
            Ok(Outcome::Passed) => "passed",
            Ok(outcome @ Outcome::Skipped(_)) => {
                outcome.say();
                skipped.push(step.name);
                "skipped"
            }
            Err(error) => {
                println!("{error:#}");
                failed.push(step.name);
                "FAILED"
            }
        };
        println!(
            "--- {} {verdict} in {:.1} s",
            step.name,
            step_start.elapsed().as_secs_f64()
        );
    }
    if !failed.is_empty() {
        bail!("check failed: {}", failed.join(", "));
    }
    let but = if skipped.is_empty() {
        String::new()
    } else {
        format!(", skipped: {}", skipped.join(", "))
    };
    println!("check passed in {:.1} s{but}", start.elapsed().as_secs_f64());
    Ok(())
}

fn format() -> anyhow::Result<Outcome> {
    if !is_installed(&["fmt", "--version"]) {
        return Ok(Outcome::Skipped(
            "rustfmt is not installed; `rustup component add rustfmt` installs it",
        ));
    }
    cargo(&["fmt", "--all", "--check"])
}

fn clippy() -> anyhow::Result<Outcome> {
    if !is_installed(&["clippy", "--version"]) {
        return Ok(Outcome::Skipped(
            "clippy is not installed; `rustup component add clippy` installs it",
        ));
    }
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ])
}

fn doctests() -> anyhow::Result<Outcome> {
    cargo(&["test", "--workspace", "--doc"])
}

fn tests() -> anyhow::Result<Outcome> {
    if is_installed(&["nextest", "--version"]) {
        cargo(&["nextest", "run", "--workspace", "--no-fail-fast"])
    } else {
        cargo(&[
            "test",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
            "--no-fail-fast",
        ])
    }
}

/// True when `cargo ARGUMENTS` succeeds; its output is dropped.
pub(crate) fn is_installed(arguments: &[&str]) -> bool {
    Command::new(cargo_program())
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Runs cargo with the terminal of the user.
pub(crate) fn cargo(arguments: &[&str]) -> anyhow::Result<Outcome> {
    let line = arguments.join(" ");
    let status = Command::new(cargo_program())
        .args(arguments)
        .status()
        .with_context(|| format!("cargo {line}"))?;
    if !status.success() {
        bail!("cargo {line}: {status}");
    }
    Ok(Outcome::Passed)
}

/// The cargo that started this program.
fn cargo_program() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}
