//! What `--help` says.

use crate::sandbox::Sandbox;

fn help(arguments: &str) -> String {
    Sandbox::new().succeed(arguments)
}

#[test]
fn the_program_lists_its_commands() {
    insta::assert_snapshot!(help("--help"));
}

#[test]
fn analyze() {
    insta::assert_snapshot!(help("analyze --help"));
}

#[test]
fn bench() {
    insta::assert_snapshot!(help("bench --help"));
}

#[test]
fn build() {
    insta::assert_snapshot!(help("build --help"));
}

#[test]
fn compare() {
    insta::assert_snapshot!(help("compare --help"));
}

#[test]
fn evaluate() {
    insta::assert_snapshot!(help("evaluate --help"));
}

#[test]
fn export() {
    insta::assert_snapshot!(help("export --help"));
}

#[test]
fn infer() {
    insta::assert_snapshot!(help("infer --help"));
}

#[test]
fn the_version_is_printed() {
    assert_eq!(
        help("--version"),
        format!("qloupe {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn inspect() {
    insta::assert_snapshot!(help("inspect --help"));
}
