//! Lines of the vendor's YAML: `name: value` and `- value`, with where they stand.

use std::ops::Range as Span;

/// One line that says something.
#[derive(Debug)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: usize,
    /// Spaces before it.
    pub(super) indent: usize,
    /// What it says.
    pub(super) token: Token,
    /// Its bytes, with the line break.
    pub(super) span: Span<usize>,
}

/// What a line says; values are spans, without comment and spaces around them.
#[derive(Debug)]
pub(super) enum Token {
    /// `name: value`.
    Key { name: String, value: Span<usize> },
    /// `- value`.
    Item { value: Span<usize> },
}

impl Line {
    /// `line N: <what>, expected X, got Y`.
    pub(super) fn wrong(&self, what: &str, expected: &str, got: &str) -> String {
        format!("line {}: {what}, expected {expected}, got {got:?}", self.number)
    }
}

/// The lines of a text that say something.
///
/// # Errors
/// A line that is neither of both.
pub(super) fn tokens(text: &str) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    let mut start = 0;
    // A name of more than 128 characters is written as `? name`; its fields begin with `:` in the next line.
    let mut pending: Option<Line> = None;
    for (idx, raw) in text.split_inclusive('\n').enumerate() {
        let span = start..start + raw.len();
        start = span.end;
        let number = idx + 1;
        let marks = raw.len() - raw.trim_start_matches([' ', '\u{feff}']).len();
        let whole = raw[marks..].trim_end();
        let mut content = whole;
        let mut indent = marks;
        if content.is_empty() || content.starts_with('#') || content == "---" {
            continue;
        }
        let wrong =
            || format!("line {number}: wrong syntax, expected `name: value` or `- value`, got {whole:?}");
        if let Some(name) = content.strip_prefix("? ") {
            let (name, _) = scalar(name.trim_start()).ok_or_else(wrong)?;
            let value = span.end..span.end;
            pending = Some(Line {
                number,
                indent,
                token: Token::Key { name, value },
                span,
            });
            continue;
        }
        if let Some(key) = pending.take() {
            let rest = content
                .strip_prefix(':')
                .filter(|rest| rest.starts_with(' ') && indent == key.indent);
            let rest = rest.ok_or_else(wrong)?;
            lines.push(key);
            indent += content.len() - rest.trim_start().len();
            content = rest.trim_start();
        }
        let at = span.start + raw.trim_end().len() - content.len();
        let token = token(content, at).ok_or_else(wrong)?;
        lines.push(Line {
            number,
            indent,
            token,
            span,
        });
    }
    Ok(lines)
}

/// The token of a line; `at` is where its content begins in the text.
fn token(content: &str, at: usize) -> Option<Token> {
    let value_of = |begin: usize| {
        let rest = &content[begin..];
        let begin = begin + (rest.len() - rest.trim_start().len());
        let value = without_comment(&content[begin..]);
        at + begin..at + begin + value.len()
    };
    if content == "-" || content.starts_with("- ") {
        return Some(Token::Item { value: value_of(1) });
    }
    let (name, end) = match content.chars().next()? {
        '"' | '\'' => {
            let (name, end) = scalar(content)?;
            content[end..].starts_with(':').then_some((name, end + 1))?
        }
        _ => {
            let end = content
                .find(": ")
                .or_else(|| content.ends_with(':').then(|| content.len() - 1))?;
            (content[..end].to_owned(), end + 1)
        }
    };
    Some(Token::Key {
        name,
        value: value_of(end),
    })
}

/// A scalar at the begin of a text, and where it ends.
fn scalar(text: &str) -> Option<(String, usize)> {
    match text.chars().next()? {
        '\'' => {
            let mut name = String::new();
            let mut chars = text.char_indices().skip(1).peekable();
            while let Some((idx, c)) = chars.next() {
                match c {
                    '\'' if chars.next_if(|(_, next)| *next == '\'').is_none() => {
                        return Some((name, idx + 1));
                    }
                    c => name.push(c),
                }
            }
            None
        }
        '"' => {
            let mut escaped = false;
            let closing = text.char_indices().skip(1).find(|(_, c)| {
                let closes = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                closes
            });
            let end = closing?.0 + 1;
            Some((serde_json::from_str(&text[..end]).ok()?, end))
        }
        _ => {
            let name = without_comment(text);
            Some((name.to_owned(), name.len()))
        }
    }
}

fn without_comment(text: &str) -> &str {
    let end = if text.starts_with('#') {
        0
    } else {
        text.find(" #").unwrap_or(text.len())
    };
    text[..end].trim_end()
}
