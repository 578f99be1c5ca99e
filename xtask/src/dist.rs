//! `cargo xtask dist`: the program that is shipped, one static file, with its size and the time of `--help`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};

/// The program has no more bytes.
const MAX_BYTES: u64 = 15_000_000;
/// The best of so many runs counts.
const N_RUNS: usize = 20;
/// The type of the ELF program header that names a loader of shared libraries.
const PT_INTERP: u32 = 3;

/// Builds the program in the profile `dist` for this machine's architecture, without shared libraries.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the workspace has no folder")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = Command::new("cargo")
        .args([
            "build",
            "--profile",
            "dist",
            "-p",
            "qloupe-cli",
            "--target",
            &triple,
        ])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .current_dir(root)
        .status()
        .context("cargo cannot be run")?;
    ensure!(status.success(), "the build ended with {status}");
    let program = target.join(&triple).join("dist/qloupe");
    let bytes = std::fs::read(&program).with_context(|| program.display().to_string())?;
    println!(
        "{}: {:.1} MB, --help in {:.1} ms",
        program.display(),
        bytes.len() as f64 / 1e6,
        help_ms(&program)?
    );
    ensure!(
        is_static(&bytes).context("the program is no ELF file of 64 bits")?,
        "the program needs shared libraries, expected none"
    );
    ensure!(
        bytes.len() as u64 <= MAX_BYTES,
        "the program has {} bytes, expected at most {MAX_BYTES}",
        bytes.len()
    );
    Ok(())
}

/// True for an ELF file without a loader; `None` for what is no such file.
fn is_static(elf: &[u8]) -> Option<bool> {
    let number = |at: usize, n_bytes: usize| {
        let mut bytes = [0; 8];
        bytes[..n_bytes].copy_from_slice(elf.get(at..at + n_bytes)?);
        Some(u64::from_le_bytes(bytes))
    };
    if elf.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let (headers, size, n) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let kind = |idx: u64| number(usize::try_from(headers + idx * size).ok()?, 4);
    let kinds: Option<Vec<u64>> = (0..n).map(kind).collect();
    Some(!kinds?.contains(&u64::from(PT_INTERP)))
}

fn help_ms(program: &Path) -> anyhow::Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..N_RUNS {
        let start = Instant::now();
        let status = Command::new(program)
            .arg("--help")
            .stdout(Stdio::null())
            .status()?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
        ensure!(status.success(), "--help ended with {status}");
    }
    Ok(best)
}
