//! LinearRegressor: weighted sums of features.

use qloupe_tensor::{DType, Tensor};

use super::linear_model::{LinearModel, PostTransform};
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `y[n, t] = intercepts[t] + sum over i of coefficients[t, i] * x[n, i]`, then `post_transform`, as float32.
///
/// # Shapes
/// x: `[N, F]`; y: `[N, targets]`.
#[derive(Debug)]
pub(super) struct LinearRegressor;

fn targets(node: &qloupe_ir::Node) -> Result<usize, OpError> {
    let targets = node.int("targets").unwrap_or(1);
    usize::try_from(targets)
        .ok()
        .filter(|&t| t > 0)
        .ok_or_else(|| OpError::attribute("targets", format!("too few, expected at least 1, got {targets}")))
}

impl Operator for LinearRegressor {
    fn op_type(&self) -> &'static str {
        "LinearRegressor"
    }

    fn domain(&self) -> &'static str {
        "ai.onnx.ml"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let targets = SymDim::from(targets(ctx.node)?);
        let shape = match ctx.shape(0) {
            Some([n, _]) => Some(vec![n.clone(), targets]),
            _ => None,
        };
        Ok(vec![Fact::new(Some(DType::Float32), shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let n_targets = targets(ctx.node)?;
        let mut scores = LinearModel::new(ctx.node, n_targets)?.scores(ctx.require(0)?)?;
        let post_transform = PostTransform::of(ctx.string("post_transform", "NONE"))?;
        for row in scores.chunks_exact_mut(n_targets) {
            post_transform.apply(row);
        }
        let shape = [scores.len() / n_targets, n_targets];
        let scores = scores.into_iter().map(|score| score as f32).collect();
        Ok(vec![Tensor::new::<f32>(&shape, scores)?])
    }
}
