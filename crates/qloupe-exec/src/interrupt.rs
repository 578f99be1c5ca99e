//! Ending runs from outside: who waits for them, and hears that nobody wants the result any more, says so here.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ExecError;

static N_INTERRUPTIONS: AtomicUsize = AtomicUsize::new(0);

/// While it lives, every run of this process ends with [`ExecError::Interrupted`] at its next step.
///
/// # Example
/// ```
/// let interruption = qloupe_exec::Interruption::new();
/// // Wait here until the run has ended.
/// drop(interruption);
/// ```
#[derive(Debug)]
pub struct Interruption(());

impl Interruption {
    /// Interrupts all runs.
    #[expect(
        clippy::new_without_default,
        reason = "what it does to the process should be read at the call"
    )]
    pub fn new() -> Self {
        N_INTERRUPTIONS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Interruption {
    fn drop(&mut self) {
        N_INTERRUPTIONS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Refuses to begin a step while runs are interrupted.
pub(crate) fn check() -> Result<(), ExecError> {
    match N_INTERRUPTIONS.load(Ordering::Relaxed) {
        0 => Ok(()),
        _ => Err(ExecError::Interrupted),
    }
}
