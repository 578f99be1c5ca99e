//! SimplifiedLayerNormalization: RMSNormalization as ONNX Runtime called it before ONNX had it.

use qloupe_tensor::{DType, Tensor};

use super::normalization::{floats, rounded};
use super::rms_normalization::{RMSNormalization, inverse_rms};
use super::rows::Around;
use crate::operator::resolve_axis;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext, SymDim,
};

/// `y = x / sqrt(mean of x^2 + epsilon) * scale` over the axes `axis..`; output 1 is the inverse of the divisor.
///
/// # Source
/// ONNX Runtime, which registers it in the domain of ONNX.
#[derive(Debug)]
pub(super) struct SimplifiedLayerNormalization;

impl Operator for SimplifiedLayerNormalization {
    fn op_type(&self) -> &'static str {
        "SimplifiedLayerNormalization"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let inverse = match &x.shape {
            Some(shape) => {
                let axis = resolve_axis(ctx.node.int("axis").unwrap_or(-1), shape.len())?;
                let kept = shape[..axis].iter().cloned();
                Some(kept.chain(vec![SymDim::known(1); shape.len() - axis]).collect())
            }
            None => None,
        };
        Ok(vec![
            Fact::new(x.dtype, x.shape.clone()),
            Fact::new(Some(DType::Float32), inverse),
        ])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let mut outputs = RMSNormalization.eval(ctx)?;
        if ctx.node.output(1).is_some() {
            let x = ctx.require(0)?;
            let axis = resolve_axis(ctx.int("axis", -1), x.rank())?;
            let around = Around::axes(x.shape(), axis, x.rank());
            let epsilon = f64::from(ctx.float("epsilon", 1e-5));
            let values = floats(ctx, 0)?;
            let rows = values.chunks(around.n.max(1));
            let mut shape = x.shape()[..axis].to_vec();
            shape.resize(x.rank(), 1);
            outputs.push(rounded(
                &shape,
                rows.map(|row| inverse_rms(row, epsilon)).collect(),
                DType::Float32,
            )?);
        }
        Ok(outputs)
    }
}

impl Differentiable for SimplifiedLayerNormalization {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        RMSNormalization.pullback(ctx)
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;
    use crate::Layout;

    #[test]
    fn the_inverse_is_an_output() {
        let node = Node::new("SimplifiedLayerNormalization", "", &["x", "s"], &["y", "i"])
            .with_attribute("epsilon", AttributeValue::Float(0.0));
        let x = Tensor::new(&[2, 2], vec![2_f32, -2.0, 4.0, 4.0]).unwrap();
        let scale = Tensor::vector(vec![1_f32, 3.0]);
        let ctx = EvalContext {
            node: &node,
            opset: 17,
            layout: Layout::Plain,
            inputs: &[Some(&x), Some(&scale)],
        };
        let outputs = SimplifiedLayerNormalization.eval(&ctx).unwrap();
        assert_eq!(outputs[0].as_slice::<f32>().unwrap(), [1.0, -3.0, 1.0, 3.0]);
        assert_eq!(outputs[1], Tensor::new(&[2, 1], vec![0.5_f32, 0.25]).unwrap());
    }
}
