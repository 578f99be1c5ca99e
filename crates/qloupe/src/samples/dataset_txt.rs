//! The list of a dataset in RKNN's format: one sample a line, its files separated by spaces, quotes protect spaces.

/// The number of a line and its files.
pub(super) type Line = (usize, Vec<String>);

/// The lines that are not blank; an error is the number of a line and what is wrong with it.
pub(super) fn parse_dataset_txt(text: &str) -> Result<Vec<Line>, (usize, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().enumerate().map(|(idx, line)| (idx + 1, line));
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| Ok((number, split(line).map_err(|what| (number, what))?)))
        .collect()
}

fn split(line: &str) -> Result<Vec<String>, String> {
    let mut files = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let (file, after) = if first == '"' || first == '\'' {
            rest[1..]
                .split_once(first)
                .ok_or_else(|| format!("a quote is not closed, expected {first}"))?
        } else {
            rest.split_once(char::is_whitespace).unwrap_or((rest, ""))
        };
        files.push(file.to_owned());
        rest = after.trim_start();
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_at_spaces_outside_quotes() {
        let text = "\u{feff}a.jpg b.npy\r\n\n  \"my photo.jpg\"\t'it is.png' \n";
        let expected = vec![
            (1, vec!["a.jpg".to_owned(), "b.npy".to_owned()]),
            (3, vec!["my photo.jpg".to_owned(), "it is.png".to_owned()]),
        ];
        assert_eq!(parse_dataset_txt(text), Ok(expected));
        assert_eq!(
            parse_dataset_txt("a\n\"b"),
            Err((2, "a quote is not closed, expected \"".to_owned()))
        );
    }
}
