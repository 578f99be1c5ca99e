//! Units that only move or select values and keep the scale: the operator runs on the integers.

use super::concat::unlocated;
use super::{IntegerKernel, IntegerSpec};
use crate::call::Call;
use crate::{Few, OpError, Stored, ops};

/// Operators whose results are elements of input 0 (a maximum is one, too: quantization is monotone).
pub const MOVING_OPERATORS: &[&str] = &[
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Reshape",
    "Resize",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// Those of [`MOVING_OPERATORS`] of which the result is every element of input 0 once.
const PERMUTING_OPERATORS: &[&str] = &[
    "DepthToSpace",
    "Flatten",
    "Identity",
    "Reshape",
    "SpaceToDepth",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

#[derive(Debug)]
struct Movement {
    call: Call,
    /// For each input of the node: the computed input, or a constant.
    arguments: Vec<Argument>,
    n_outputs: usize,
}

#[derive(Debug)]
enum Argument {
    Absent,
    Input(usize),
    Constant(Stored),
}

pub(super) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let ([node], Some(Some(input))) = (spec.nodes, spec.input_params.first()) else {
        return Ok(None);
    };
    let interpolates = node.is_onnx("Resize") && node.string("mode").unwrap_or("nearest") != "nearest";
    let keeps_scale = spec.output_params.iter().all(|p| p.is_some_and(|p| p == *input));
    let all_outputs = spec.output_params.len() == node.outputs.iter().filter(|o| !o.is_empty()).count();
    // A maximum is found among 8-bit integers, and several scales may lie along an axis that moves.
    let fits = input.as_per_tensor().is_some() && (!node.is_onnx("MaxPool") || spec.all_inputs_8_bit());
    let first_is_input = node.input(0) == spec.inputs.first().map(String::as_str);
    let moves = node.domain.is_empty() && MOVING_OPERATORS.contains(&node.op_type.as_str());
    if !fits || interpolates || !keeps_scale || !all_outputs || !moves || !first_is_input {
        return Ok(None);
    }
    let mut arguments = Vec::with_capacity(node.inputs.len());
    for name in &node.inputs {
        arguments.push(if name.is_empty() {
            Argument::Absent
        } else if let Some(idx) = spec.inputs.iter().position(|i| i == name) {
            Argument::Input(idx)
        } else if let Some(constant) = spec.constant(name) {
            Argument::Constant(Stored::plain(constant.clone()))
        } else {
            return Ok(None);
        });
    }
    let operator = ops::find(&node.op_type, "").ok_or_else(|| OpError::unsupported(node.op_type.clone()))?;
    let call = Call::new(node.clone(), operator, spec.opset, &[]).map_err(unlocated)?;
    Ok(Some(Box::new(Movement {
        call,
        arguments,
        n_outputs: spec.output_params.len(),
    })))
}

impl IntegerKernel for Movement {
    fn name(&self) -> &'static str {
        "movement"
    }

    fn only_moves(&self) -> bool {
        // A maximum is one of integers, to which NaN is the lowest.
        !self.call.node().is_onnx("MaxPool")
    }

    fn only_permutes(&self) -> bool {
        PERMUTING_OPERATORS.contains(&self.call.node().op_type.as_str())
    }

    fn run(&self, inputs: &[&Stored]) -> Result<Vec<Stored>, OpError> {
        let arguments: Few<Option<&Stored>> = self
            .arguments
            .iter()
            .map(|argument| match argument {
                Argument::Absent => None,
                Argument::Input(idx) => inputs.get(*idx).copied(),
                Argument::Constant(stored) => Some(stored),
            })
            .collect();
        let mut results: Vec<Stored> = self.call.run_on_tensors(&arguments).map_err(unlocated)?;
        results.truncate(self.n_outputs);
        Ok(results)
    }
}
