//! The lines `path,label` of a `labels.csv`.

use std::path::{Path, PathBuf};

use super::error::{SampleError, SamplePlace};
use super::source::unreadable;

/// One line of `labels.csv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabelLine {
    /// From 1.
    pub(super) number: usize,
    /// The file of the sample as it is written.
    pub(super) file: String,
    /// The label as it is written.
    pub(super) label: String,
}

impl LabelLine {
    /// The file, with the folder of the list before it.
    pub(super) fn path(&self, list: &Path) -> PathBuf {
        list.parent().unwrap_or(Path::new("")).join(&self.file)
    }
}

/// Reads `labels.csv`: `path,label` a line, a header `path,...` is optional, quotes protect commas.
///
/// # Errors
/// An unreadable file, a line without exactly two fields, no label at all.
pub(super) fn read_labels(path: &Path) -> Result<Vec<LabelLine>, SampleError> {
    let place = SamplePlace {
        list: None,
        file: path.display().to_string(),
    };
    let text = std::fs::read_to_string(path).map_err(|source| unreadable(place.clone(), source))?;
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
        labels.push(LabelLine {
            number: idx + 1,
            file: file.clone(),
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
        let expected = |first: usize| {
            [(0, "a b.png", "3"), (2, "c.png", "say \"hi\", you")].map(|(line, file, label)| LabelLine {
                number: first + line,
                file: file.to_owned(),
                label: label.to_owned(),
            })
        };
        let lines = "a b.png, 3\r\n\n\"c.png\",\"say \"\"hi\"\", you\"\n";
        assert_eq!(read(lines).unwrap(), expected(1));
        assert_eq!(read(&format!("path,label\n{lines}")).unwrap(), expected(2));

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
            "\"none.csv\" does not exist"
        );
    }
}
