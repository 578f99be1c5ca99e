//! Concat: each member is brought to the output scale by a table on its way into the output.

use qloupe_kernels::{ConcatMember, concat_quantized};
use qloupe_tensor::DType;

use super::conv::{quantized_slice, write_quantized};
use super::lookup::{apply, requantize_table};
use super::{IntegerKernel, IntegerSpec};
use crate::call::Call;
use crate::operator::resolve_axis;
use crate::{ExecError, Layout, OpError, Stored, ops};

#[derive(Debug)]
struct Concat {
    /// For each operand of the node: which input, and its table (`None`: the scale is the output's).
    members: Vec<(usize, Option<[u8; 256]>)>,
    axis: Option<i64>,
    /// For members that do not fit together: the operator, which says why.
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
        axis: node.int("axis"),
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

    fn run(&self, inputs: &[&Stored]) -> Result<Vec<Stored>, OpError> {
        if let Some(joined) = self.join(inputs)? {
            return Ok(vec![joined]);
        }
        let members = self
            .members
            .iter()
            .map(|(idx, table)| match table {
                Some(table) => apply(table, inputs[*idx], self.output),
                None => Ok(inputs[*idx].clone()),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let arguments: Vec<Option<&Stored>> = members.iter().map(Some).collect();
        let results: Vec<Stored> = self.call.run_on_tensors(&arguments).map_err(unlocated)?;
        debug_assert!(
            results.iter().all(|r| r.dtype() == self.output),
            "Concat keeps the dtype"
        );
        Ok(results)
    }
}

impl Concat {
    /// The members in one pass; `None` when they do not fit together.
    fn join(&self, inputs: &[&Stored]) -> Result<Option<Stored>, OpError> {
        let values = || self.members.iter().map(|(idx, _)| inputs[*idx]);
        let Some(rank) = values().next().map(Stored::rank) else {
            return Ok(None);
        };
        let Some(axis) = self.axis.and_then(|axis| resolve_axis(axis, rank).ok()) else {
            return Ok(None);
        };
        let (layout, axis) = match [0, 3, 1, 2].get(axis) {
            Some(&physical) if rank == 4 && values().any(|x| x.layout() == Layout::Nhwc) => {
                (Layout::Nhwc, physical)
            }
            _ => (Layout::Plain, axis),
        };
        let tensors: Vec<_> = values().map(|x| x.in_layout(layout)).collect();
        let mut shape = tensors[0].shape().to_vec();
        let fits = |shape: &[usize]| {
            shape.len() == rank && (0..rank).all(|i| i == axis || shape[i] == tensors[0].shape()[i])
        };
        if !tensors.iter().all(|t| fits(t.shape())) {
            return Ok(None);
        }
        shape[axis] = tensors.iter().map(|t| t.shape()[axis]).sum();
        let rows = shape[..axis].iter().product();
        let inner: usize = shape[axis + 1..].iter().product();
        let mut members = Vec::with_capacity(tensors.len());
        for (x, (_, table)) in tensors.iter().zip(&self.members) {
            members.push(ConcatMember {
                x: quantized_slice(x)?,
                row: x.shape()[axis] * inner,
                table: table.as_ref(),
            });
        }
        let joined = write_quantized(self.output, &shape, |out| {
            concat_quantized(&members, rows, out);
            Ok(())
        })?;
        Ok(Some(Stored::of_call(joined, layout)))
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
        let y = kernel.run(&[&value(200), &value(250)]).unwrap();
        assert_eq!(y[0].to_plain().as_slice::<u8>().unwrap(), [200, 0]);
    }
}
