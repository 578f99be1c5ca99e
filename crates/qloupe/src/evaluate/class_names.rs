//! The names of classes: a file of one name a line, or the model's metadata.

use std::path::Path;

use crate::Error;

/// The keys under which exporters keep the names.
const METADATA_KEYS: [&str; 3] = ["names", "classes", "labels"];

/// Reads a file of one name a line, class 0 first.
///
/// # Errors
/// An unreadable file, a file without names.
pub fn read_class_names(path: &Path) -> Result<Vec<String>, Error> {
    let error = |what| Error::File {
        path: path.to_owned(),
        what,
    };
    let text = std::fs::read_to_string(path).map_err(|e| error(format!("cannot be read: {e}")))?;
    let names: Vec<String> = text
        .strip_prefix('\u{feff}')
        .unwrap_or(&text)
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    if names.iter().all(String::is_empty) {
        return Err(error("holds no names, expected one a line".to_owned()));
    }
    Ok(names)
}

/// The names in a model's metadata: a mapping `{0: 'cat', 1: 'dog'}` as Ultralytics writes it, a list, or lines.
pub(super) fn of_metadata(metadata: &[(String, String)]) -> Option<Vec<String>> {
    let is_known = |(key, _): &&(String, String)| METADATA_KEYS.contains(&key.as_str());
    metadata
        .iter()
        .filter(is_known)
        .find_map(|(_, value)| parse(value.trim()))
}

fn parse(text: &str) -> Option<Vec<String>> {
    let inside = |open: char, close: char| text.strip_prefix(open)?.strip_suffix(close);
    if let Some(pairs) = inside('{', '}') {
        return parse_mapping(pairs);
    }
    if let Some(list) = inside('[', ']') {
        return parse_list(list);
    }
    let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    (names.len() > 1).then_some(names)
}

/// `0: 'cat', 1: 'dog'`; the keys count from 0.
fn parse_mapping(mut rest: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once(':')?;
        let key = key.trim().trim_matches(['"', '\'']);
        if key.parse() != Ok(names.len()) {
            return None;
        }
        let (name, after) = quoted(after.trim_start())?;
        names.push(name);
        rest = next(after)?;
    }
    (!names.is_empty()).then_some(names)
}

/// `'cat', 'dog'`.
fn parse_list(mut rest: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    rest = rest.trim_start();
    while !rest.is_empty() {
        let (name, after) = quoted(rest)?;
        names.push(name);
        rest = next(after)?;
    }
    (!names.is_empty()).then_some(names)
}

/// What follows a comma; nothing at the end.
fn next(after: &str) -> Option<&str> {
    let after = after.trim_start();
    if after.is_empty() {
        return Some(after);
    }
    after.strip_prefix(',').map(str::trim_start)
}

/// The text in quotes at the beginning, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut characters = text.char_indices();
    let (_, quote) = characters.next().filter(|(_, c)| ['"', '\''].contains(c))?;
    let mut name = String::new();
    while let Some((idx, character)) = characters.next() {
        match character {
            '\\' => name.push(characters.next()?.1),
            end if end == quote => return Some((name, &text[idx + 1..])),
            other => name.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_metadata() {
        let cases = [
            ("{0: 'cat', 1: \"it's\"}", Some(vec!["cat", "it's"])),
            ("{\"0\": \"a:b\", \"1\": \"c, d\",}", Some(vec!["a:b", "c, d"])),
            ("['a', \"b\\\"c\"]", Some(vec!["a", "b\"c"])),
            ("cat\ndog\n", Some(vec!["cat", "dog"])),
            ("{1: 'cat'}", None),
            ("{0: cat}", None),
            ("['a' 'b']", None),
            ("['a", None),
            ("{}", None),
            ("[]", None),
            ("imagenet", None),
        ];
        for (text, expected) in cases {
            let metadata = [
                ("author".to_owned(), "a\nb".to_owned()),
                ("names".to_owned(), text.to_owned()),
            ];
            let names = of_metadata(&metadata);
            let names: Option<Vec<&str>> = names
                .as_ref()
                .map(|names| names.iter().map(String::as_str).collect());
            assert_eq!(names, expected, "{text}");
        }
    }

    #[test]
    fn a_file_of_names_has_one_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.txt");
        std::fs::write(&path, "\u{feff}cat\r\n dog \n").unwrap();
        assert_eq!(read_class_names(&path).unwrap(), ["cat", "dog"]);
        std::fs::write(&path, "\n").unwrap();
        let shown = path.display();
        assert_eq!(
            read_class_names(&path).unwrap_err().to_string(),
            format!("{shown}: holds no names, expected one a line")
        );
        assert_eq!(
            read_class_names(Path::new("none.txt")).unwrap_err().to_string(),
            "none.txt: cannot be read: No such file or directory (os error 2)"
        );
    }
}
