//! What an analysis knows of each value of the program under test, by its place in the program.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use qloupe_exec::{Program, QuantizedProgram, Stored, Value};

use super::Few;
use super::golden::{float32, with_numbers};
use super::rows::Rows;
use crate::value_map::ValueMap;

/// Facts about values, by their places in [`QuantizedProgram::values`].
#[derive(Debug)]
pub(super) struct Places {
    places: HashMap<String, usize>,
    /// How many units read or write the value.
    pub(super) uses: Vec<usize>,
    /// The place of its row.
    pub(super) rows: Vec<Option<usize>>,
    /// The graph under test holds it in float16 itself.
    pub(super) half: Vec<bool>,
    /// Whether it is an input of the network.
    pub(super) is_input: Vec<bool>,
    /// Its place among the outputs of the network.
    pub(super) outputs: Vec<Option<usize>>,
    /// For each unit whose output is a permutation of an input: the places of their rows, if both have one and are told in the
    /// units of the original graph as they are.
    pub(super) permuted: Vec<Option<(usize, usize)>>,
    /// How it is told in the units of the original graph, where that is another.
    pub(super) maps: Vec<Option<ValueMap>>,
    /// For each golden value, by its place in the golden program: the places that it serves, as itself and as what a rewrite
    /// inserted values for, and that some unit reads or writes.
    pub(super) served: Vec<Few<usize>>,
}

impl Places {
    pub(super) fn new(
        (golden, program): (&Program, &QuantizedProgram),
        rows: &Rows,
        half: &BTreeSet<String>,
        (inputs, outputs): (&BTreeSet<&str>, &[&str]),
        maps: &BTreeMap<String, ValueMap>,
    ) -> Self {
        let values = program.values();
        let mut uses = vec![0; values.len()];
        for unit_idx in 0..program.units().len() {
            let (read, written) = program.places(unit_idx);
            read.iter().chain(written).for_each(|&place| uses[place] += 1);
        }
        let mut inserted: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, name) in values.iter().enumerate() {
            if let Some(map) = maps.get(name).filter(|map| map.source != *name) {
                inserted.entry(map.source.clone()).or_default().push(place);
            }
        }
        let places: HashMap<String, usize> = values.iter().cloned().zip(0..).collect();
        let served = |name: &str| {
            let inserted = inserted.get(name).into_iter().flatten();
            let served = places.get(name).into_iter().chain(inserted).copied();
            served.filter(|&place| uses[place] > 0).collect()
        };
        let served = golden.values().map(served).collect();
        let row = |place: usize| {
            let name = &values[place];
            rows.position(name).filter(|_| !maps.contains_key(name))
        };
        let permuted = |unit_idx: usize| {
            let ([read, ..], &[written]) = program.places(unit_idx) else {
                return None;
            };
            let permutes = program.units()[unit_idx].only_permutes();
            permutes.then(|| Some((row(written)?, row(*read)?))).flatten()
        };
        let output = |name: &String| outputs.iter().position(|output| output == name);
        Self {
            uses,
            rows: values.iter().map(|name| rows.position(name)).collect(),
            half: values.iter().map(|name| half.contains(name)).collect(),
            is_input: values.iter().map(|name| inputs.contains(name.as_str())).collect(),
            outputs: values.iter().map(output).collect(),
            maps: values.iter().map(|name| maps.get(name).cloned()).collect(),
            permuted: (0..program.units().len()).map(permuted).collect(),
            served,
            places,
        }
    }

    /// The place of a value.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// A value of the graph under test as real numbers in the units of the original graph.
    pub(super) fn to_real(&self, program: &QuantizedProgram, place: usize, value: &Stored) -> Stored {
        let real = float32(program.to_float(&program.values()[place], value));
        self.maps[place]
            .as_ref()
            .map_or(real.clone(), |map| map.to_original(&real))
    }

    /// A golden value in the form that the graph under test has it in.
    pub(super) fn in_form(&self, program: &QuantizedProgram, place: usize, golden: &Value) -> Value {
        let Some(tensor) = golden.as_tensor() else {
            return golden.clone();
        };
        let rounded = if self.half[place] { half(tensor) } else { None };
        let rewritten = self.maps[place].as_ref().map(|map| map.to_rewritten(tensor));
        program
            .to_form_at(place, rounded.as_ref().or(rewritten.as_ref()).unwrap_or(tensor))
            .into()
    }
}

/// A float32 value in float16.
fn half(stored: &Stored) -> Option<Stored> {
    let numbers = stored.physical().as_slice::<f32>()?;
    let half = numbers.iter().map(|&v| half::f16::from_f32(v)).collect();
    Some(with_numbers::<half::f16>(stored, half))
}
