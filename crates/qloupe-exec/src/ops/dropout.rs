//! Dropout at inference: its input, and a mask that drops nothing.

use qloupe_tensor::{DType, Tensor};

use super::elementwise::scalar;
use super::movement_gradient::reshaped;
use super::parameters::one_number;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback, PullbackContext,
};

/// `y = x`, `mask = true` everywhere (below opset 10 the mask is 1, of the dtype of `x`).
///
/// # Errors
/// `training_mode` with a ratio other than 0: random results are not reproducible.
#[derive(Debug)]
pub(super) struct Dropout;

impl Operator for Dropout {
    fn op_type(&self) -> &'static str {
        "Dropout"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let mask = if ctx.opset < 10 {
            x.dtype
        } else {
            Some(DType::Bool)
        };
        Ok(vec![
            Fact::new(x.dtype, x.shape.clone()),
            Fact::new(mask, x.shape.clone()),
        ])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let training = ctx
            .input(2)
            .map(|_| scalar::<bool>(ctx, 2))
            .transpose()?
            .unwrap_or(false);
        if training && ratio(ctx)? > 0.0 {
            return Err(OpError::Unsupported {
                what: "training_mode of Dropout".to_owned(),
                remedy: ": export the model for inference".to_owned(),
            });
        }
        let mut outputs = vec![x.clone()];
        if ctx.node.output(1).is_some() {
            let mask = if ctx.opset < 10 {
                super::cast::cast(&Tensor::new(x.shape(), vec![true; x.len()])?, x.dtype())?
            } else {
                Tensor::new(x.shape(), vec![true; x.len()])?
            };
            outputs.push(mask);
        }
        Ok(outputs)
    }
}

impl Differentiable for Dropout {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        reshaped(ctx)
    }
}

fn ratio(ctx: &EvalContext<'_>) -> Result<f64, OpError> {
    const DEFAULT: f64 = 0.5;
    ctx.input(1).map_or(Ok(DEFAULT), |_| one_number(ctx, 1))
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;

    use super::*;
    use crate::Layout;

    #[test]
    fn training_is_refused_and_inference_keeps_everything() {
        let node = Node::new("Dropout", "", &["x", "", "t"], &["y", "mask"]);
        let x = Tensor::vector(vec![1.0_f32, 2.0]);
        let run = |training: bool| {
            let training = Tensor::scalar(training);
            Dropout.eval(&EvalContext {
                node: &node,
                opset: 13,
                layout: Layout::Plain,
                inputs: &[Some(&x), None, Some(&training)],
            })
        };
        assert_eq!(run(false).unwrap(), [x.clone(), Tensor::vector(vec![true, true])]);
        assert_eq!(
            run(true).unwrap_err().to_string(),
            "training_mode of Dropout is not supported: export the model for inference"
        );
    }
}
