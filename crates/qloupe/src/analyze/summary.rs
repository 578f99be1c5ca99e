//! The report of an analysis: its rows, its outputs, and what has no row.

use std::collections::BTreeSet;

use qloupe_exec::{Form, Mode};
use qloupe_tensor::{QuantParams, Range};

use super::Analysis;
use super::ends::OutputState;
use super::rows::Row;
use crate::findings::{self, Case};
use crate::report::{Layer, ModelSummary, Phase, Report, Samples, Skipped, Timing, ValueRange};
use crate::value_map::ValueMap;

impl Analysis<'_> {
    /// The report of all samples so far, without costs.
    pub fn finish(self) -> Report {
        let graph = &self.lockstep.network.model.graph;
        let n_params = graph.constants().values().map(|c| c.len()).sum();
        let mut report = Report {
            model: ModelSummary {
                file: self.lockstep.network.file.clone(),
                opset: self.lockstep.network.model.opset(),
                n_nodes: graph.nodes.len(),
                n_params,
            },
            target: self.prepared.target.id.to_owned(),
            mode: match (self.prepared.target.float_word(), self.lockstep.program.mode()) {
                (Some(word), _) => word,
                (None, Mode::Integer) => "integer",
                (None, Mode::FakeQuant) => "fake-quant",
            }
            .to_owned(),
            plan: self.plan.summary(),
            samples: Samples {
                n: self.n_samples,
                source: String::new(),
                n_calibration: self.plan.n_samples,
            },
            layers: self
                .rows
                .iter()
                .filter(|(row_idx, row)| self.is_shown(*row_idx, row))
                .map(|(row_idx, row)| self.layer(row_idx, row))
                .collect(),
            outputs: self.outputs.iter().map(OutputState::summary).collect(),
            skipped: self.skipped(),
            notes: self.prepared.target.note.iter().map(|&n| n.to_owned()).collect(),
            timing: Timing {
                total_seconds: 0.0,
                phases: vec![Phase {
                    name: "analyze".to_owned(),
                    seconds: self.seconds,
                }],
            },
            ..Report::default()
        };
        report.findings = findings::find(&Case::new(&report, self.prepared, self.plan));
        report
    }

    /// False for a value of the float model that a model which is quantized already does not have.
    fn is_shown(&self, row_idx: usize, row: &Row) -> bool {
        self.prepared.stored.is_none() || row.fused_into.is_some() || !self.is_empty(row_idx)
    }

    /// True when nothing was compared.
    fn is_empty(&self, row_idx: usize) -> bool {
        self.compared[row_idx].entire.finish().is_empty()
    }

    /// The values without a row, with the reason.
    fn skipped(&self) -> Vec<Skipped> {
        let mut skipped = self.rows.skipped();
        let missing = self
            .rows
            .iter()
            .filter(|(row_idx, row)| !self.is_shown(*row_idx, row));
        skipped.extend(missing.map(|(_, row)| Skipped {
            name: row.name.clone(),
            op_type: row.op_type.clone(),
            reason: "the quantized model has no value of this name".to_owned(),
        }));
        if self.prepared.stored.is_some() {
            let known: BTreeSet<&str> = self.lockstep.network.program.values().collect();
            let outputs = self
                .lockstep
                .program
                .units()
                .iter()
                .flat_map(|unit| unit.outputs());
            let unknown = outputs.filter(|name| !known.contains(name.as_str()));
            skipped.extend(unknown.map(|name| Skipped {
                name: name.clone(),
                op_type: String::new(),
                reason: "the float model has no value of this name".to_owned(),
            }));
        }
        skipped
    }

    fn layer(&self, row_idx: usize, row: &Row) -> Layer {
        let compared = &self.compared[row_idx];
        let form = self.lockstep.program.form(&row.name);
        let entry = self.plan.value(&row.name);
        let map = self.prepared.maps.get(&row.name);
        let (scale, zero_point) = form.params().map_or((Vec::new(), Vec::new()), |p| match map {
            Some(map) => in_original_units(p, map),
            None => (p.scale().to_vec(), p.zero_point().to_vec()),
        });
        let range = entry.and_then(|entry| entry.range).map(|range| match map {
            Some(map) => original_range(range, map),
            None => ValueRange {
                min: f64::from(range.min),
                max: f64::from(range.max),
            },
        });
        let dtype = match form {
            Form::Quantized(params) => params.dtype().name(),
            Form::Fp16 { .. } => "float16",
            Form::Float { .. } => "float32",
        };
        Layer {
            name: row.name.clone(),
            op_type: row.op_type.clone(),
            node: row.node.clone(),
            unit: row.unit.clone(),
            fused_into: row.fused_into.clone(),
            reason: row.reason(compared.entire.finish().is_empty()),
            dtype: if row.fused_into.is_some() {
                String::new()
            } else {
                dtype.to_owned()
            },
            shape: row.shape.clone(),
            scale,
            zero_point,
            range,
            n_nan: compared.entire.n_nan(),
            n_infinite: compared.entire.n_infinite(),
            views: compared.views(),
            worst_samples: compared.worst_samples(),
            provenance: row.provenance.clone(),
            ..Layer::default()
        }
    }
}

/// The scale and zero point of each channel of a value in the units of the original graph. A shift has no part in them.
fn in_original_units(params: &QuantParams, map: &ValueMap) -> (Vec<f32>, Vec<i32>) {
    match params.as_per_tensor() {
        Some((scale, zero_point)) => {
            let scales: Vec<f32> = map.scale.iter().map(|s| scale * s).collect();
            let zero_points = vec![zero_point; scales.len()];
            (scales, zero_points)
        }
        None => (params.scale().to_vec(), params.zero_point().to_vec()),
    }
}

/// What the range of a rewritten value spans in the units of the original graph, over all channels.
fn original_range(range: Range, map: &ValueMap) -> ValueRange {
    let ends = |end: f32| {
        let channels = map.scale.iter().zip(&map.shift);
        channels.map(move |(&s, &t)| f64::from(end) * f64::from(s) + f64::from(t))
    };
    ValueRange {
        min: ends(range.min).fold(f64::INFINITY, f64::min),
        max: ends(range.max).fold(f64::NEG_INFINITY, f64::max),
    }
}
