//! The rows of a report: one for each float value of the original graph, and why the others have none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use qloupe_ir::Topology;
use qloupe_tensor::{DType, Tensor};

use crate::prepare::{Network, Prepared};
use crate::report::{Provenance, Skipped};
use crate::units::unit_outputs;

/// One row.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) op_type: String,
    pub(super) node: String,
    /// All nodes of the unit, where there are several.
    pub(super) unit: Vec<String>,
    pub(super) fused_into: Option<String>,
    pub(super) provenance: Vec<Provenance>,
    /// What the graph under test has instead.
    replaced_by: Option<String>,
    pub(super) shape: Vec<usize>,
    /// The dtype of the golden value; `None` until one was seen.
    dtype: Option<DType>,
}

impl Row {
    /// Takes over what is seen of an input: its shape in the first sample, its dtype.
    pub(super) fn see_input(&mut self, golden: &Tensor) {
        if self.shape.is_empty() {
            self.shape = golden.shape().to_vec();
        }
        self.dtype = Some(golden.dtype());
    }

    /// Why the row has no numbers; `is_empty`: nothing was compared.
    pub(super) fn reason(&self, is_empty: bool) -> Option<String> {
        if let Some(into) = &self.fused_into {
            return Some(format!("fused into \"{into}\""));
        }
        let instead = self.replaced_by.as_ref().map_or_else(
            || "replaced by a rewrite of the graph".to_owned(),
            |value| format!("replaced by \"{value}\": a rewrite of the graph left no value of this name"),
        );
        is_empty.then_some(instead)
    }
}

/// Shapes of all golden values, each of the first sample that has it.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes {
    pub(super) by_name: HashMap<String, Vec<usize>>,
    /// Which are known, by the place of the value in the golden program.
    known: Vec<bool>,
}

impl Shapes {
    /// True where the shape of the value at a place of the golden program is known.
    pub(super) fn has(&self, place: usize) -> bool {
        self.known.get(place) == Some(&true)
    }
}

/// What a golden run sees of a value whose shape is not known yet.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) place: usize,
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
}

/// All rows, in the order of the original graph.
#[derive(Debug)]
pub(super) struct Rows {
    rows: Vec<Row>,
    position: HashMap<String, usize>,
    shapes: Arc<Shapes>,
    skipped: Vec<Skipped>,
}

impl Rows {
    pub(super) fn new(network: &Network, prepared: &Prepared) -> Self {
        let dependent = network.program.data_dependent();
        let graph = &network.model.graph;
        let fused = fused_values(prepared);
        let known: BTreeSet<&str> = prepared.program.values().collect();
        let golden = Topology::new(graph).ok();
        let mut rows = Vec::new();
        let mut skipped = Vec::new();
        for input in graph.runtime_inputs() {
            rows.push(Row::new(&input.name, "Input", ""));
        }
        for node in &graph.nodes {
            for name in node.outputs.iter().filter(|name| !name.is_empty()) {
                if !dependent.contains(name) {
                    let reason = if network.program.constant(name).is_some() {
                        "constant"
                    } else {
                        "depends on shapes only"
                    };
                    skipped.push(Skipped {
                        name: name.clone(),
                        op_type: node.op_type.clone(),
                        reason: reason.to_owned(),
                    });
                    continue;
                }
                let mut row = Row::new(name, &node.op_type, node.label());
                if let Some((into, pass)) = fused.get(name) {
                    row.fused_into = Some(into.clone());
                    if let Some(pass) = pass {
                        let change = format!("fused into \"{into}\"");
                        row.provenance.push(Provenance {
                            pass: (*pass).to_owned(),
                            change,
                        });
                    }
                }
                if let Some(map) = prepared.maps.get(name) {
                    row.provenance.push(Provenance {
                        pass: map.pass.clone(),
                        change: map.describe(),
                    });
                }
                row.replaced_by = replaced_by(name, network, &known, &golden);
                rows.push(row);
            }
        }
        name_units(&mut rows);
        let position = rows
            .iter()
            .enumerate()
            .map(|(idx, row)| (row.name.clone(), idx))
            .collect();
        Self {
            rows,
            position,
            shapes: Arc::default(),
            skipped,
        }
    }

    /// How many there are, those of values that are not float too.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The place of the row of a value.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.position.get(name).copied()
    }

    pub(super) fn get_mut(&mut self, row_idx: usize) -> &mut Row {
        &mut self.rows[row_idx]
    }

    /// Takes over what a golden run saw of a value.
    pub(super) fn learn(&mut self, seen: Seen) {
        let Seen {
            place,
            name,
            dtype,
            shape,
        } = seen;
        if self.shapes.has(place) {
            return;
        }
        if let Some(row_idx) = self.position(&name) {
            let row = &mut self.rows[row_idx];
            if row.shape.is_empty() {
                row.shape.clone_from(&shape);
            }
            row.dtype = Some(dtype);
        }
        let shapes = Arc::make_mut(&mut self.shapes);
        shapes.known.resize(shapes.known.len().max(place + 1), false);
        shapes.known[place] = true;
        shapes.by_name.insert(name, shape);
    }

    /// Bytes of the largest golden value, as float32.
    pub(super) fn largest_bytes(&self) -> usize {
        let sizes = self
            .shapes
            .by_name
            .values()
            .map(|shape| 4 * shape.iter().product::<usize>());
        sizes.max().unwrap_or(0)
    }

    pub(super) fn shapes(&self) -> &Arc<Shapes> {
        &self.shapes
    }

    /// The rows of float values that were computed, with their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Row)> {
        let rows = self.rows.iter().enumerate();
        rows.filter(|(_, row)| row.dtype == Some(DType::Float32))
    }

    /// The values without a row, with the reason.
    pub(super) fn skipped(&self) -> Vec<Skipped> {
        let others = self
            .rows
            .iter()
            .filter(|row| row.dtype != Some(DType::Float32))
            .map(|row| Skipped {
                name: row.name.clone(),
                op_type: row.op_type.clone(),
                reason: row.dtype.map_or_else(
                    || "no output needs it".to_owned(),
                    |dtype| format!("{dtype} value"),
                ),
            });
        self.skipped.iter().cloned().chain(others).collect()
    }
}

impl Row {
    fn new(name: &str, op_type: &str, node: &str) -> Self {
        Self {
            name: name.to_owned(),
            op_type: op_type.to_owned(),
            node: node.to_owned(),
            unit: Vec::new(),
            fused_into: None,
            provenance: Vec::new(),
            replaced_by: None,
            shape: Vec::new(),
            dtype: None,
        }
    }
}

/// The first value after one that the graph under test does not have which it does have.
fn replaced_by(
    name: &str,
    network: &Network,
    known: &BTreeSet<&str>,
    golden: &Option<Topology>,
) -> Option<String> {
    let mut at = name;
    while !known.contains(at) {
        let next = *golden.as_ref()?.consumers(at).first()?;
        at = network.model.graph.nodes[next].output(0)?;
    }
    (at != name).then(|| at.to_owned())
}

/// Names all nodes of a unit at the row of its value: those whose values are fused into it, and its own.
fn name_units(rows: &mut [Row]) {
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows.iter() {
        if let Some(into) = &row.fused_into {
            members.entry(into.clone()).or_default().push(row.node.clone());
        }
    }
    for row in rows.iter_mut() {
        if let Some(mut nodes) = members.remove(&row.name) {
            nodes.push(row.node.clone());
            nodes.dedup();
            row.unit = nodes;
        }
    }
}

/// Values that the target never has: inside a unit, or removed by a pass (then with its name).
fn fused_values(prepared: &Prepared) -> BTreeMap<String, (String, Option<&'static str>)> {
    let mut inside: BTreeMap<String, (String, Option<&'static str>)> = BTreeMap::new();
    for unit in &prepared.units {
        let leaving: BTreeSet<&str> = unit_outputs(&prepared.program, &prepared.topology, unit)
            .into_iter()
            .collect();
        let Some(last) = leaving.iter().next_back() else {
            continue;
        };
        // A value that a rewrite inserted stands for one of the original graph.
        let into = prepared.maps.get(*last).map_or(*last, |map| map.source.as_str());
        for &idx in &unit.node_idxs {
            for name in prepared.model.graph.nodes[idx]
                .outputs
                .iter()
                .filter(|n| !leaving.contains(n.as_str()))
            {
                inside.insert(name.clone(), (into.to_owned(), None));
            }
        }
    }
    for fused in &prepared.fused {
        // The value it was folded into may itself be inside a unit.
        let into = inside
            .get(&fused.into)
            .map_or_else(|| fused.into.clone(), |(into, _)| into.clone());
        inside.insert(fused.value.clone(), (into, Some(fused.pass)));
    }
    inside
}
