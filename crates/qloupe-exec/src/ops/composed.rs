//! Fused operators as the operators they were fused from.

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use super::add::Add;
use super::elementwise::widened;
use crate::{EvalContext, Layout, OpError, Operator};

/// The domain of the operators that ONNX Runtime adds.
pub(super) const MICROSOFT: &str = "com.microsoft";

/// The operator set whose meaning the parts of a fused operator have. That of the fused operator counts another domain.
const OPSET: i64 = 21;

/// The outputs of an operator with the attributes and output names of `node`.
///
/// Each input comes with the index it has in the fused operator, which errors then name.
///
/// # Errors
/// Those of the operator.
pub(super) fn apply(
    operator: &dyn Operator,
    node: &Node,
    layout: Layout,
    inputs: &[(usize, &Tensor)],
) -> Result<Vec<Tensor>, OpError> {
    let tensors: Vec<Option<&Tensor>> = inputs.iter().map(|(_, tensor)| Some(*tensor)).collect();
    let ctx = EvalContext {
        node,
        opset: OPSET,
        layout,
        inputs: &tensors,
    };
    operator.eval(&ctx).map_err(|error| match error {
        OpError::Input { idx, what } => OpError::input(inputs.get(idx).map_or(idx, |(idx, _)| *idx), what),
        other => other,
    })
}

/// The first output of an operator without attributes, in ONNX order: see [`apply`].
///
/// # Errors
/// Those of the operator.
pub(super) fn plain(operator: &dyn Operator, inputs: &[(usize, &Tensor)]) -> Result<Tensor, OpError> {
    with_attributes(operator, &Node::default(), inputs)
}

/// The first output of an operator with the attributes of `node`, in ONNX order: see [`apply`].
///
/// # Errors
/// Those of the operator.
pub(super) fn with_attributes(
    operator: &dyn Operator,
    node: &Node,
    inputs: &[(usize, &Tensor)],
) -> Result<Tensor, OpError> {
    let first = apply(operator, node, Layout::Plain, inputs)?.into_iter().next();
    Ok(first.expect("invariant: an operator has an output"))
}

/// `x + bias` in the type that computes, of input 0 and an optional input that broadcasts to it.
///
/// # Errors
/// An absent input 0, different dtypes, a bias that does not broadcast to x.
pub(super) fn with_bias(ctx: &EvalContext<'_>, idx: usize) -> Result<Tensor, OpError> {
    let dtype = ctx.require(0)?.dtype();
    let x = widened(ctx, 0, dtype)?;
    if ctx.input(idx).is_none() {
        return Ok(x);
    }
    let bias = widened(ctx, idx, dtype)?;
    let sum = plain(&Add, &[(0, &x), (idx, &bias)])?;
    if sum.shape() == x.shape() {
        return Ok(sum);
    }
    Err(OpError::input(
        idx,
        format!(
            "does not broadcast to input 0, expected a shape that fits {:?}, got {:?}",
            x.shape(),
            bias.shape()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_inputs_of_the_fused_operator() {
        let (a, b) = (Tensor::vector(vec![0_f32; 2]), Tensor::vector(vec![0_f32; 3]));
        assert_eq!(
            plain(&Add, &[(0, &a), (4, &b)]).unwrap_err().to_string(),
            "input 4: shape does not broadcast, expected one that fits [2], got [3]"
        );
    }

    #[test]
    fn a_bias_does_not_widen_the_input() {
        let (x, bias) = (Tensor::vector(vec![1_f32]), Tensor::vector(vec![0_f32; 3]));
        let ctx = EvalContext {
            node: &Node::default(),
            opset: 1,
            layout: Layout::Plain,
            inputs: &[Some(&x), Some(&bias)],
        };
        assert_eq!(
            with_bias(&ctx, 1).unwrap_err().to_string(),
            "input 1: does not broadcast to input 0, expected a shape that fits [1], got [3]"
        );
        assert_eq!(with_bias(&ctx, 2), Ok(x.clone()));
    }
}
