//! Concat: tensors one after the other along an axis.

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use super::parameters::elements_fact;
use super::pieces::concatenate;
use super::pieces::cut;
use crate::operator::resolve_axis;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback,
    PullbackContext, SymDim,
};

/// The inputs one after the other along `axis`; all other dimensions are equal.
#[derive(Debug)]
pub(super) struct Concat;

fn axis_attribute(axis: Option<i64>) -> Result<i64, OpError> {
    axis.ok_or_else(|| OpError::attribute("axis", "absent, expected an integer"))
}

impl Operator for Concat {
    fn op_type(&self) -> &'static str {
        "Concat"
    }

    fn since_version(&self) -> i64 {
        4
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let facts: Vec<&Fact> = ctx.inputs.iter().copied().flatten().collect();
        let dtype = facts.iter().find_map(|f| f.dtype);
        let shapes: Option<Vec<&Vec<SymDim>>> = facts.iter().map(|f| f.shape.as_ref()).collect();
        let Some((first, others)) = shapes.as_ref().and_then(|s| s.split_first()) else {
            return Ok(vec![Fact::new(dtype, None)]);
        };
        let axis = resolve_axis(axis_attribute(ctx.node.int("axis"))?, first.len())?;
        let mut dims = first.to_vec();
        for (idx, shape) in others.iter().enumerate() {
            if shape.len() != dims.len() {
                return Err(OpError::input(
                    idx + 1,
                    format!("wrong rank, expected {}, got {}", dims.len(), shape.len()),
                ));
            }
            for (i, dim) in shape.iter().enumerate() {
                if i == axis {
                    dims[i] = dims[i].plus(dim);
                } else if dims[i].as_known().is_none() {
                    dims[i] = dim.clone();
                }
            }
        }
        let elements: Option<Vec<&Vec<SymDim>>> = facts.iter().map(|f| f.elements.as_ref()).collect();
        Ok(vec![match elements {
            Some(lists) => elements_fact(dtype, dims, lists.into_iter().flatten().cloned().collect()),
            None => Fact::new(dtype, Some(dims)),
        }])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let mut tensors = Vec::with_capacity(ctx.inputs.len());
        for idx in 0..ctx.inputs.len() {
            tensors.push(ctx.require(idx)?);
        }
        let first = ctx.require(0)?;
        let axis = ctx.axis(axis_attribute(ctx.node.int("axis"))?, first.rank())?;
        Ok(vec![concatenate(&tensors, axis)?])
    }
}

impl Differentiable for Concat {
    fn covers(&self, _node: &Node, _input_idx: usize) -> bool {
        true
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let mut sizes = Vec::with_capacity(ctx.call.inputs.len());
        let rank = ctx.call.require(0)?.rank();
        let axis = ctx.call.axis(axis_attribute(ctx.call.node.int("axis"))?, rank)?;
        for idx in 0..ctx.call.inputs.len() {
            sizes.push(ctx.call.require(idx)?.shape()[axis]);
        }
        Ok(Pullback::new(move |mut gradients| {
            match gradients.first_mut().and_then(Option::take) {
                Some(gradient) => Ok(cut(&gradient, axis, &sizes)?.into_iter().map(Some).collect()),
                None => Ok(Vec::new()),
            }
        }))
    }
}
