//! An inspection as JSON.

use serde_json::{Value, json};

use super::{Compute, Inspection, Placement};

/// The inspection as JSON; what is not known is null.
pub fn to_json(inspection: &Inspection) -> Value {
    let i = inspection;
    let opsets = i
        .opsets
        .iter()
        .map(|(domain, version)| (domain.clone(), json!(version)));
    json!({
        "file": i.file,
        "file_size_bytes": i.file_size_bytes,
        "producer": i.producer,
        "ir_version": i.ir_version,
        "opsets": Value::Object(opsets.collect()),
        "n_nodes": i.n_nodes,
        "n_parameters": i.n_parameters,
        "weight_size_bytes": i.weight_size_bytes,
        "macs": i.macs,
        "uncounted": i.uncounted,
        "inputs": i.inputs.iter().map(|input| json!({
            "name": input.value.name,
            "dtype": input.value.dtype,
            "shape": input.value.shape,
            "open": input.open.iter().map(|(axis, name)| json!({"axis": axis, "name": name})).collect::<Vec<_>>(),
            "feed": input.feed,
        })).collect::<Vec<_>>(),
        "outputs": i.outputs.iter().map(|output| json!({
            "name": output.name,
            "dtype": output.dtype,
            "shape": output.shape,
        })).collect::<Vec<_>>(),
        "operators": i.operators.iter().map(|line| json!({
            "op_type": line.op,
            "count": line.count,
            "macs": line.macs,
            "compute": Value::Object(line.compute.iter().map(|(c, n)| (c.name().to_owned(), json!(n))).collect()),
        })).collect::<Vec<_>>(),
        "unsupported": i.unsupported,
        "hazards": i.hazards.iter().map(|hazard| json!({
            "tensor": hazard.tensor,
            "node": hazard.node,
            "kind": hazard.kind.id(),
            "text": hazard.kind.describe(),
        })).collect::<Vec<_>>(),
        "findings": i.findings.iter().map(|finding| json!({
            "node": finding.node,
            "op_type": finding.op_type,
            "reason": finding.reason,
        })).collect::<Vec<_>>(),
        "quantization": i.quantization.as_ref().map(|q| json!({
            "schemes": q.summary.schemes,
            "values": q.summary.values,
            "weights": q.summary.weights,
            "units": q.summary.units,
            "n_kept": q.summary.n_kept,
            "findings": q.findings,
        })),
        "placement": i.placement.as_ref().map(placement_json),
    })
}

fn placement_json(placement: &Placement) -> Value {
    let shares = Compute::ALL.into_iter().map(|compute| {
        let (n_units, macs) = placement.share(compute);
        (
            compute.name().to_owned(),
            json!({"n_units": n_units, "macs": macs}),
        )
    });
    json!({
        "target": placement.target,
        "note": placement.note,
        "shares": Value::Object(shares.collect()),
        "n_casts": placement.n_casts,
        "cast_elements": placement.cast_elements,
        "units": placement.units.iter().map(|unit| json!({
            "unit": unit.label,
            "output": unit.output,
            "compute": unit.compute.name(),
            "macs": unit.macs,
        })).collect::<Vec<_>>(),
        "cut": placement.cut.as_ref().map(|cut| json!({
            "outputs": cut.outputs,
            "n_units": cut.n_units,
            "fallbacks": cut.fallbacks,
        })),
    })
}
