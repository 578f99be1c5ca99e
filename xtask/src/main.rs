//! Project automation: `cargo xtask check`, `tidy`, `deny`, `conformance`, `dist`, `load-time` and `python`.

#![allow(clippy::print_stdout, reason = "the output of a command is its purpose")]
#![allow(clippy::print_stderr, reason = "as above")]

mod check;
mod conformance;
mod deny;
mod dist;
mod load_time;
mod python;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  check        format, tidy, clippy, deny, doctests and tests; the gate of every change
  conformance  the ONNX node tests; words choose cases, --update writes the list anew
  dist         the program that is shipped, one static file of 15 MB at most
  load-time    how long models of 1 MB to 1 GB and of 1000 to 100000 nodes take until they can run
  python       the wheel of the Python package, built, installed and tested; words go to pytest
  tidy         the rules of docs/STYLE.md that a program can check
  deny         licences and sources of dependencies, if cargo-deny is installed
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("check") => check::run(),
        Some("conformance") => conformance::run(&arguments[1..]),
        Some("dist") => dist::run(),
        Some("load-time") => load_time::run(),
        Some("python") => python::run(&arguments[1..]),
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
