//! Literals of Python.

/// A string.
pub(super) fn string(text: &str) -> String {
    // JSON's escapes are Python's, too.
    serde_json::Value::from(text).to_string()
}

/// A list.
pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

/// A float.
pub(super) fn float(value: f32) -> String {
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_those_of_python() {
        assert_eq!(string("a \"b\"\\\n"), r#""a \"b\"\\\n""#);
        assert_eq!(list(["1".to_owned(), string("x")]), "[1, \"x\"]");
        assert_eq!(float(127.5), "127.5");
    }
}
