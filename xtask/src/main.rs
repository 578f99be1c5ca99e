//! Project automation: `cargo xtask check`, `tidy`, `deny` and `conformance`.

#![allow(clippy::print_stdout, reason = "the output of a command is its purpose")]
#![allow(clippy::print_stderr, reason = "as above")]

mod check;
mod conformance;
mod deny;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  check        format, tidy, clippy, deny, doctests and tests; the gate of every change
  conformance  the ONNX node tests; words choose cases, --update writes the list anew
  tidy         the rules of docs/STYLE.md that a program can check
  deny         licences and sources of dependencies, if cargo-deny is installed
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("check") => check::run(),
        Some("conformance") => conformance::run(&arguments[1..]),
        Some("tidy") => tidy::run(),
        Some("deny") => deny::run().map(|outcome| outcome.say()),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
