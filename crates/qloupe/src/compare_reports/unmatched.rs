//! Layers and outputs that only one report has, and which of the other's they might be.

use std::collections::BTreeSet;

use qloupe_ir::nearest_name;

use crate::report::Report;

/// A place of one report that the other does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// Its name.
    pub name: String,
    /// True for a network output.
    pub is_output: bool,
    /// The place with the nearest name among those that only the other report has.
    pub nearest: Option<String>,
}

/// What only A has, and what only B has.
pub(super) fn find(a: &Report, b: &Report) -> (Vec<Unmatched>, Vec<Unmatched>) {
    let (places_a, places_b) = (places(a), places(b));
    let names = |places: &[(&str, bool)]| places.iter().map(|(name, _)| (*name).to_owned()).collect();
    let (known_a, known_b): (BTreeSet<String>, BTreeSet<String>) = (names(&places_a), names(&places_b));
    (
        only(&places_a, &known_b, &known_a),
        only(&places_b, &known_a, &known_b),
    )
}

/// The names of layers and outputs in their order, and which are outputs.
fn places(report: &Report) -> Vec<(&str, bool)> {
    let outputs: BTreeSet<&str> = report.outputs.iter().map(|o| o.name.as_str()).collect();
    let layers = report.layers.iter().map(|l| l.name.as_str());
    let mut seen = BTreeSet::new();
    let all = layers.chain(report.outputs.iter().map(|o| o.name.as_str()));
    all.filter(|name| seen.insert(*name))
        .map(|name| (name, outputs.contains(name)))
        .collect()
}

fn only(own: &[(&str, bool)], other: &BTreeSet<String>, known: &BTreeSet<String>) -> Vec<Unmatched> {
    let candidates: Vec<&str> = other.difference(known).map(String::as_str).collect();
    let is_only = |(name, _): &&(&str, bool)| !other.contains(*name);
    own.iter()
        .filter(is_only)
        .map(|&(name, is_output)| Unmatched {
            name: name.to_owned(),
            is_output,
            nearest: nearest_name(name, candidates.iter().copied()).map(str::to_owned),
        })
        .collect()
}
