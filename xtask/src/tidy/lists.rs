//! A list file and its folder agree: every file is declared, every thing in it is an entry of the list, both are sorted.
//!
//! What counts as a thing is read from the type of the list: for `&[&dyn Operator]` each `impl Operator for X`, for
//! `&[&Target]` each constant of type `Target`. A file without one is a shared building block.

use super::rust_code::code_of;
use super::tree::Tree;

/// A list file; its folder has the same name. One that does not exist yet is not checked.
struct List {
    file: &'static str,
    /// The constant; `None` where the files are called by name and only declared here.
    constant: Option<&'static str>,
}

const LISTS: &[List] = &[
    List {
        file: "crates/qloupe-cli/src/command.rs",
        constant: Some("ALL"),
    },
    List {
        file: "crates/qloupe-exec/src/ops.rs",
        constant: Some("ALL"),
    },
    List {
        file: "crates/qloupe/src/calibrate.rs",
        constant: Some("ALL"),
    },
    List {
        file: "crates/qloupe/src/evaluate/tasks.rs",
        constant: Some("ALL"),
    },
    List {
        file: "crates/qloupe/src/export.rs",
        constant: Some("ALL"),
    },
    List {
        file: "crates/qloupe/src/metrics.rs",
        constant: Some("ALL"),
    },
    List {
        file: "crates/qloupe/src/passes.rs",
        constant: None,
    },
    List {
        file: "crates/qloupe/src/ranges.rs",
        constant: Some("ALL"),
    },
    List {
        file: "crates/qloupe/src/report.rs",
        constant: Some("FORMATS"),
    },
    List {
        file: "crates/qloupe/src/targets.rs",
        constant: Some("ALL"),
    },
];

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for list in LISTS {
        let (file, folder) = (list.file, list.file.trim_end_matches(".rs"));
        match (tree.text(file), tree.modules_in(folder).is_empty()) {
            (Some(text), _) => {
                let code = code_of(text);
                findings.extend(check_modules(tree, file, folder, &code));
                if let Some(constant) = list.constant {
                    findings.extend(check_entries(tree, file, folder, &code, constant));
                }
            }
            (None, false) => findings.push(format!("{file}: does not exist, expected the list of {folder}/")),
            (None, true) => {}
        }
    }
    findings
}

fn check_modules(tree: &Tree, file: &str, folder: &str, code: &str) -> Vec<String> {
    let declared: Vec<&str> = code.lines().filter_map(declared_module).collect();
    let mut findings: Vec<String> = tree
        .modules_in(folder)
        .into_iter()
        .filter(|module| !declared.contains(module))
        .map(|module| format!("{folder}/{module}.rs: not declared, expected `mod {module};` in {file}"))
        .collect();
    if let Some(pair) = declared.windows(2).find(|pair| pair[0] > pair[1]) {
        findings.push(format!(
            "{file}: modules are not sorted, expected {} before {}",
            pair[1], pair[0]
        ));
    }
    findings
}

fn check_entries(tree: &Tree, file: &str, folder: &str, code: &str, constant: &str) -> Vec<String> {
    let Some(list) = Entries::read(code, constant) else {
        return vec![format!(
            "{file}: no list, expected `const {constant}: &[..] = &[..];`"
        )];
    };
    let mut findings = Vec::new();
    for module in tree.modules_in(folder) {
        let text = tree.text(&format!("{folder}/{module}.rs")).unwrap_or_default();
        for name in things(&code_of(text), list.kind) {
            let entry = format!("{module}::{name}");
            if !list.entries.contains(&entry.as_str()) {
                findings.push(format!(
                    "{folder}/{module}.rs: not in the list, expected `&{entry},` in {file}"
                ));
            }
        }
    }
    if let Some(pair) = list.entries.windows(2).find(|pair| pair[0] >= pair[1]) {
        findings.push(format!(
            "{file}: {constant} is not sorted, expected {} before {}",
            pair[1], pair[0]
        ));
    }
    findings
}

/// The name in a line `mod name;`, whatever its visibility.
fn declared_module(line: &str) -> Option<&str> {
    let (before, name) = line.trim().strip_suffix(';')?.rsplit_once(' ')?;
    let is_module = before == "mod" || (before.starts_with("pub") && before.ends_with(" mod"));
    is_module.then(|| without_raw(name))
}

/// A parsed list.
struct Entries<'a> {
    /// `Operator` of `&[&dyn Operator]`.
    kind: &'a str,
    /// `relu::Relu` of `&relu::Relu`.
    entries: Vec<&'a str>,
}

impl<'a> Entries<'a> {
    fn read(code: &'a str, constant: &str) -> Option<Self> {
        let (ty, rest) = code
            .split_once(&format!("const {constant}: &["))?
            .1
            .split_once("] = &[")?;
        let kind = ty.rsplit(['&', ' ', ':']).next()?;
        let entries = rest
            .split_once("];")?
            .0
            .split(',')
            .map(|entry| entry.trim().trim_start_matches('&'));
        Some(Self {
            kind,
            entries: entries
                .filter(|entry| !entry.is_empty())
                .map(without_raw)
                .collect(),
        })
    }
}

/// The names of the types that implement `kind` and of the constants of type `kind`, tests excluded.
fn things<'a>(code: &'a str, kind: &str) -> Vec<&'a str> {
    let (of_trait, of_type) = (format!("impl {kind} for "), format!(": {kind} ="));
    let first_word = |text: &'a str| text.split(|c: char| !(c.is_alphanumeric() || c == '_')).next();
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines()
        .filter_map(|line| {
            line.strip_prefix(&of_trait).and_then(first_word).or_else(|| {
                line.split_once(&of_type)?
                    .0
                    .rsplit_once("const ")
                    .map(|(_, name)| name)
            })
        })
        .collect()
}

fn without_raw(name: &str) -> &str {
    name.trim_start_matches("r#")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPS: &str = "crates/qloupe-exec/src/ops.rs";
    const RELU: (&str, &str) = ("crates/qloupe-exec/src/ops/relu.rs", "impl Operator for Relu {\n");
    const IF: (&str, &str) = ("crates/qloupe-exec/src/ops/if.rs", "impl Operator for If {\n");
    const SHARED: (&str, &str) = (
        "crates/qloupe-exec/src/ops/shared.rs",
        "pub(super) fn f() {}\n#[cfg(test)]\nmod tests {\nimpl Operator for Fake {\n",
    );

    #[test]
    fn a_list_that_does_not_fit_its_folder_is_found() {
        struct Case {
            modules: &'static str,
            entries: &'static str,
            expected: &'static [&'static str],
        }
        let cases = [
            Case {
                modules: "mod r#if;\nmod relu;\npub(crate) mod shared;",
                entries: "&r#if::If, &relu::Relu",
                expected: &[],
            },
            Case {
                modules: "mod r#if;\nmod relu;",
                entries: "&r#if::If, &relu::Relu",
                expected: &[
                    "crates/qloupe-exec/src/ops/shared.rs: not declared, expected `mod shared;` in \
                             crates/qloupe-exec/src/ops.rs",
                ],
            },
            Case {
                modules: "mod r#if;\nmod relu;\nmod shared;",
                entries: "&r#if::If,\n // &relu::Relu,\n",
                expected: &[
                    "crates/qloupe-exec/src/ops/relu.rs: not in the list, expected `&relu::Relu,` in \
                             crates/qloupe-exec/src/ops.rs",
                ],
            },
            Case {
                modules: "mod relu;\nmod r#if;\nmod shared;",
                entries: "&r#if::If, &relu::Relu",
                expected: &["crates/qloupe-exec/src/ops.rs: modules are not sorted, expected if before relu"],
            },
            Case {
                modules: "mod r#if;\nmod relu;\nmod shared;",
                entries: "&relu::Relu, &r#if::If",
                expected: &[
                    "crates/qloupe-exec/src/ops.rs: ALL is not sorted, expected if::If before relu::Relu",
                ],
            },
        ];
        for case in cases {
            let list = format!(
                "{}\npub const ALL: &[&dyn Operator] = &[{}];\n",
                case.modules, case.entries
            );
            assert_eq!(
                check(&Tree::of(&[(OPS, &list), RELU, IF, SHARED])),
                case.expected,
                "{list}"
            );
        }
    }

    #[test]
    fn constants_are_entries_too() {
        let list = "mod rk3588;\npub const ALL: &[&Target] = &[];\n";
        let target = "pub(super) const RK3588: Target = Target {};\n";
        let tree = Tree::of(&[
            ("crates/qloupe/src/targets.rs", list),
            ("crates/qloupe/src/targets/rk3588.rs", target),
        ]);
        let found = check(&tree);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("expected `&rk3588::RK3588,`"), "{found:?}");
    }

    #[test]
    fn a_folder_without_a_list_is_found() {
        let found = check(&Tree::of(&[RELU]));
        assert_eq!(
            found,
            [
                "crates/qloupe-exec/src/ops.rs: does not exist, expected the list of crates/qloupe-exec/src/ops/"
            ]
        );
        let found = check(&Tree::of(&[(OPS, "mod relu;"), RELU]));
        assert_eq!(
            found,
            ["crates/qloupe-exec/src/ops.rs: no list, expected `const ALL: &[..] = &[..];`"]
        );
    }
}
