//! The qloupe command line: arguments, progress, exit codes, hints.

mod args;
mod command;
mod hint;
mod progress;

use std::process::ExitCode;

/// Exit status when an accuracy gate failed.
pub(crate) const GATE_FAILED: u8 = 1;
/// Exit status of an error.
const ERROR: u8 = 2;

/// Buffers begin at cache lines, and one layer's serve the next.
#[global_allocator]
static ALLOCATOR: qloupe_kernels::LayerAllocator = qloupe_kernels::LayerAllocator::new();

fn main() -> ExitCode {
    let matches = command::cli().get_matches();
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
