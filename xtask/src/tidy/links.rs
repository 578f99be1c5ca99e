//! Relative links in Markdown files lead to a file or folder of the repository.

use super::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with(".md")) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut in_code = false;
        for (i, line) in text.lines().enumerate() {
            in_code ^= line.trim_start().starts_with("```");
            if in_code {
                continue;
            }
            for target in targets(line) {
                match resolve(folder, target) {
                    Some(file) if tree.exists(&file) => {}
                    _ => findings.push(format!("{path}:{}: broken link {target:?}", i + 1)),
                }
            }
        }
    }
    findings
}

/// The relative targets of the links of a line, without their anchors.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](")
        .filter_map(|(at, open)| line[at + open.len()..].split_once(')'))
        .map(|(target, _)| target.split(['#', ' ']).next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains(':'))
}

/// The path from the root of the repository; `None` outside it.
fn resolve(folder: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_links_are_found() {
        let text = "\
[a](B.md) [b](../README.md#top) [c](https://x.y/z) [d](#here) [e](../testdata/)
[f](C.md) and [g](../../out.md)
```
[h](C.md)
```
![i](i.png)
";
        let tree = Tree::of(&[
            ("docs/A.md", text),
            ("docs/B.md", ""),
            ("README.md", "[x](docs/A.md)"),
            ("testdata/x", ""),
        ]);
        assert_eq!(
            check(&tree),
            [
                "docs/A.md:2: broken link \"C.md\"",
                "docs/A.md:2: broken link \"../../out.md\"",
                "docs/A.md:6: broken link \"i.png\"",
            ]
        );
    }
}
