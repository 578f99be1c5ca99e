//! What a target does with each unit: integers, float16 or float32, what the changes between them cost, and where
//! to cut the network so that the rest runs in integers.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::Fact;
use qloupe_tensor::DType;

use super::macs::{node_macs, product};
use crate::prepare::Prepared;
use crate::targets::{Support, Target};
use crate::units::{unit_outputs, unit_support};

/// A weighted unit behind a fallback belongs to the post-processing when it has at most this share of all
/// multiply-accumulates.
const MAX_TAIL_SHARE: f64 = 0.001;

/// What a unit computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compute {
    /// 8-bit integers.
    Int8,
    /// float16.
    Fp16,
    /// float32.
    Float,
}

impl Compute {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 3] = [Self::Int8, Self::Fp16, Self::Float];

    /// The name in texts and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Fp16 => "fp16",
            Self::Float => "float32",
        }
    }

    pub(super) fn of(support: Support) -> Self {
        match support {
            Support::Int8(_) | Support::Int8Exact | Support::Int8Weights => Self::Int8,
            // What the arithmetic is done in.
            Support::WeightOnly | Support::Fp16 => Self::Fp16,
            Support::Float => Self::Float,
        }
    }
}

/// One unit on the target.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitPlacement {
    /// Its operators, `Conv+Relu`.
    pub label: String,
    /// Its first output.
    pub output: String,
    /// What it computes with.
    pub compute: Compute,
    /// Multiply-accumulates; 0 where there are none or a shape is open.
    pub macs: u64,
    /// The operators of its nodes, for the table by operator.
    pub(super) op_types: Vec<String>,
}

/// A part at the end of the network that is better done on the CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The values that become the outputs.
    pub outputs: Vec<String>,
    /// How many units lie behind them.
    pub n_units: usize,
    /// The operators behind them that do not run in integers.
    pub fallbacks: BTreeMap<String, usize>,
}

/// What a target does with a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The target's id.
    pub target: String,
    /// What a reader has to know about the target.
    pub note: Option<&'static str>,
    /// The units with float data, in execution order.
    pub units: Vec<UnitPlacement>,
    /// Values that are dequantized because a unit that is not integer reads them, and the other way round.
    pub n_casts: usize,
    /// Elements of these values at batch 1; absent when a shape is not known.
    pub cast_elements: Option<u64>,
    /// Where to cut.
    pub cut: Option<Cut>,
}

impl Placement {
    /// Units and multiply-accumulates of a precision.
    pub fn share(&self, compute: Compute) -> (usize, u64) {
        let units = self.units.iter().filter(|u| u.compute == compute);
        units.fold((0, 0), |(n, macs), unit| (n + 1, macs + unit.macs))
    }

    /// Multiply-accumulates of all units.
    pub fn macs(&self) -> u64 {
        self.units.iter().map(|u| u.macs).sum()
    }
}

/// Places the units of a prepared network; `facts` are those of its graph.
pub(super) fn place(prepared: &Prepared, facts: &BTreeMap<String, Fact>, target: &Target) -> Placement {
    let places: Vec<Place<'_>> = placed_units(prepared, facts, target);
    let (n_casts, cast_elements) = count_casts(&places, facts);
    let cut = find_cut(prepared, &places);
    Placement {
        target: target.id.to_owned(),
        note: target.note,
        units: places.into_iter().map(|place| place.placement).collect(),
        n_casts,
        cast_elements,
        cut,
    }
}

struct Place<'a> {
    placement: UnitPlacement,
    support: Support,
    has_weight: bool,
    main_op: &'a str,
    /// Data values that it reads from outside.
    inputs: BTreeSet<&'a str>,
    outputs: Vec<&'a str>,
}

fn placed_units<'a>(
    prepared: &'a Prepared,
    facts: &BTreeMap<String, Fact>,
    target: &Target,
) -> Vec<Place<'a>> {
    let nodes = &prepared.program.graph().nodes;
    let data = prepared.program.data_dependent();
    let is_float = |name: &str| {
        data.contains(name)
            && facts
                .get(name)
                .and_then(|f| f.dtype)
                .is_none_or(|dtype| dtype == DType::Float32)
    };
    let mut places = Vec::new();
    for unit in &prepared.units {
        let outputs: Vec<&str> = unit_outputs(&prepared.program, &prepared.topology, unit);
        let Some(output) = outputs.iter().find(|name| is_float(name)) else {
            continue;
        };
        let inside: BTreeSet<&str> = unit
            .node_idxs
            .iter()
            .flat_map(|&idx| &nodes[idx].outputs)
            .map(String::as_str)
            .collect();
        let inputs = unit
            .node_idxs
            .iter()
            .flat_map(|&idx| &nodes[idx].inputs)
            .map(String::as_str);
        let support = unit_support(unit, &prepared.program, target);
        places.push(Place {
            placement: UnitPlacement {
                label: unit.label(&prepared.program),
                output: (*output).to_owned(),
                compute: Compute::of(support),
                macs: unit
                    .node_idxs
                    .iter()
                    .map(|&idx| node_macs(&nodes[idx], facts).known())
                    .sum(),
                op_types: unit
                    .node_idxs
                    .iter()
                    .map(|&idx| nodes[idx].op_type.clone())
                    .collect(),
            },
            support,
            has_weight: !unit.weights.is_empty(),
            main_op: &nodes[unit.main_idx].op_type,
            inputs: inputs
                .filter(|name| !inside.contains(name) && is_float(name))
                .collect(),
            outputs,
        });
    }
    places
}

/// Values that change between integers and floats on their way.
fn count_casts(places: &[Place<'_>], facts: &BTreeMap<String, Fact>) -> (usize, Option<u64>) {
    let mut n_casts = 0;
    let mut n_elements = Some(0);
    for producer in places {
        let is_integer = producer.placement.compute == Compute::Int8;
        for output in &producer.outputs {
            let changes = places
                .iter()
                .any(|c| c.inputs.contains(output) && (c.placement.compute == Compute::Int8) != is_integer);
            if changes {
                n_casts += 1;
                let shape = facts.get(*output).and_then(Fact::fixed_shape);
                n_elements = n_elements
                    .zip(shape.and_then(|s| product(&s)))
                    .map(|(n, more)| n + more);
            }
        }
    }
    (n_casts, n_elements)
}

/// The units at the end that no heavy integer unit follows, if some of them are not integer.
fn find_cut(prepared: &Prepared, places: &[Place<'_>]) -> Option<Cut> {
    let is_fallback = |place: &Place<'_>| place.placement.compute != Compute::Int8;
    let total: u64 = places.iter().map(|p| p.placement.macs).sum();
    let mut producer: BTreeMap<&str, usize> = BTreeMap::new();
    let mut after_fallback = vec![false; places.len()];
    for (idx, place) in places.iter().enumerate() {
        let before = place.inputs.iter().filter_map(|name| producer.get(name));
        after_fallback[idx] = before
            .into_iter()
            .any(|&p| after_fallback[p] || is_fallback(&places[p]));
        producer.extend(place.outputs.iter().map(|&name| (name, idx)));
    }
    let mut in_tail = vec![false; places.len()];
    for (idx, place) in places.iter().enumerate().rev() {
        let followed = places
            .iter()
            .enumerate()
            .skip(idx + 1)
            .any(|(next, p)| !in_tail[next] && place.outputs.iter().any(|o| p.inputs.contains(o)));
        in_tail[idx] = !followed && may_be_cut(place, after_fallback[idx], total);
    }
    let tail: Vec<&Place<'_>> = places
        .iter()
        .zip(&in_tail)
        .filter(|(_, t)| **t)
        .map(|(p, _)| p)
        .collect();
    let mut fallbacks = BTreeMap::new();
    for place in tail.iter().filter(|p| is_fallback(p)) {
        *fallbacks.entry(place.main_op.to_owned()).or_insert(0) += 1;
    }
    let heavy_before = places
        .iter()
        .zip(&in_tail)
        .any(|(p, t)| !t && p.has_weight && !is_fallback(p));
    if fallbacks.is_empty() || !heavy_before {
        return None;
    }
    let read_by_tail: BTreeSet<&str> = tail.iter().flat_map(|p| p.inputs.iter().copied()).collect();
    let network_outputs: BTreeSet<&str> = prepared.program.graph().output_names().collect();
    let before = places
        .iter()
        .zip(&in_tail)
        .filter(|(_, t)| !**t)
        .flat_map(|(p, _)| &p.outputs);
    let cut = before.filter(|&&name| read_by_tail.contains(name) || network_outputs.contains(name));
    Some(Cut {
        outputs: cut.map(|&name| name.to_owned()).collect(),
        n_units: tail.len(),
        fallbacks,
    })
}

fn may_be_cut(place: &Place<'_>, after_fallback: bool, total: u64) -> bool {
    match place.support {
        Support::Int8Exact | Support::Int8Weights | Support::WeightOnly | Support::Fp16 | Support::Float => {
            !place.has_weight || place.placement.macs == 0 || is_small(place.placement.macs, total)
        }
        Support::Int8(_) if !place.has_weight => after_fallback,
        Support::Int8(_) => after_fallback && is_small(place.placement.macs, total),
    }
}

#[expect(clippy::as_conversions, reason = "a share needs few digits")]
fn is_small(macs: u64, total: u64) -> bool {
    macs as f64 <= total as f64 * MAX_TAIL_SHARE
}
