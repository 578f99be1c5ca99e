//! `cargo xtask python`: builds the wheel of the Python package, installs it into an environment of its own and tests it there.
//!
//! Cargo builds in the profile of the program, so that the crates below the extension module are those that are built already.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

/// What builds and tests the package. pandas and matplotlib are what its extras need.
const TOOLS: &[&str] = &[
    "maturin>=1.9,<2",
    "numpy",
    "pytest",
    "mypy",
    "pandas",
    "matplotlib",
];

/// Builds, installs and tests; words go to pytest.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the workspace has no folder")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let environment = target.join("python-venv");
    let python = environment.join("bin/python");
    let start = Instant::now();
    if !python.exists() {
        execute(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    }
    execute(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(TOOLS),
    )?;
    say("tools", start);
    let start = Instant::now();
    let wheels = target.join("wheels");
    let _ = std::fs::remove_dir_all(&wheels);
    let mut build = Command::new(environment.join("bin/maturin"));
    build.args(["build", "--release", "--out"]).arg(&wheels);
    execute(build.arg("--interpreter").arg(&python).current_dir(root))?;
    let wheel = only_file(&wheels)?;
    say("wheel", start);
    println!(
        "{} has {:.1} MB",
        wheel.display(),
        std::fs::metadata(&wheel)?.len() as f64 / 1e6
    );
    let mut install = Command::new(&python);
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--force-reinstall",
        "--no-deps",
    ]);
    execute(install.arg(&wheel))?;
    let start = Instant::now();
    let mut pytest = Command::new(&python);
    pytest
        .args(["-m", "pytest", "-q"])
        .args(arguments)
        .current_dir(root);
    execute(&mut pytest)?;
    say("tests", start);
    Ok(())
}

fn say(what: &str, start: Instant) {
    println!("--- {what} in {:.1} s", start.elapsed().as_secs_f64());
}

/// The one file of a folder.
fn only_file(folder: &Path) -> anyhow::Result<PathBuf> {
    let files = std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let files: Vec<PathBuf> = files
        .map(|file| Ok(file?.path()))
        .collect::<anyhow::Result<_>>()?;
    match &files[..] {
        [file] => Ok(file.clone()),
        files => bail!("{}: expected one wheel, got {}", folder.display(), files.len()),
    }
}

fn execute(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{command:?} cannot be started"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
