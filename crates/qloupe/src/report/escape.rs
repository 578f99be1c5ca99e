//! Text inside XML and HTML: names come from model files and must not become markup.

/// The text as content, or as an attribute in double quotes, of XML 1.0 and HTML.
///
/// # Edge cases
/// Control characters and noncharacters, which XML does not have, become U+FFFD.
pub(super) fn markup(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_begins_markup() {
        assert_eq!(
            markup("<a href='x'>\"&\"\n\u{1b}\u{ffff}é</a>"),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;\u{fffd}\u{fffd}\u{fffd}é&lt;/a&gt;"
        );
    }
}
