//! Concat: each member is brought to the output scale by a table, then bytes are copied.

use qloupe_tensor::DType;

use super::lookup::{apply, requantize_table};
use super::{IntegerKernel, IntegerSpec};
use crate::call::Call;
use crate::{ExecError, OpError, Stored, ops};

#[derive(Debug)]
struct Concat {
    /// For each operand of the node: which input, and its table (`None`: the scale is the output's).
    members: Vec<(usize, Option<[u8; 256]>)>,
    call: Call,
    output: DType,
}

pub(super) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let ([node], Some(output)) = (spec.nodes, spec.output()) else {
        return Ok(None);
    };
    if !node.is_onnx("Concat") || !spec.all_inputs_8_bit() || !spec.constants.is_empty() {
        return Ok(None);
    }
    let mut members = Vec::with_capacity(node.inputs.len());
    for name in &node.inputs {
        let Some(idx) = spec.inputs.iter().position(|i| i == name) else {
            return Ok(None);
        };
        let params = spec.input_params[idx].expect("invariant: all inputs are quantized");
        let table = if params == output {
            None
        } else {
            Some(requantize_table(params, output)?)
        };
        members.push((idx, table));
    }
    let operator = ops::find("Concat", "").ok_or_else(|| OpError::unsupported("Concat"))?;
    let call = Call::new(node.clone(), operator, spec.opset, &[]).map_err(unlocated)?;
    Ok(Some(Box::new(Concat {
        members,
        call,
        output: output.dtype(),
    })))
}

/// The unit adds the place again.
pub(super) fn unlocated(error: ExecError) -> OpError {
    match error {
        ExecError::Node { source, .. } => source,
        other => OpError::unsupported(other.to_string()),
    }
}

impl IntegerKernel for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn run(&self, inputs: &[Stored]) -> Result<Vec<Stored>, OpError> {
        let members = self
            .members
            .iter()
            .map(|(idx, table)| match table {
                Some(table) => apply(table, &inputs[*idx], self.output),
                None => Ok(inputs[*idx].clone()),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let arguments: Vec<Option<&Stored>> = members.iter().map(Some).collect();
        let results = self.call.run_on_tensors(&arguments).map_err(unlocated)?;
        debug_assert!(
            results.iter().all(|r| r.dtype() == self.output),
            "Concat keeps the dtype"
        );
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integer::IntegerSpec;
    use qloupe_ir::{AttributeValue, Node};
    use qloupe_tensor::{QuantParams, Requantize, Tensor};

    #[test]
    fn members_below_one_step_of_the_output_vanish() {
        let node =
            Node::new("Concat", "c", &["a", "b"], &["y"]).with_attribute("axis", AttributeValue::Int(0));
        let coarse = QuantParams::per_tensor(DType::UInt8, 1.0, 0).unwrap();
        let fine = QuantParams::per_tensor(DType::UInt8, 0.001, 0).unwrap();
        let inputs = ["a".to_owned(), "b".to_owned()];
        let spec = IntegerSpec {
            nodes: std::slice::from_ref(&node),
            inputs: &inputs,
            input_params: vec![Some(&coarse), Some(&fine)],
            output_params: vec![Some(&coarse)],
            constants: &[],
            weights: &[],
            quantized_bias: None,
            requantize: Requantize::FloatScaleZeroPointAfter,
            opset: 13,
        };
        let Ok(Some(kernel)) = compile(&spec) else {
            panic!("Concat of two 8-bit values has a kernel")
        };
        let value = |v: u8| Stored::plain(Tensor::vector(vec![v]));
        let y = kernel.run(&[value(200), value(250)]).unwrap();
        assert_eq!(y[0].to_plain().as_slice::<u8>().unwrap(), [200, 0]);
    }
}
