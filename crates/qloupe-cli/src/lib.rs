//! The qloupe command line as a library: arguments, progress, exit codes, hints. The program and the console script of the
//! Python package call [`run`].

mod args;
mod command;
mod hint;
mod progress;

use std::ffi::OsString;
use std::process::ExitCode;

/// Exit status when an accuracy gate failed.
pub const GATE_FAILED: u8 = 1;
/// Exit status of an error.
pub const ERROR: u8 = 2;

/// Runs one command line; its first word is the name of the program. Results go to stdout, messages to stderr.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match command::cli().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help is an error of this kind, too. Nothing is left to tell when the terminal itself is gone.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(ERROR));
        }
    };
    let Some((name, arguments)) = matches.subcommand() else {
        return ExitCode::from(ERROR);
    };
    let run = || -> anyhow::Result<ExitCode> {
        qloupe_kernels::Isa::detect().map_err(anyhow::Error::msg)?;
        if let Some(notice) = qloupe_kernels::Isa::notice() {
            progress::message(&format!("note: {notice}"));
        }
        command::find(name)?.run(arguments)
    };
    match run() {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            progress::message(&format!("error: {}", hint::text_of(&error)));
            if let Some(hint) = hint::of(&error) {
                progress::message(&format!("help: {hint}"));
            }
            ExitCode::from(ERROR)
        }
    }
}

/// The reader of our output went away (`qloupe .. | head`): that is no error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}
