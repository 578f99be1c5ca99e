//! What an analysis knows of each value of the program under test, by its place in the program.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use qloupe_exec::{QuantizedProgram, Stored, Value};

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
    /// How it is told in the units of the original graph, where that is another.
    pub(super) maps: Vec<Option<ValueMap>>,
    /// The places of values that a rewrite inserted, by the original value that they are made of.
    inserted: HashMap<String, Vec<usize>>,
}

impl Places {
    pub(super) fn new(
        program: &QuantizedProgram,
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
        let output = |name: &String| outputs.iter().position(|output| output == name);
        Self {
            uses,
            rows: values.iter().map(|name| rows.position(name)).collect(),
            half: values.iter().map(|name| half.contains(name)).collect(),
            is_input: values.iter().map(|name| inputs.contains(name.as_str())).collect(),
            outputs: values.iter().map(output).collect(),
            maps: values.iter().map(|name| maps.get(name).cloned()).collect(),
            inserted,
            places: values.iter().cloned().zip(0..).collect(),
        }
    }

    /// The place of a value.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// The places that a golden value serves, and that some unit reads or writes.
    pub(super) fn served(&self, name: &str) -> impl Iterator<Item = usize> {
        let inserted = self.inserted.get(name).into_iter().flatten().copied();
        let served = self.place(name).into_iter().chain(inserted);
        served.filter(|&place| self.uses[place] > 0)
    }

    /// True for a golden value that serves some place.
    pub(super) fn is_used(&self, name: &str) -> bool {
        self.served(name).next().is_some()
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
