//! An edited copy of the vendor's file: numbers and layers replaced, every other byte kept.

use std::collections::BTreeSet;
use std::ops::Range as Span;

use qloupe_tensor::Range;

use super::{EMPTY, Entry, LAYERS, Layer, RknnCfg};

/// Edits of one file.
#[derive(Debug)]
pub(crate) struct CfgEdit<'c> {
    cfg: &'c RknnCfg<'c>,
    edits: Vec<(Span<usize>, String)>,
    added: Vec<String>,
    n_removed: usize,
    changed_anchors: BTreeSet<String>,
}

impl<'c> CfgEdit<'c> {
    pub(super) fn new(cfg: &'c RknnCfg<'c>) -> Self {
        Self {
            cfg,
            edits: Vec::new(),
            added: Vec::new(),
            n_removed: 0,
            changed_anchors: BTreeSet::new(),
        }
    }

    /// Writes another range into an entry that has one.
    pub(crate) fn set_range(&mut self, entry: &Entry, range: Range) {
        for (numbers, value) in [(&entry.min, range.min), (&entry.max, range.max)] {
            if let [number] = numbers.as_slice()
                && number.value.to_bits() != value.to_bits()
            {
                let text = format_number(value);
                let text = if number.is_alias {
                    format!("[{text}]")
                } else {
                    text
                };
                self.edits.push((number.at.clone(), text));
                self.changed_anchors.extend(number.anchor.clone());
            }
        }
    }

    /// Gives a layer a type.
    pub(crate) fn set_layer(&mut self, name: &str, dtype: &str) {
        match self.cfg.layers.iter().find(|layer| layer.name == name) {
            Some(layer) if layer.dtype == dtype => {}
            Some(layer) => self.edits.push((layer.dtype_at.clone(), dtype.to_owned())),
            None => self.added.push(format!("    {}: {dtype}", quoted(name))),
        }
    }

    /// Leaves the type of a layer to the converter.
    pub(crate) fn remove_layer(&mut self, layer: &Layer) {
        self.edits.push((layer.line_at.clone(), String::new()));
        self.n_removed += 1;
    }

    /// The text.
    pub(crate) fn finish(mut self) -> String {
        let text = self.cfg.text;
        let line_break = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let block: String = self
            .added
            .iter()
            .map(|line| format!("{line}{line_break}"))
            .collect();
        let is_empty = self.cfg.layers.len() + self.added.len() == self.n_removed;
        match &self.cfg.head {
            None if block.is_empty() => {}
            None => self.edits.push((0..0, format!("{LAYERS}:{line_break}{block}"))),
            Some(head) => {
                let after = self.cfg.layers.last().map_or(head.end, |layer| layer.line_at.end);
                let line_end = match &self.cfg.layers.last() {
                    Some(_) => after,
                    None => text[after..].find('\n').map_or(text.len(), |idx| after + idx + 1),
                };
                let value = &text[head.clone()];
                if value.is_empty() && is_empty {
                    self.edits.push((head.clone(), format!(" {EMPTY}")));
                } else if value == EMPTY && !is_empty {
                    self.edits.push((head.clone(), String::new()));
                }
                if !block.is_empty() {
                    self.edits.push((line_end..line_end, block));
                }
            }
        }
        // What repeats a list that has changed keeps the numbers that it had.
        for alias in &self.cfg.aliases {
            let is_edited = self.edits.iter().any(|(span, _)| *span == alias.at);
            if self.changed_anchors.contains(&alias.anchor) && !is_edited {
                let numbers: Vec<String> = alias.values.iter().map(|&value| format_number(value)).collect();
                self.edits
                    .push((alias.at.clone(), format!("[{}]", numbers.join(", "))));
            }
        }
        self.edits.sort_by_key(|(span, _)| (span.start, span.end));
        let mut edited = String::with_capacity(text.len());
        let mut at = 0;
        for (span, replacement) in &self.edits {
            edited.push_str(&text[at..span.start]);
            edited.push_str(replacement);
            at = span.end;
        }
        edited + &text[at..]
    }
}

/// A number as YAML 1.1 and 1.2 both read a float, with all digits of its double.
fn format_number(value: f32) -> String {
    let text = format!("{:?}", f64::from(value));
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => {
            let point = if digits.contains('.') { "" } else { ".0" };
            let sign = if exponent.starts_with('-') { "" } else { "+" };
            format!("{digits}{point}e{sign}{exponent}")
        }
    }
}

/// A name as a key: in quotes where a plain one would be read as something else.
fn quoted(name: &str) -> String {
    let starts_plain = name.starts_with(|c: char| c.is_alphabetic() || c == '/' || c == '_');
    let is_word = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
        .iter()
        .any(|word| name.eq_ignore_ascii_case(word));
    let splits = name.contains(": ") || name.contains(" #") || name.ends_with([':', ' ']);
    if starts_plain && !is_word && !splits {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_read_back() {
        let numbers = [
            (0.0, "0.0"),
            (-58.5, "-58.5"),
            (1e-9, "9.999999717180685e-10"),
            (1e20, "1.0000000200408773e+20"),
        ];
        for (value, text) in numbers {
            assert_eq!(format_number(value), text);
        }
        let names = [
            ("/model.0/conv/Conv_output_0", "/model.0/conv/Conv_output_0"),
            ("input:0", "input:0"),
            ("123", "'123'"),
            ("it's: 1", "'it''s: 1'"),
            ("No", "'No'"),
            ("a:", "'a:'"),
        ];
        for (name, text) in names {
            assert_eq!(quoted(name), text);
        }
    }
}
