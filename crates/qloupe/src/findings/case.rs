//! What patterns look at, and what an error costs at the network outputs.

use std::collections::BTreeMap;

use qloupe_exec::Form;
use qloupe_ir::Node;

use crate::plan::QuantPlan;
use crate::prepare::Prepared;
use crate::report::{Finding, Layer, Report, Severity};
use crate::units::UnitGroup;

/// Costs from which on a property of the network is worth knowing, and loses accuracy.
const INFO_DB: f64 = 0.05;
const WARNING_DB: f64 = 0.5;
/// The same of a fault, which is free to put right; from the last on it breaks the model.
const FAULT_INFO_DB: f64 = 0.005;
const FAULT_WARNING_DB: f64 = 0.05;
const FAULT_ERROR_DB: f64 = 3.0;
/// No cost is told above this: everything is lost.
const MAX_DB: f64 = 60.0;

/// One analysis.
#[derive(Debug)]
pub struct Case<'a> {
    pub(super) report: &'a Report,
    pub(super) prepared: &'a Prepared,
    pub(super) plan: &'a QuantPlan,
    pub(super) forms: BTreeMap<String, Form>,
    layers: BTreeMap<&'a str, &'a Layer>,
}

impl<'a> Case<'a> {
    pub(crate) fn new(report: &'a Report, prepared: &'a Prepared, plan: &'a QuantPlan) -> Self {
        Self {
            report,
            prepared,
            plan,
            forms: plan.forms(),
            layers: report
                .layers
                .iter()
                .map(|layer| (layer.name.as_str(), layer))
                .collect(),
        }
    }

    /// The nodes of the graph under test.
    pub(super) fn nodes(&self) -> &'a [Node] {
        &self.prepared.model.graph.nodes
    }

    /// The nodes with this operator and a first output.
    pub(super) fn nodes_of(&self, op_type: &'static str) -> impl Iterator<Item = (&'a Node, &'a str)> {
        let nodes = self.nodes().iter().filter(move |node| node.is_onnx(op_type));
        nodes.filter_map(|node| Some((node, node.output(0)?)))
    }

    /// The only node that writes a value.
    pub(super) fn producer(&self, name: &str) -> Option<&'a Node> {
        self.prepared
            .topology
            .producer(name)
            .map(|idx| &self.nodes()[idx])
    }

    /// The nodes that read a value.
    pub(super) fn consumers(&self, name: &str) -> impl Iterator<Item = &'a Node> {
        let consumers: Vec<usize> = self.prepared.topology.consumers(name).to_vec();
        let nodes = self.nodes();
        consumers.into_iter().map(|idx| &nodes[idx])
    }

    /// The unit that a node runs in.
    pub(super) fn unit_of(&self, node: &Node) -> Option<&'a UnitGroup> {
        let idx = self.prepared.topology.producer(node.output(0)?)?;
        self.prepared
            .units
            .iter()
            .find(|unit| unit.node_idxs.contains(&idx))
    }

    /// The row of a value.
    pub(super) fn layer(&self, name: &str) -> Option<&'a Layer> {
        self.layers.get(name).copied()
    }

    /// The row whose numbers stand for a value: its own, or that of the value it is fused into.
    pub(super) fn row(&self, name: &str) -> Option<&'a Layer> {
        let layer = self.layer(name)?;
        layer
            .fused_into
            .as_ref()
            .map_or(Some(layer), |into| self.layer(into))
    }

    /// The range that a value was calibrated with.
    pub(super) fn range(&self, name: &str) -> Option<(f32, f32)> {
        let range = self.plan.value(name)?.range?;
        Some((range.min, range.max))
    }

    /// The scale of a quantized value.
    pub(super) fn step(&self, name: &str) -> Option<f32> {
        Some(self.forms.get(name)?.params()?.as_per_tensor()?.0)
    }

    /// What noise of this size, relative to the energy of the outputs, costs: the decibels that are won without it.
    pub(super) fn cost_db(&self, noise: f64) -> Option<f64> {
        let all = self.report.additivity.as_ref()?.noise;
        // Alone it may make more noise than everything together does: errors make up for each other.
        let all = all.max(noise);
        let left = (all - noise).max(all * 10.0_f64.powf(-MAX_DB / 10.0));
        (all > 0.0).then(|| 10.0 * (all / left).log10())
    }

    /// What the unit that writes a value costs; `None` where that was not measured.
    pub(super) fn unit_cost_db(&self, name: &str) -> Option<f64> {
        self.cost_db(self.row(name)?.effect?.noise)
    }

    /// A pattern at a value, with what its unit costs; `None` where that is too little to tell of. Patterns are never
    /// errors by themselves: a network may live with them.
    pub(super) fn pattern(
        &self,
        id: &str,
        value: &str,
        (cause, evidence, fix): (String, String, String),
    ) -> Option<Finding> {
        let effect_db = self.unit_cost_db(value);
        let severity = effect_db.map_or(Some(Severity::Info), severity_of_property)?;
        Some(Finding {
            id: id.to_owned(),
            severity,
            layer: Some(self.row(value).map_or(value, |row| row.name.as_str()).to_owned()),
            cause,
            evidence,
            fix,
            effect_db,
            action: None,
            tried: None,
        })
    }
}

/// The severity of a property of the network that costs this much: a warning at most; `None` where that is too little to
/// tell of.
pub(super) fn severity_of_property(effect_db: f64) -> Option<Severity> {
    match effect_db {
        db if db >= WARNING_DB => Some(Severity::Warning),
        db if db >= INFO_DB => Some(Severity::Info),
        _ => None,
    }
}

/// The severity of a fault that costs this much; `None` where that is too little to tell of.
pub(super) fn severity_of_fault(effect_db: f64) -> Option<Severity> {
    match effect_db {
        db if db >= FAULT_ERROR_DB => Some(Severity::Error),
        db if db >= FAULT_WARNING_DB => Some(Severity::Warning),
        db if db >= FAULT_INFO_DB => Some(Severity::Info),
        _ => None,
    }
}
