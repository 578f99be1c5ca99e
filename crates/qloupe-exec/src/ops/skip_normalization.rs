//! Normalizations of a sum: what SkipLayerNormalization and its kin share.

use qloupe_ir::{AttributeValue, Node};
use qloupe_tensor::{DType, Tensor};

use super::add::Add;
use super::cast::cast;
use super::composed::{apply, plain};
use super::elementwise::widened;
use crate::{EvalContext, Fact, InferContext, Layout, OpError, Operator, SymDim};

/// What ONNX Runtime takes for `epsilon` when it is absent.
pub(super) const EPSILON: f32 = 1e-12;

/// Which inputs hold what; x is input 0, what is added to it input 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) scale: usize,
    pub(super) shift: Option<usize>,
    pub(super) bias: usize,
}

/// `operator` on the last axis of `x + skip + bias`: its result, its two statistics, and the sum.
///
/// # Errors
/// Inputs that do not fit each other.
pub(super) fn normalize_sum(
    ctx: &EvalContext<'_>,
    operator: &dyn Operator,
    parts: Parts,
) -> Result<Vec<Tensor>, OpError> {
    let dtype = ctx.require(0)?.dtype();
    let shape = ctx.require(0)?.shape();
    let mut sum = widened(ctx, 0, dtype)?;
    for idx in [1, parts.bias] {
        if idx == 1 || ctx.input(idx).is_some() {
            let addend = widened(ctx, idx, dtype)?;
            sum = plain(&Add, &[(0, &sum), (idx, &addend)])?;
        }
    }
    if sum.shape() != shape {
        return Err(OpError::input(
            1,
            format!(
                "does not fit the input, expected a sum of shape {shape:?}, got {:?}",
                sum.shape()
            ),
        ));
    }
    let mut outputs = normalized(ctx, operator, &sum, parts)?;
    outputs[0] = cast(&outputs[0], dtype)?;
    outputs.resize_with(3, || Tensor::vector(Vec::<f32>::new()));
    outputs.push(cast(&sum, dtype)?);
    Ok(outputs)
}

/// `operator` on the last axis of a tensor, with scale, shift and epsilon of the node.
///
/// # Errors
/// Those of the operator.
pub(super) fn normalized(
    ctx: &EvalContext<'_>,
    operator: &dyn Operator,
    x: &Tensor,
    parts: Parts,
) -> Result<Vec<Tensor>, OpError> {
    let mut inputs = vec![(0, x), (parts.scale, ctx.require(parts.scale)?)];
    if let Some(idx) = parts.shift {
        inputs.extend(ctx.input(idx).map(|shift| (idx, shift)));
    }
    let statistics = ["y", "a", "b"];
    let wanted = if ctx.node.output(1).is_some() || ctx.node.output(2).is_some() {
        3
    } else {
        1
    };
    let node = Node::new(operator.op_type(), "", &[], &statistics[..wanted])
        .with_attribute("epsilon", AttributeValue::Float(ctx.float("epsilon", EPSILON)));
    apply(operator, &node, Layout::Plain, &inputs)
}

/// Facts of [`normalize_sum`].
///
/// # Errors
/// An absent input.
pub(super) fn infer_skip(ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
    let x = ctx.require(0)?;
    let y = Fact::new(x.dtype, x.shape.clone());
    let statistics = x.shape.clone().map(|mut dims| {
        if let Some(last) = dims.last_mut() {
            *last = SymDim::known(1);
        }
        dims
    });
    let statistics = Fact::new(Some(DType::Float32), statistics);
    Ok(vec![y.clone(), statistics.clone(), statistics, y])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::find;

    #[test]
    fn a_skip_of_fewer_axes_is_added_to_every_row() {
        let node = Node::new("", "", &[], &["y", "", "", "sum"])
            .with_attribute("epsilon", AttributeValue::Float(0.0));
        let x = Tensor::new(&[2, 1, 2], vec![1_f32, 2.0, 3.0, 8.0]).unwrap();
        let (skip, scale) = (
            Tensor::new(&[1, 2], vec![1_f32, 4.0]).unwrap(),
            Tensor::vector(vec![2_f32; 2]),
        );
        let run = |op_type, skip: &Tensor| {
            let operator = find(op_type, "com.microsoft").expect("invariant: in the list");
            operator.eval(&EvalContext {
                node: &node,
                opset: 1,
                layout: Layout::Plain,
                inputs: &[Some(&x), Some(skip), Some(&scale)],
            })
        };
        let outputs = run("SkipLayerNormalization", &skip).unwrap();
        assert_eq!(outputs[0].as_slice::<f32>().unwrap(), [-2.0, 2.0, -2.0, 2.0]);
        assert_eq!(outputs[3].as_slice::<f32>().unwrap(), [2.0, 6.0, 4.0, 12.0]);
        let outputs = run("SkipSimplifiedLayerNormalization", &skip).unwrap();
        let by_hand = [2.0, 6.0, 4.0, 12.0].map(|v: f32| v * 2.0);
        let roots = [20_f32.sqrt(), 20_f32.sqrt(), 80_f32.sqrt(), 80_f32.sqrt()];
        for ((y, v), root) in outputs[0]
            .as_slice::<f32>()
            .unwrap()
            .iter()
            .zip(by_hand)
            .zip(roots)
        {
            assert!(
                (y - v / root).abs() <= 2.0 * f32::EPSILON,
                "{y} is not {v} / {root}"
            );
        }
        let wide = Tensor::new(&[3, 2, 1, 2], vec![0_f32; 12]).unwrap();
        assert_eq!(
            run("SkipLayerNormalization", &wide).unwrap_err().to_string(),
            "input 1: does not fit the input, expected a sum of shape [2, 1, 2], got [3, 2, 1, 2]"
        );
    }
}
