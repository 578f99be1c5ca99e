//! The plan that a quantized model is: its scales, written down for its float twin.

use std::collections::BTreeMap;

use qloupe_exec::Cast;
use qloupe_tensor::{DType, Granularity, QuantParams};

use super::read::{Quantization, Reading};
use crate::plan::{Method, Optimized, Precision, QuantPlan, ValuePlan, WeightPlan};
use crate::prepare::Prepared;
use crate::shapes;
use crate::units::unit_outputs;

/// What a plan says where nothing was calibrated.
const STORED: &str = "stored";

/// The plan of a reading, for its twin prepared for a target.
pub(super) fn plan_of(reading: &Reading, prepared: &Prepared) -> QuantPlan {
    let weights = weights(reading, prepared);
    let per_channel = |w: &WeightPlan| w.params.granularity() != Granularity::PerTensor;
    QuantPlan {
        target: prepared.target.id.to_owned(),
        algorithm: STORED.to_owned(),
        method: if weights.iter().any(per_channel) {
            Method::Channel
        } else {
            Method::Layer
        },
        optimization_level: 0,
        n_samples: 0,
        values: values(reading, prepared),
        weights,
        optimized: Optimized::default(),
    }
}

fn values(reading: &Reading, prepared: &Prepared) -> Vec<ValuePlan> {
    let inferred = shapes::infer(&prepared.model, &BTreeMap::new());
    let facts = inferred.map(|inference| inference.facts).unwrap_or_default();
    let mut units: BTreeMap<&str, String> = BTreeMap::new();
    for unit in &prepared.units {
        let label = unit.label(&prepared.program);
        let outputs = unit_outputs(&prepared.program, &prepared.topology, unit);
        units.extend(outputs.into_iter().map(|name| (name, label.clone())));
    }
    let mut values = Vec::new();
    for name in prepared.value_names() {
        let float = || Precision::Float {
            reason: "not quantized in the model".to_owned(),
        };
        let (precision, cast) = match reading.values.get(&name) {
            Some(Quantization::Fixed(params)) => (Precision::Quantized(params.clone()), None),
            Some(Quantization::Shared(source, _)) => (Precision::SharedWith(source.clone()), None),
            Some(Quantization::Dynamic) => (float(), Some(Cast::Dynamic)),
            None if facts.get(&name).and_then(|fact| fact.dtype) == Some(DType::Float32) => (float(), None),
            None => continue,
        };
        values.push(ValuePlan {
            unit: units
                .get(name.as_str())
                .cloned()
                .unwrap_or_else(|| "Input".to_owned()),
            name,
            precision,
            cast,
            range: None,
            chosen: String::new(),
        });
    }
    values
}

/// Quantized constants, also under the name that a Transpose gives them before a unit uses them.
fn weights(reading: &Reading, prepared: &Prepared) -> Vec<WeightPlan> {
    let mut plans: Vec<WeightPlan> = Vec::new();
    for weight in &reading.weights {
        if let Ok(params) = &weight.params {
            plans.push(WeightPlan {
                name: weight.name.clone(),
                params: params.clone(),
                outcome: String::new(),
            });
        }
    }
    for node in prepared
        .model
        .graph
        .nodes
        .iter()
        .filter(|n| n.is_onnx("Transpose"))
    {
        let source = plans
            .iter()
            .find(|plan| Some(plan.name.as_str()) == node.input(0));
        let (Some(source), Some(output)) = (source, node.output(0)) else {
            continue;
        };
        let rank = prepared
            .program
            .constant(output)
            .map_or(0, |tensor| tensor.rank());
        if let Some(params) = transposed(&source.params, node.ints("perm"), rank) {
            plans.push(WeightPlan {
                name: output.to_owned(),
                params,
                outcome: String::new(),
            });
        }
    }
    plans
}

/// The parameters of a transposed tensor; `None` for blocks, whose scales would have to move, too.
fn transposed(params: &QuantParams, perm: Option<&[i64]>, rank: usize) -> Option<QuantParams> {
    let Granularity::PerChannel { axis } = params.granularity() else {
        return (params.granularity() == Granularity::PerTensor).then(|| params.clone());
    };
    let axis = match perm {
        Some(perm) => perm.iter().position(|&from| usize::try_from(from) == Ok(axis))?,
        None => rank.checked_sub(axis + 1)?,
    };
    let (scale, zero_point) = (params.scale().to_vec(), params.zero_point().to_vec());
    QuantParams::new(
        params.dtype(),
        Granularity::PerChannel { axis },
        scale,
        zero_point,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_moves_with_the_tensor() {
        struct Case {
            axis: usize,
            perm: Option<&'static [i64]>,
            rank: usize,
            expected: usize,
        }
        let cases = [
            Case {
                axis: 0,
                perm: None,
                rank: 2,
                expected: 1,
            },
            Case {
                axis: 0,
                perm: Some(&[2, 3, 1, 0]),
                rank: 4,
                expected: 3,
            },
            Case {
                axis: 1,
                perm: Some(&[0, 1]),
                rank: 2,
                expected: 1,
            },
        ];
        for case in cases {
            let granularity = Granularity::PerChannel { axis: case.axis };
            let params = QuantParams::new(DType::Int8, granularity, vec![1.0, 2.0], vec![0, 0]).unwrap();
            let moved = transposed(&params, case.perm, case.rank).unwrap();
            assert_eq!(
                moved.granularity(),
                Granularity::PerChannel { axis: case.expected }
            );
        }
    }
}
