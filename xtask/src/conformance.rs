//! `cargo xtask conformance`: the node tests of the PyPI package `onnx` against our operators.
//!
//! `conformance/onnx_node.txt` lists every case with dense tensors as `NAME pass` or `NAME expected-fail: REASON`. A case
//! that is not listed, an unexpected pass and an unexpected failure all fail; `--update` writes the list anew and keeps
//! the reasons of cases that still fail. The cases
//! themselves are written to `target/` by `tools/onnx_node_cases.py` and are not part of the repository.

mod case;
mod inference;
mod layouts;
mod list;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use qloupe_exec::Program;
use qloupe_onnx::read_model;

use case::Case;
use list::{Expectation, parse_list, write_list};

/// The version whose cases the list names.
const ONNX_PACKAGE: &str = "onnx==1.23.2";

/// Runs every case, or those whose names contain one of the words in `arguments`.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let update = arguments.iter().any(|a| a == "--update");
    let words: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    ensure!(
        !update || words.is_empty(),
        "--update takes no words, expected the whole list to be written"
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the workspace has no folder")?;
    let folder = write_cases(root)?;
    let mut results = Vec::new();
    for name in case_names(&folder)? {
        if words.is_empty() || words.iter().any(|word| name.contains(word.as_str())) {
            let failure = check_case(&folder.join(&name)).err().map(|e| one_line(&e));
            results.push((name, failure));
        }
    }
    let n_passed = results.iter().filter(|(_, failure)| failure.is_none()).count();
    println!("{n_passed} of {} cases pass", results.len());
    if !words.is_empty() {
        for (name, failure) in &results {
            println!("{name} {}", failure.as_deref().unwrap_or("pass"));
        }
    }
    let list_path = root.join("conformance/onnx_node.txt");
    if update {
        let reasons =
            std::fs::read_to_string(&list_path).map_or(Ok(BTreeMap::new()), |text| parse_list(&text))?;
        std::fs::write(&list_path, write_list(&results, &reasons))
            .with_context(|| format!("{} cannot be written", list_path.display()))?;
        return Ok(());
    }
    let text = std::fs::read_to_string(&list_path)
        .with_context(|| format!("{} cannot be read", list_path.display()))?;
    let expected = parse_list(&text)?;
    let mut surprises: Vec<String> = results
        .iter()
        .filter_map(|(name, failure)| surprise(name, failure.as_deref(), expected.get(name)))
        .collect();
    if words.is_empty() {
        let gone = expected
            .keys()
            .filter(|name| !results.iter().any(|(n, _)| n == *name));
        surprises.extend(gone.map(|name| format!("{name}: listed, but there is no such case")));
    }
    if surprises.is_empty() {
        return Ok(());
    }
    bail!(
        "{} cases are not as conformance/onnx_node.txt says (cargo xtask conformance --update rewrites it):\n{}",
        surprises.len(),
        surprises.join("\n")
    )
}

/// What is unexpected about a result.
fn surprise(name: &str, failure: Option<&str>, expected: Option<&Expectation>) -> Option<String> {
    match (failure, expected) {
        (None, Some(Expectation::Pass)) | (Some(_), Some(Expectation::Fail(_))) => None,
        (None, Some(Expectation::Fail(_))) => Some(format!("{name}: passes, expected to fail")),
        (Some(failure), Some(Expectation::Pass)) => Some(format!("{name}: fails, {failure}")),
        (_, None) => Some(format!("{name}: not listed, {}", failure.unwrap_or("passes"))),
    }
}

/// Runs one case; the error says what differs.
fn check_case(folder: &Path) -> anyhow::Result<()> {
    let case = Case::read(&folder.join("io.bin"))?;
    let model_path = folder.join("model.onnx");
    let run = || -> anyhow::Result<()> {
        let model = read_model(&model_path)?;
        let program = Program::new(&model)?;
        let outputs = program.run(case.inputs.clone())?;
        layouts::check(&program, &case.inputs, &outputs)?;
        case.compare(&outputs)?;
        let opset_of = |domain: &str| model.opset_of(domain).unwrap_or(1);
        inference::check(&program, &opset_of, &case.inputs, &outputs)
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|_| bail!("panics"))
}

fn one_line(error: &anyhow::Error) -> String {
    error.to_string().lines().collect::<Vec<_>>().join(" ")
}

/// The cases that have dense inputs and outputs, sorted.
fn case_names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        if path.join("io.bin").is_file()
            && let Some(name) = path.file_name().and_then(|n| n.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    ensure!(
        !names.is_empty(),
        "no cases in {}, remove it to write them anew",
        folder.display()
    );
    Ok(names)
}

/// Writes the cases, unless they are there; returns their folder.
fn write_cases(root: &Path) -> anyhow::Result<PathBuf> {
    let cases = root.join("target/onnx_node_cases");
    if cases.is_dir() {
        return Ok(cases);
    }
    let environment = root.join("target/conformance-venv");
    let python = environment.join("bin/python");
    if !python.exists() {
        execute(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    }
    execute(Command::new(&python).args(["-m", "pip", "install", "--quiet", ONNX_PACKAGE]))?;
    // Written beside its place first, so that an interrupted run is not taken for a complete one.
    let unfinished = root.join("target/onnx_node_cases.unfinished");
    execute(
        Command::new(&python)
            .arg(root.join("tools/onnx_node_cases.py"))
            .arg(&unfinished),
    )?;
    std::fs::rename(&unfinished, &cases)?;
    Ok(cases)
}

fn execute(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{command:?} cannot be started"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
