//! What an analysis knows of each value of the program under test, by its place in the program.

use std::collections::{BTreeSet, HashMap};

use qloupe_exec::{QuantizedProgram, Stored, Value};

use super::golden::with_numbers;
use super::rows::Rows;

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
}

impl Places {
    pub(super) fn new(
        program: &QuantizedProgram,
        rows: &Rows,
        half: &BTreeSet<String>,
        (inputs, outputs): (&BTreeSet<&str>, &[&str]),
    ) -> Self {
        let values = program.values();
        let mut uses = vec![0; values.len()];
        for unit_idx in 0..program.units().len() {
            let (read, written) = program.places(unit_idx);
            read.iter().chain(written).for_each(|&place| uses[place] += 1);
        }
        let output = |name: &String| outputs.iter().position(|output| output == name);
        Self {
            uses,
            rows: values.iter().map(|name| rows.position(name)).collect(),
            half: values.iter().map(|name| half.contains(name)).collect(),
            is_input: values.iter().map(|name| inputs.contains(name.as_str())).collect(),
            outputs: values.iter().map(output).collect(),
            places: values.iter().cloned().zip(0..).collect(),
        }
    }

    /// The place of a value.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// True for a value that some unit reads or writes.
    pub(super) fn is_used(&self, name: &str) -> bool {
        self.place(name).is_some_and(|place| self.uses[place] > 0)
    }

    /// A golden value in the form that the graph under test has it in.
    pub(super) fn in_form(&self, program: &QuantizedProgram, place: usize, golden: &Value) -> Value {
        let Some(tensor) = golden.as_tensor() else {
            return golden.clone();
        };
        let rounded = if self.half[place] { half(tensor) } else { None };
        program
            .to_form_at(place, rounded.as_ref().unwrap_or(tensor))
            .into()
    }
}

/// A float32 value in float16.
fn half(stored: &Stored) -> Option<Stored> {
    let numbers = stored.physical().as_slice::<f32>()?;
    let half = numbers.iter().map(|&v| half::f16::from_f32(v)).collect();
    Some(with_numbers::<half::f16>(stored, half))
}
