//! Compress: the slices of an axis that a condition selects.

use qloupe_tensor::Tensor;

use super::movement::{Run, copy_runs};
use super::parameters::open_dim;
use crate::operator::resolve_axis;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// The slices along `axis` (without it, the elements) where `condition` is true.
#[derive(Debug)]
pub(super) struct Compress;

impl Operator for Compress {
    fn op_type(&self) -> &'static str {
        "Compress"
    }

    fn since_version(&self) -> i64 {
        9
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let shape = match (ctx.node.int("axis"), &x.shape) {
            (None, _) => Some(vec![open_dim(ctx, 0, 0)]),
            (Some(axis), Some(shape)) => {
                let axis = resolve_axis(axis, shape.len())?;
                let mut dims = shape.clone();
                dims[axis] = open_dim(ctx, 0, axis);
                Some(dims)
            }
            _ => None,
        };
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (x, condition) = (ctx.require(0)?, ctx.require(1)?.require::<bool>()?);
        let (mut shape, axis) = match ctx.node.int("axis") {
            Some(axis) => (x.shape().to_vec(), resolve_axis(axis, x.rank())?),
            None => (vec![x.len()], 0),
        };
        let size = shape[axis];
        let chosen: Vec<usize> = (0..size.min(condition.len())).filter(|&i| condition[i]).collect();
        let outer: usize = shape[..axis].iter().product();
        let inner: usize = shape[axis + 1..].iter().product();
        shape[axis] = chosen.len();
        let chosen = &chosen;
        let runs = (0..outer).flat_map(|o| {
            chosen
                .iter()
                .map(move |i| Run::contiguous((o * size + i) * inner, inner))
        });
        Ok(vec![copy_runs(&[x], &shape, runs)?])
    }
}
