//! The sources of error of a plan: network inputs and units.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::{Assignment, Cast, Form, MOVING_OPERATORS, Mode, QuantizedProgram, UnitCompute};
use qloupe_ir::Topology;
use qloupe_tensor::Tensor;

use super::split::Split;
use super::twin::{FloatTwin, source_of};
use crate::Error;
use crate::one_unit::{Changes, OneUnit};
use crate::plan::{Precision, QuantPlan};
use crate::prepare::{Network, Prepared};
use crate::units::{UnitGroup, unit_outputs};

/// Operators beside [`MOVING_OPERATORS`] whose results are elements of what they read: on numbers of a grid they make no
/// error of their own.
const CHOOSING: &[&str] = &["Concat", "GlobalMaxPool", "MaxPool", "Relu"];

/// What sources are compiled from.
pub(super) struct Context<'a> {
    pub(super) network: &'a Network,
    pub(super) prepared: &'a Prepared,
    pub(super) plan: &'a QuantPlan,
    /// The plan for every unit.
    pub(super) assignment: &'a Assignment,
    /// Who produces and consumes what in the user's graph.
    pub(super) topology: &'a Topology,
    /// Constants of the user's model where those of the graph under test differ.
    pub(super) reference: &'a BTreeMap<String, Tensor>,
}

impl Context<'_> {
    /// The forms of what a unit reads and writes.
    pub(super) fn forms_of(&self, unit: &UnitGroup) -> BTreeMap<String, Form> {
        let nodes = unit
            .node_idxs
            .iter()
            .map(|&idx| &self.prepared.program.graph().nodes[idx]);
        let names = nodes.flat_map(|node| {
            node.used_values()
                .into_iter()
                .chain(node.outputs.iter().map(String::as_str))
        });
        let form = |name: &str| Some((name.to_owned(), self.assignment.forms.get(name)?.clone()));
        names.filter_map(form).collect()
    }
}

/// Something that makes an error of its own.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The row of the report it is told at.
    pub(super) name: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Input,
    /// The place of the unit.
    Unit(usize),
}

/// A source, ready to run with it alone and without it.
pub(super) enum Variant {
    /// A network input with its form.
    Input(String, Form),
    /// A unit on real numbers: with its own error only, and without any.
    Unit {
        own: Box<QuantizedProgram>,
        float: Box<FloatTwin>,
    },
}

/// The network inputs and units that a plan does not leave in float, in execution order.
pub(super) fn sources(network: &Network, prepared: &Prepared, plan: &QuantPlan) -> Vec<Source> {
    let forms = plan.forms();
    let is_lossy = |name: &str| matches!(forms.get(name), Some(Form::Quantized(_) | Form::Fp16 { .. }));
    let inputs = network.model.graph.runtime_inputs();
    let mut sources: Vec<Source> = inputs
        .iter()
        .filter(|input| is_lossy(&input.name))
        .map(|input| Source {
            name: input.name.clone(),
            kind: Kind::Input,
        })
        .collect();
    let follows = followers(prepared, plan);
    let specs = prepared.assignment(plan).units;
    for (idx, (unit, spec)) in prepared.units.iter().zip(&specs).enumerate() {
        let outputs = unit_outputs(&prepared.program, &prepared.topology, unit);
        let Some(&first) = outputs.first() else { continue };
        let makes_error = spec.compute != UnitCompute::Float || outputs.iter().any(|name| is_lossy(name));
        if makes_error && !follows.contains(&idx) {
            sources.push(Source {
                name: source_of(prepared, first).to_owned(),
                kind: Kind::Unit(idx),
            });
        }
    }
    sources
}

impl Source {
    /// What parts its own error into causes; `None` for an input, of which nothing is compiled.
    ///
    /// # Errors
    /// Parameters that do not fit.
    pub(super) fn split(&self, context: &Context<'_>) -> Result<Option<Split>, Error> {
        match self.kind {
            Kind::Input => Ok(None),
            Kind::Unit(idx) => Split::new(context, idx).map(Some),
        }
    }

    /// # Errors
    /// Parameters that do not fit.
    pub(super) fn compile(&self, context: &Context<'_>) -> Result<Variant, Error> {
        let Context {
            network,
            prepared,
            assignment,
            ..
        } = *context;
        let idx = match self.kind {
            Kind::Input => {
                let form = assignment.forms.get(&self.name).cloned().unwrap_or(Form::FLOAT);
                return Ok(Variant::Input(self.name.clone(), form));
            }
            Kind::Unit(idx) => idx,
        };
        let unit = &prepared.units[idx];
        let mut spec = assignment.units[idx].clone();
        let mut forms = context.forms_of(unit);
        let written: BTreeSet<&str> = unit_outputs(&prepared.program, &prepared.topology, unit)
            .into_iter()
            .collect();
        for (name, form) in &mut forms {
            if !written.contains(name.as_str()) {
                spec.float_inputs.extend(keep_real(name, form));
            }
        }
        let one = OneUnit {
            network,
            prepared,
            unit,
        };
        Ok(Variant::Unit {
            own: Box::new(one.under_plan(&spec, forms, Mode::FakeQuant, &Changes::default())?),
            float: Box::new(FloatTwin::new(context, unit)?),
        })
    }
}

/// Makes a quantized value one of real numbers that quantized units read as they are; gives its name. Its scale stays
/// known: that of a bias comes from it.
fn keep_real(name: &str, form: &mut Form) -> Option<String> {
    let Form::Quantized(params) = form else {
        return None;
    };
    let cast = Some(Cast::Fixed(params.clone()));
    *form = Form::Float { cast };
    Some(name.to_owned())
}

/// Units without an error of their own, by place: they move numbers from a grid to the same grid.
fn followers(prepared: &Prepared, plan: &QuantPlan) -> BTreeSet<usize> {
    let forms = plan.forms();
    let graph = prepared.program.graph();
    let follows = |idx: &usize| {
        let unit = &prepared.units[*idx];
        let [node_idx] = unit.node_idxs[..] else {
            return false;
        };
        let node = &graph.nodes[node_idx];
        let outputs = unit_outputs(&prepared.program, &prepared.topology, unit);
        let read = node
            .inputs
            .iter()
            .filter(|name| prepared.program.constant(name).is_none());
        let mut read = read.filter_map(|name| forms.get(name));
        let shares = |name: &&str| {
            let own = plan.value(name).map(|value| &value.precision);
            matches!(own, Some(Precision::SharedWith(_)))
        };
        let op_type = node.op_type.as_str();
        let moves = MOVING_OPERATORS.contains(&op_type) || CHOOSING.contains(&op_type);
        let is_same = |form: &Form| outputs.iter().all(|name| forms.get(*name) == Some(form));
        !outputs.is_empty()
            && (outputs.iter().all(shares) || (moves && node.domain.is_empty() && read.all(is_same)))
    };
    (0..prepared.units.len()).filter(follows).collect()
}

/// What runs under a plan, with real numbers after units that only move them: so nothing is rounded twice, and what a
/// source does not round arrives unrounded.
pub(super) fn base_assignment(prepared: &Prepared, plan: &QuantPlan) -> Assignment {
    let mut assignment = prepared.assignment(plan);
    let mut real: BTreeSet<String> = BTreeSet::new();
    for idx in followers(prepared, plan) {
        let spec = &mut assignment.units[idx];
        spec.compute = UnitCompute::Float;
        spec.weights.clear();
        spec.bias = None;
        for name in unit_outputs(&prepared.program, &prepared.topology, &prepared.units[idx]) {
            let Some(form) = assignment.forms.get_mut(name) else {
                continue;
            };
            real.extend(keep_real(name, form));
            if let Form::Fp16 { cast } = form {
                *form = Form::Float { cast: cast.take() };
            }
        }
    }
    for spec in &mut assignment.units {
        spec.float_inputs.extend(real.iter().cloned());
    }
    assignment
}
