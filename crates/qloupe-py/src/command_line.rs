//! The command line in this process: the console script of the package.

use std::ffi::OsString;
use std::process::ExitCode;

use pyo3::prelude::*;

/// Runs one command line, whose first word is the name of the program, and returns its exit status.
#[pyfunction]
#[pyo3(signature = (arguments, /))]
pub(crate) fn run_command_line(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    let code = py.detach(|| qloupe_cli::run(arguments));
    // The standard library does not tell the number of an exit code.
    let known = [0, qloupe_cli::GATE_FAILED];
    known
        .into_iter()
        .find(|&status| ExitCode::from(status) == code)
        .unwrap_or(qloupe_cli::ERROR)
}
