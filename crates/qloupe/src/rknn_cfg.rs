//! The `.quantization.cfg` that step 1 of the vendor's hybrid quantization writes: read, and edited with every other
//! byte kept. It knows the text only; what names mean is for `ranges` and `export`.
//!
//! The file is a part of YAML: two sections, `custom_quantize_layers` and `quantize_parameters`, with one name a line.
//! Of an entry the vendor's step 2 accepts new numbers in `min` and `max` alone; it computes scale and zero point.

mod edit;
mod lines;

use std::ops::Range as Span;

use lines::{Line, Token, tokens};

pub(crate) use edit::CfgEdit;

const LAYERS: &str = "custom_quantize_layers";
const PARAMETERS: &str = "quantize_parameters";
/// A section without names.
const EMPTY: &str = "{}";

/// A file in parts; spans are bytes of its text.
#[derive(Debug)]
pub(crate) struct RknnCfg<'t> {
    text: &'t str,
    /// The value behind `custom_quantize_layers:`, `{}` or nothing.
    head: Option<Span<usize>>,
    /// Layers that compute in another type than the converter chose.
    pub(crate) layers: Vec<Layer>,
    /// The tensors.
    pub(crate) entries: Vec<Entry>,
    aliases: Vec<Alias>,
}

/// A line of `custom_quantize_layers`.
#[derive(Debug)]
pub(crate) struct Layer {
    /// The output tensor of the layer.
    pub(crate) name: String,
    /// `float16`, `int16`, `int8`.
    pub(crate) dtype: String,
    dtype_at: Span<usize>,
    line_at: Span<usize>,
}

/// A tensor of `quantize_parameters`.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The tensor.
    pub(crate) name: String,
    /// The line of its name, from 1.
    pub(crate) line: usize,
    /// `int8`, `int16`, `int32`, `float16`, `float32`.
    pub(crate) dtype: String,
    /// The smallest number of its range; one for each index of an axis, or none.
    pub(crate) min: Vec<Number>,
    /// The largest.
    pub(crate) max: Vec<Number>,
    /// `min` before the converter cleaned the range up.
    pub(crate) ori_min: Vec<Number>,
    /// `max` before.
    pub(crate) ori_max: Vec<Number>,
}

/// A number and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Number {
    /// The number.
    pub(crate) value: f32,
    at: Span<usize>,
    /// The anchor of its list, `id001` of `&id001`.
    anchor: Option<String>,
    /// True where `*id001` stands for the list.
    is_alias: bool,
}

/// A field that repeats the list of another one.
#[derive(Debug)]
struct Alias {
    anchor: String,
    at: Span<usize>,
    values: Vec<f32>,
}

/// True for a text that is meant to be such a file.
pub(crate) fn is_rknn_cfg(text: &str) -> bool {
    text.lines().any(|line| {
        let section = line.split_once(':').map(|(name, _)| name.trim_end());
        section.is_some_and(|name| name == LAYERS || name == PARAMETERS)
    })
}

impl<'t> RknnCfg<'t> {
    /// Reads a file.
    ///
    /// # Errors
    /// `line N: <what is wrong>, expected X, got Y`.
    pub(crate) fn parse(text: &'t str) -> Result<Self, String> {
        let mut cfg = Self {
            text,
            head: None,
            layers: Vec::new(),
            entries: Vec::new(),
            aliases: Vec::new(),
        };
        let mut section = String::new();
        let mut has_parameters = false;
        let mut reader = EntryReader::default();
        for line in tokens(text)? {
            match (&line.token, line.indent, section.as_str()) {
                (Token::Key { name, value }, 0, _) => {
                    let rest = &text[value.clone()];
                    if (name == LAYERS || name == PARAMETERS) && !rest.is_empty() && rest != EMPTY {
                        return Err(line.wrong(
                            &format!("section \"{name}\" is wrong"),
                            "lines below it or {}",
                            rest,
                        ));
                    }
                    if name == LAYERS {
                        cfg.head = Some(value.clone());
                    }
                    has_parameters |= name == PARAMETERS;
                    section.clone_from(name);
                }
                (Token::Key { name, value }, _, LAYERS) => cfg.layers.push(Layer {
                    name: name.clone(),
                    dtype: text[value.clone()].to_owned(),
                    dtype_at: value.clone(),
                    line_at: line.span.clone(),
                }),
                (_, _, PARAMETERS) => reader.line(text, &line, &mut cfg)?,
                (Token::Item { value }, _, LAYERS) => {
                    return Err(line.wrong("no layer", "`name: float16`", &text[value.clone()]));
                }
                _ => {}
            }
        }
        if !has_parameters {
            return Err(format!(
                "line 1: no section \"{PARAMETERS}\", expected the file of hybrid_quantization_step1"
            ));
        }
        if let Some(entry) = cfg.entries.iter().find(|entry| entry.dtype.is_empty()) {
            return Err(format!(
                "line {}: \"{}\" has no dtype, expected `dtype: int8`",
                entry.line, entry.name
            ));
        }
        Ok(cfg)
    }

    /// Begins an edited copy.
    pub(crate) fn edit(&self) -> CfgEdit<'_> {
        CfgEdit::new(self)
    }
}

/// What lies between the names of two tensors.
#[derive(Default)]
struct EntryReader {
    indent: Option<usize>,
    field: String,
    anchor: Option<String>,
}

impl EntryReader {
    fn line(&mut self, text: &str, line: &Line, cfg: &mut RknnCfg<'_>) -> Result<(), String> {
        let indent = *self.indent.get_or_insert(line.indent);
        match &line.token {
            Token::Key { name, value } if line.indent == indent => {
                let rest = &text[value.clone()];
                if !rest.is_empty() {
                    return Err(line.wrong(
                        &format!("tensor \"{name}\" is wrong"),
                        "its fields in lines below",
                        rest,
                    ));
                }
                self.field.clear();
                cfg.entries.push(Entry {
                    name: name.clone(),
                    line: line.number,
                    dtype: String::new(),
                    min: Vec::new(),
                    max: Vec::new(),
                    ori_min: Vec::new(),
                    ori_max: Vec::new(),
                });
                Ok(())
            }
            Token::Key { name, value } => {
                if cfg.entries.is_empty() || line.indent < indent {
                    return Err(line.wrong("no tensor", "a name at the depth of the others", name));
                }
                self.field.clone_from(name);
                self.field(text, line, value.clone(), cfg)
            }
            Token::Item { value } => {
                if cfg.entries.is_empty() || self.field.is_empty() {
                    return Err(line.wrong("no tensor", "a name before a number", &text[value.clone()]));
                }
                self.number(text, line, value.clone(), cfg)
            }
        }
    }

    /// What stands in the line of a field's name.
    fn field(
        &mut self,
        text: &str,
        line: &Line,
        value: Span<usize>,
        cfg: &mut RknnCfg<'_>,
    ) -> Result<(), String> {
        let mut value = value;
        self.anchor = None;
        if let Some(rest) = text[value.clone()].strip_prefix('&') {
            let word = rest.split(' ').next().unwrap_or_default();
            self.anchor = Some(word.to_owned());
            let after = &rest[word.len()..];
            value.start = value.end - after.trim_start().len();
        }
        let Some(entry) = cfg.entries.last_mut() else {
            return Ok(());
        };
        if self.field == "dtype" {
            text[value.clone()].clone_into(&mut entry.dtype);
        }
        if let Some(anchor) = text[value.clone()].strip_prefix('*') {
            return self.alias(line, anchor, value, cfg);
        }
        for at in flow_items(text, value) {
            self.number(text, line, at, cfg)?;
        }
        Ok(())
    }

    fn number(&self, text: &str, line: &Line, at: Span<usize>, cfg: &mut RknnCfg<'_>) -> Result<(), String> {
        let Some(numbers) = cfg
            .entries
            .last_mut()
            .and_then(|entry| entry.numbers(&self.field))
        else {
            return Ok(());
        };
        let word = &text[at.clone()];
        let value = word.parse::<f32>().ok().filter(|value| value.is_finite());
        let value =
            value.ok_or_else(|| line.wrong(&format!("{} is wrong", self.field), "a finite number", word))?;
        numbers.push(Number {
            value,
            at,
            anchor: self.anchor.clone(),
            is_alias: false,
        });
        Ok(())
    }

    fn alias(&self, line: &Line, anchor: &str, at: Span<usize>, cfg: &mut RknnCfg<'_>) -> Result<(), String> {
        let is_meant = |number: &&Number| number.anchor.as_deref() == Some(anchor);
        let numbers = cfg.entries.iter().flat_map(Entry::lists).flatten();
        let values: Vec<f32> = numbers.filter(is_meant).map(|number| number.value).collect();
        let Some(numbers) = cfg
            .entries
            .last_mut()
            .and_then(|entry| entry.numbers(&self.field))
        else {
            return Ok(());
        };
        if values.is_empty() {
            return Err(line.wrong(
                &format!("{} is wrong", self.field),
                "an anchor of numbers above",
                anchor,
            ));
        }
        numbers.extend(values.iter().map(|&value| Number {
            value,
            at: at.clone(),
            anchor: None,
            is_alias: true,
        }));
        let anchor = anchor.to_owned();
        cfg.aliases.push(Alias { anchor, at, values });
        Ok(())
    }
}

impl Entry {
    fn numbers(&mut self, field: &str) -> Option<&mut Vec<Number>> {
        Some(match field {
            "min" => &mut self.min,
            "max" => &mut self.max,
            "ori_min" => &mut self.ori_min,
            "ori_max" => &mut self.ori_max,
            _ => return None,
        })
    }

    fn lists(&self) -> [&[Number]; 4] {
        [&self.min, &self.max, &self.ori_min, &self.ori_max]
    }

    /// The only number of min and of max; `None` for an entry without a range.
    ///
    /// # Errors
    /// Several numbers, one of the two alone, a range that ends before it begins.
    pub(crate) fn range(&self) -> Result<Option<(&Number, &Number)>, String> {
        let place = format!("line {}: range of \"{}\"", self.line, self.name);
        match (self.min.as_slice(), self.max.as_slice()) {
            ([], []) => Ok(None),
            ([min], [max]) if min.value <= max.value => Ok(Some((min, max))),
            ([min], [max]) => Err(format!(
                "{place} is wrong, expected min of at most {:?}, got {:?}",
                max.value, min.value
            )),
            (min, max) => Err(format!(
                "{place} is wrong, expected one min and one max, got {} and {}",
                min.len(),
                max.len()
            )),
        }
    }
}

/// The spans of the items of `[1.0, 2.0]`; what is no such list is one item, nothing is none.
fn flow_items(text: &str, value: Span<usize>) -> Vec<Span<usize>> {
    let inner = text[value.clone()]
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let (inner, mut start) = match inner {
        Some(inner) => (inner, value.start + 1),
        None => (&text[value.clone()], value.start),
    };
    let mut found = Vec::new();
    for item in inner.split(',') {
        let begin = start + (item.len() - item.trim_start().len());
        if !item.trim().is_empty() {
            found.push(begin..begin + item.trim().len());
        }
        start += item.len() + 1;
    }
    found
}

#[cfg(test)]
mod tests;
