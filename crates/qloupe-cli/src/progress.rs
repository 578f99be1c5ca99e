//! What goes to stderr and stdout: progress bars on a terminal only, messages, results.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over a number of samples; invisible when quiet or when stderr is no terminal.
pub(crate) fn bar(what: &str, n: usize, quiet: bool) -> ProgressBar {
    let visible = !quiet && std::io::stderr().is_terminal();
    let target = if visible {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("{msg:15} [{bar:30}] {pos}/{len} {eta}")
        .expect("invariant: a valid template");
    ProgressBar::with_draw_target(Some(n as u64), target)
        .with_style(style.progress_chars("=> "))
        .with_message(what.to_owned())
}

/// Bars of stages that come one after the other.
pub(crate) struct Stages {
    quiet: bool,
    current: Mutex<Option<(String, ProgressBar)>>,
}

impl Stages {
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            quiet,
            current: Mutex::new(None),
        }
    }

    /// Shows how far a stage is; the bar of the one before goes.
    pub(crate) fn show(&self, stage: &str, done: usize, all: usize) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = |(name, _): &(String, ProgressBar)| name == stage;
        if !current.as_ref().is_some_and(is_current) {
            if let Some((_, before)) = current.take() {
                before.finish_and_clear();
            }
            *current = Some((stage.to_owned(), bar(stage, all, self.quiet)));
        }
        if let Some((_, bar)) = &*current {
            // Threads tell of their parts in any order.
            bar.set_position(bar.position().max(done as u64));
        }
    }

    pub(crate) fn finish(&self) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bar)) = &*current {
            bar.finish_and_clear();
        }
    }
}

/// A line on stderr.
pub(crate) fn message(text: &str) {
    // Nothing is left to tell when stderr itself is gone.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A result on stdout.
pub(crate) fn result(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// True when stdout shows colours.
pub(crate) fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// The width of the terminal, or of a page.
pub(crate) fn width() -> usize {
    const PAGE: usize = 120;
    if !std::io::stdout().is_terminal() {
        return PAGE;
    }
    let (_, columns) = console::Term::stdout().size();
    usize::from(columns).max(60)
}
