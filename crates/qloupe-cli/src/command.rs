//! The commands, one file each. A new one is a file and two lines here: its `mod` and its entry in `ALL`.

mod analyze;
mod bench;
mod build;
mod compare;
mod comparison;
mod evaluate;
mod explain;
mod export;
mod fixes;
mod hybrid;
mod infer;
mod inspect;
mod quantize;
mod stored;
mod task_accuracy;

use std::process::ExitCode;

use anyhow::Context;
use clap::ArgMatches;

/// One command.
pub(crate) trait Command: Sync {
    /// The word on the command line.
    fn name(&self) -> &'static str;
    /// Its arguments and help.
    fn define(&self) -> clap::Command;
    /// Runs it.
    fn run(&self, arguments: &ArgMatches) -> anyhow::Result<ExitCode>;
}

/// Every command, by name.
const ALL: &[&dyn Command] = &[
    &analyze::Analyze,
    &bench::Bench,
    &build::Build,
    &compare::Compare,
    &evaluate::Evaluate,
    &explain::Explain,
    &export::Export,
    &hybrid::Hybrid,
    &infer::Infer,
    &inspect::Inspect,
];

/// The whole command line.
pub(crate) fn cli() -> clap::Command {
    let root = clap::Command::new("qloupe")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Quantize ONNX models and see exactly where accuracy was lost")
        .subcommand_required(true)
        .arg_required_else_help(true);
    ALL.iter()
        .fold(root, |root, command| root.subcommand(command.define()))
}

/// The command of a name.
pub(crate) fn find(name: &str) -> anyhow::Result<&'static dyn Command> {
    ALL.iter()
        .copied()
        .find(|c| c.name() == name)
        .with_context(|| format!("unknown command \"{name}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent_and_sorted() {
        cli().debug_assert();
        assert!(
            ALL.windows(2).all(|pair| pair[0].name() < pair[1].name()),
            "the list is sorted by name"
        );
    }
}
