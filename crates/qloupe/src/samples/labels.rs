//! Labels of a classification dataset: `labels.csv` with lines `path,label`.

use std::path::{Path, PathBuf};

use super::error::{SampleError, SamplePlace};

/// One line of `labels.csv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The picture, with the folder of the list before it.
    pub path: PathBuf,
    /// The label as it is written.
    pub label: String,
}

/// Reads `labels.csv`: `path,label` a line, a header `path,...` is optional, quotes protect commas.
///
/// # Errors
/// An unreadable file, a line without exactly two fields, no label at all.
pub fn read_labels(path: &Path) -> Result<Vec<Label>, SampleError> {
    let place = SamplePlace {
        list: None,
        file: path.display().to_string(),
    };
    let text = std::fs::read_to_string(path).map_err(|source| SampleError::Read {
        place: place.clone(),
        source,
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut labels = Vec::new();
    for (idx, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let error = |what| SampleError::Line {
            list: format!("{}:{}", path.display(), idx + 1),
            what,
        };
        let fields = split(line).map_err(error)?;
        let [file, label] = fields.as_slice() else {
            return Err(error(format!(
                "expected 2 fields (path,label), got {}",
                fields.len()
            )));
        };
        if idx == 0 && file.eq_ignore_ascii_case("path") {
            continue;
        }
        labels.push(Label {
            path: folder.join(file),
            label: label.clone(),
        });
    }
    if labels.is_empty() {
        return Err(SampleError::Empty {
            place,
            expected: "lines of path,label",
        });
    }
    Ok(labels)
}

fn split(line: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    let mut characters = line.trim_end().chars().peekable();
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("invariant: starts with a field");
        match character {
            '"' if is_quoted && characters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    if is_quoted {
        return Err("a quote is not closed, expected \"".to_owned());
    }
    Ok(fields.iter().map(|field| field.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_and_refusals_have_their_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_labels(&path)
        };
        let expected = [("a b.png", "3"), ("c.png", "say \"hi\", you")].map(|(file, label)| Label {
            path: folder.path().join(file),
            label: label.to_owned(),
        });
        let lines = "a b.png, 3\r\n\n\"c.png\",\"say \"\"hi\"\", you\"\n";
        assert_eq!(read(lines).unwrap(), expected);
        assert_eq!(read(&format!("path,label\n{lines}")).unwrap(), expected);

        let shown = path.display();
        let cases = [
            (
                "a,b\nc",
                format!("{shown}:2: expected 2 fields (path,label), got 1"),
            ),
            ("a,\"b", format!("{shown}:1: a quote is not closed, expected \"")),
            (
                "path,label\n",
                format!("{path:?} holds no samples, expected lines of path,label"),
            ),
        ];
        for (text, error) in cases {
            assert_eq!(read(text).unwrap_err().to_string(), error);
        }
        assert_eq!(
            read_labels(Path::new("none.csv")).unwrap_err().to_string(),
            "\"none.csv\" cannot be read: No such file or directory (os error 2)"
        );
    }
}
