//! Ranges that other tools calibrated: read from their files and matched with the values of a model. A new format is a
//! file and two lines here.

pub(crate) mod names;
mod onnxruntime;
pub(crate) mod places;
pub(crate) mod rknn;
mod tensorrt;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use qloupe_tensor::Range;

use crate::Error;
use crate::prepare::Prepared;
pub(crate) use names::original;
use places::Places;

/// A format of calibrated ranges.
pub trait RangeFormat: Sync {
    /// The id.
    fn id(&self) -> &'static str;
    /// One line for lists.
    fn title(&self) -> &'static str;
    /// True for a text that is meant to be of this format, well-formed or not.
    fn recognizes(&self, text: &str) -> bool;
    /// True when the file is about a graph that a converter rewrote: names have suffixes, and a value inside a unit (the
    /// convolution before a Relu) has the range of the unit's output.
    fn is_of_converted_graph(&self) -> bool {
        false
    }
    /// Reads the text.
    ///
    /// # Errors
    /// `<place in the file>: <what is wrong>, expected X, got Y`.
    fn parse(&self, text: &str) -> Result<FileRanges, String>;
}

/// Every format, by id.
pub const ALL: &[&dyn RangeFormat] = &[&onnxruntime::OnnxRuntime, &rknn::Rknn, &tensorrt::TensorRt];

/// What a file says, by the names in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileRanges {
    /// Ranges, in the file's order.
    pub ranges: Vec<(String, Range)>,
    /// Layers that a person gave a type.
    pub layers: Vec<(String, String)>,
    /// The types that the tool chose.
    pub dtypes: Vec<(String, String)>,
}

/// What a file says, by the values of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportedRanges {
    /// The file.
    pub path: PathBuf,
    /// The id of its format.
    pub format: &'static str,
    /// Value to range.
    pub ranges: BTreeMap<String, Range>,
    /// Names of the file that no value has, in its order.
    pub unmatched: Vec<String>,
    /// Value to the type that a person gave its layer: `custom_quantize_layers` of rknn-toolkit2.
    pub custom_quantize_layers: BTreeMap<String, String>,
    /// Value to the type that the tool chose.
    pub dtypes: BTreeMap<String, String>,
    is_of_converted_graph: bool,
}

/// Reads ranges. The format is found out from the content; `known` are the values of the model.
///
/// # Errors
/// [`Error::File`] with the place in the file: unreadable, no known format, malformed.
pub fn read_ranges(path: &Path, known: &[&str]) -> Result<ImportedRanges, Error> {
    let wrong = |what: String| Error::File {
        path: path.to_owned(),
        what,
    };
    let text = read_text(path)?;
    let format = ALL
        .iter()
        .find(|format| format.recognizes(&text))
        .ok_or_else(|| {
            let choices: Vec<&str> = ALL.iter().map(|format| format.title()).collect();
            let start: String = text.chars().take(30).collect();
            wrong(format!(
                "unknown format of ranges, expected one of {}, got {start:?}",
                choices.join("; ")
            ))
        })?;
    let file = format.parse(&text).map_err(wrong)?;
    Ok(matched(path, *format, file, known))
}

/// Reads a text file.
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::File {
        path: path.to_owned(),
        what: format!("cannot be read: {error}"),
    })
}

fn matched(path: &Path, format: &dyn RangeFormat, file: FileRanges, known: &[&str]) -> ImportedRanges {
    let known: BTreeSet<&str> = known.iter().copied().collect();
    let find = |name: &str| match known.get(name) {
        Some(found) => Some((*found, 0)),
        None if format.is_of_converted_graph() => original(name, &known),
        None => None,
    };
    let mut imported = ImportedRanges {
        path: path.to_owned(),
        format: format.id(),
        ranges: BTreeMap::new(),
        unmatched: Vec::new(),
        custom_quantize_layers: BTreeMap::new(),
        dtypes: BTreeMap::new(),
        is_of_converted_graph: format.is_of_converted_graph(),
    };
    // Of several names of one value the nearest counts, the first of those.
    let mut nearest: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, range) in &file.ranges {
        match find(name) {
            Some((value, distance)) if nearest.get(value).is_none_or(|known| distance < *known) => {
                nearest.insert(value, distance);
                imported.ranges.insert(value.to_owned(), *range);
            }
            Some(_) => {}
            None => imported.unmatched.push(name.clone()),
        }
    }
    for (name, dtype) in &file.layers {
        match find(name) {
            Some((value, _)) => {
                imported
                    .custom_quantize_layers
                    .insert(value.to_owned(), dtype.clone());
            }
            None if !imported.unmatched.contains(name) => imported.unmatched.push(name.clone()),
            None => {}
        }
    }
    let mut nearest: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, dtype) in &file.dtypes {
        if let Some((value, distance)) = find(name)
            && nearest.get(value).is_none_or(|known| distance < *known)
        {
            nearest.insert(value, distance);
            imported.dtypes.insert(value.to_owned(), dtype.clone());
        }
    }
    imported
}

/// The values that a file of ranges may name: those of the model, and those that only its prepared form has.
pub fn known_values<'m>(graphs: &[&'m qloupe_ir::Graph]) -> Vec<&'m str> {
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for graph in graphs {
        known.extend(graph.inputs.iter().map(|input| input.name.as_str()));
        let outputs = graph.nodes.iter().flat_map(|node| &node.outputs);
        known.extend(outputs.map(String::as_str).filter(|name| !name.is_empty()));
    }
    known.into_iter().collect()
}

impl ImportedRanges {
    /// The layers that a person gave a type, as values of the plan of a prepared graph: of a value that a unit hides, its
    /// output.
    pub fn planned_layers(&self, prepared: &Prepared) -> BTreeMap<String, String> {
        let places = Places::new(prepared);
        let layers = self.custom_quantize_layers.iter();
        let planned = layers.map(|(name, dtype)| {
            let value = places.output_of(name).unwrap_or(name);
            (value.to_owned(), dtype.clone())
        });
        planned.collect()
    }

    /// Puts the ranges in the place of calibrated ones; values without an imported range keep theirs. What the user
    /// should know, in lines.
    pub fn apply(&self, prepared: &Prepared, ranges: &mut BTreeMap<String, Range>) -> Vec<String> {
        let places = Places::new(prepared);
        let mut replaced: BTreeSet<&str> = BTreeSet::new();
        let mut set =
            |value: &'_ str, range: Range| ranges.get_mut(value).map(|known| *known = range).is_some();
        for (name, range) in &self.ranges {
            if places.is_planned(name) && set(name, *range) {
                replaced.insert(name);
            }
        }
        for (name, range) in self.ranges.iter().filter(|_| self.is_of_converted_graph) {
            let output = places.output_of(name).filter(|output| !replaced.contains(output));
            if let Some(output) = output
                && !self.ranges.contains_key(output)
                && set(output, *range)
            {
                replaced.insert(output);
            }
        }
        let kept = places.values().filter(|value| ranges.contains_key(*value));
        let kept: Vec<&str> = kept.filter(|value| !replaced.contains(value)).collect();
        self.notes(replaced.len(), &kept)
    }

    fn notes(&self, n_replaced: usize, kept: &[&str]) -> Vec<String> {
        let file = self.path.display();
        let mut notes = vec![format!("{file} ({}): ranges of {n_replaced} values", self.format)];
        if !kept.is_empty() {
            notes.push(format!(
                "{file}: {} values keep the calibrated range: {}",
                kept.len(),
                kept.join(", ")
            ));
        }
        if !self.unmatched.is_empty() {
            notes.push(format!(
                "{file}: {} names are of no value of the model: {}",
                self.unmatched.len(),
                self.unmatched.join(", ")
            ));
        }
        if !self.custom_quantize_layers.is_empty() {
            let layers = self.custom_quantize_layers.iter();
            let layers: Vec<String> = layers.map(|(name, dtype)| format!("{name} {dtype}")).collect();
            notes.push(format!(
                "{file}: {} custom_quantize_layers are not taken over, set them in the plan: {}",
                layers.len(),
                layers.join(", ")
            ));
        }
        notes
    }
}

/// The lines of a text with their numbers, from 1.
fn numbered_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(idx, line)| (idx + 1, line))
}

#[cfg(test)]
mod tests;
