//! The dependencies between the crates are those of the crate table in `docs/ARCHITECTURE.md`, no more and no fewer.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::Tree;

const DOCUMENT: &str = "docs/ARCHITECTURE.md";
/// The header of the table; a row is `` | `crate` | `dependency`, `dependency` | what it owns | ``.
const HEADER: &str = "| crate | may depend on |";

type Edges = BTreeMap<String, BTreeSet<String>>;

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let Some(table) = tree.text(DOCUMENT).and_then(read_table) else {
        return vec![format!(
            "{DOCUMENT}: no crate table, expected a header that starts with {HEADER:?}"
        )];
    };
    let manifests: Vec<(&str, &str)> = tree
        .texts()
        .filter(|(path, _)| path.ends_with("/Cargo.toml"))
        .collect();
    let mut findings = Vec::new();
    let mut crates = BTreeMap::new();
    for (path, text) in manifests {
        match text.parse::<toml::Table>() {
            Ok(manifest) => {
                let name = manifest
                    .get("package")
                    .and_then(|p| p.get("name"))
                    .and_then(toml::Value::as_str);
                crates.insert(name.unwrap_or(path).to_owned(), (path, manifest));
            }
            Err(error) => findings.push(format!("{path}: {}", error.message())),
        }
    }
    let names: BTreeSet<String> = crates.keys().cloned().collect();
    for (name, (path, manifest)) in &crates {
        let Some(listed) = table.get(name) else {
            findings.push(format!(
                "{path}: crate {name:?} has no row in the table of {DOCUMENT}"
            ));
            continue;
        };
        let used = dependencies(manifest, &["dependencies", "build-dependencies"], &names);
        let in_tests = dependencies(manifest, &["dev-dependencies"], &names);
        for edge in used.union(&in_tests).filter(|edge| !listed.contains(*edge)) {
            findings.push(format!(
                "{path}: {name} depends on {edge}, which {DOCUMENT} does not list"
            ));
        }
        for edge in listed
            .iter()
            .filter(|edge| names.contains(*edge) && !used.contains(*edge))
        {
            findings.push(format!(
                "{path}: {name} does not depend on {edge}, which {DOCUMENT} lists"
            ));
        }
    }
    findings
}

/// The rows of the crate table.
fn read_table(document: &str) -> Option<Edges> {
    let mut lines = document.lines().skip_while(|line| !line.starts_with(HEADER));
    lines.next()?;
    let mut table = Edges::new();
    for line in lines.skip(1).take_while(|line| line.starts_with('|')) {
        let mut cells = line.split('|').skip(1).map(str::trim);
        let name = cells.next()?.trim_matches('`').to_owned();
        // Every second part between backquotes is a name.
        let edges = cells
            .next()?
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        table.insert(name, edges);
    }
    Some(table)
}

/// The crates of this repository that the named sections of a manifest, also those for one platform, depend on.
fn dependencies(manifest: &toml::Table, sections: &[&str], names: &BTreeSet<String>) -> BTreeSet<String> {
    let platforms = manifest
        .get("target")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flat_map(toml::Table::values);
    std::iter::once(manifest)
        .chain(platforms.filter_map(toml::Value::as_table))
        .flat_map(|table| {
            sections
                .iter()
                .filter_map(|section| table.get(*section)?.as_table())
        })
        .flatten()
        .map(|(key, value)| {
            value
                .get("package")
                .and_then(toml::Value::as_str)
                .unwrap_or(key)
                .to_owned()
        })
        .filter(|name| names.contains(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
text
| crate | may depend on | owns |
|---|---|---|
| `low` | - | x |
| `high` | `low`, `future` | x |

| `not` | `a row` |
";

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\n{rest}")
    }

    #[test]
    fn edges_that_differ_from_the_table_are_found() {
        struct Case {
            low: &'static str,
            high: &'static str,
            expected: &'static [&'static str],
        }
        let uses_low = "[dependencies]\nlow.workspace = true\nanyhow = \"1\"\n";
        let cases = [
            Case {
                low: "",
                high: uses_low,
                expected: &[],
            },
            Case {
                low: "[dependencies]\nhigh = { path = \"../high\" }\n",
                high: uses_low,
                expected: &["low/Cargo.toml: low depends on high, which docs/ARCHITECTURE.md does not list"],
            },
            Case {
                low: "[dev-dependencies]\nx = { package = \"high\" }\n",
                high: uses_low,
                expected: &["low/Cargo.toml: low depends on high, which docs/ARCHITECTURE.md does not list"],
            },
            Case {
                low: "[target.'cfg(unix)'.dependencies]\nhigh.workspace = true\n",
                high: uses_low,
                expected: &["low/Cargo.toml: low depends on high, which docs/ARCHITECTURE.md does not list"],
            },
            Case {
                low: "",
                high: "[dev-dependencies]\nlow.workspace = true\n",
                expected: &["high/Cargo.toml: high does not depend on low, which docs/ARCHITECTURE.md lists"],
            },
        ];
        for case in cases {
            let (low, high) = (manifest("low", case.low), manifest("high", case.high));
            let tree = Tree::of(&[
                (DOCUMENT, TABLE),
                ("low/Cargo.toml", &low),
                ("high/Cargo.toml", &high),
            ]);
            assert_eq!(
                check(&tree),
                case.expected,
                "low: {:?}, high: {:?}",
                case.low,
                case.high
            );
        }
    }

    #[test]
    fn a_crate_without_a_row_and_a_document_without_a_table_are_found() {
        let other = manifest("other", "");
        let found = check(&Tree::of(&[(DOCUMENT, TABLE), ("other/Cargo.toml", &other)]));
        assert_eq!(
            found,
            ["other/Cargo.toml: crate \"other\" has no row in the table of docs/ARCHITECTURE.md"]
        );
        let found = check(&Tree::of(&[(DOCUMENT, "no table"), ("other/Cargo.toml", &other)]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("docs/ARCHITECTURE.md: no crate table"),
            "{found:?}"
        );
    }
}
