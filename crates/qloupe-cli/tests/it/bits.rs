//! Same input, same bits: whatever the number of threads and the instruction set.

use qloupe::report::Report;

use crate::sandbox::{ANALYZE, BUILD, INFER, Sandbox, run};

const INSTRUCTION_SETS: &[&str] = &["scalar", "avx2", "avx512", "vnni", "amx"];

/// The instruction sets that the machine has; the others are told.
fn available(sandbox: &Sandbox) -> Vec<&'static str> {
    let works = |isa: &&str| {
        let outcome = run(sandbox.command(INFER).env("QLOUPE_ISA", isa));
        let is_missing = outcome.stderr.contains("QLOUPE_ISA");
        assert!(
            is_missing || outcome.status == Some(0),
            "{isa}: {}",
            outcome.stderr
        );
        !is_missing
    };
    let (available, missing): (Vec<&str>, Vec<&str>) = INSTRUCTION_SETS.iter().partition(|isa| works(isa));
    println!(
        "compared: {}; this machine has no {}",
        available.join(", "),
        missing.join(", ")
    );
    assert!(available.contains(&"scalar"), "scalar code runs everywhere");
    available
}

/// Runs a command with each number of threads and each instruction set; `result` reads what a run left.
fn compare<T: PartialEq + std::fmt::Debug>(arguments: &[&str], result: impl Fn(&Sandbox, String) -> T) {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{BUILD} -o out.onnx --quiet"));
    let available = available(&sandbox);
    for arguments in arguments {
        let mut first: Option<T> = None;
        for (isa, threads) in available.iter().flat_map(|isa| [(isa, 1), (isa, 2)]) {
            let with_threads = format!("{arguments} --threads {threads}");
            let outcome = run(sandbox.command(&with_threads).env("QLOUPE_ISA", isa));
            assert_eq!(
                outcome.status,
                Some(0),
                "{isa} {with_threads}\n{}",
                outcome.stderr
            );
            let result = result(&sandbox, outcome.stdout);
            match &first {
                Some(first) => assert!(*first == result, "{with_threads} gives other bits with {isa}"),
                None => first = Some(result),
            }
        }
    }
}

#[test]
fn outputs_are_the_same_bits_in_every_mode() {
    let modes = [
        "--mode float",
        "--mode fp16",
        "--mode integer --plan out.plan.toml",
        "--mode fake-quant --plan out.plan.toml",
    ];
    let commands = modes.map(|mode| format!("{INFER} {mode} --out out.npz"));
    compare(&commands.each_ref().map(String::as_str), |sandbox, _| {
        sandbox.read("out.npz")
    });
}

#[test]
fn reports_are_the_same_but_for_the_time() {
    let commands = [
        format!("{ANALYZE} --json"),
        format!("{ANALYZE} --json --mode fake-quant --views entire,local,tensor"),
    ];
    compare(&commands.each_ref().map(String::as_str), |_, stdout| {
        let report: Report = serde_json::from_str(&stdout).unwrap();
        (report.layers, report.outputs, report.findings)
    });
}

#[test]
fn built_models_and_plans_are_the_same_bytes() {
    compare(&[&format!("{BUILD} -o again.onnx")], |sandbox, _| {
        (sandbox.read("again.onnx"), sandbox.read("again.plan.toml"))
    });
}
