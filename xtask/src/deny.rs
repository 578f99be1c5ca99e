//! `cargo xtask deny`: licences and sources of dependencies, by cargo-deny.

use crate::check::{Outcome, cargo, is_installed};

/// Runs cargo-deny, or says that it is skipped.
///
/// # Errors
/// What cargo-deny found.
pub(crate) fn run() -> anyhow::Result<Outcome> {
    if !is_installed(&["deny", "--version"]) {
        return Ok(Outcome::Skipped(
            "cargo-deny is not installed; `cargo install cargo-deny` installs it",
        ));
    }
    // Advisories need a network; the gate runs without one.
    cargo(&["deny", "check", "licenses", "sources", "bans"])
}
