//! OneHot: a new axis that is `on` at an index and `off` elsewhere.

use qloupe_tensor::Tensor;

use super::movement::{Run, copy_runs};
use super::parameters::open_dim;
use crate::operator::resolve_axis;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `y[.., d, ..] = values[1]` where `d == indices[..]` (negative ones count from the end), otherwise `values[0]`.
#[derive(Debug)]
pub(super) struct OneHot;

impl Operator for OneHot {
    fn op_type(&self) -> &'static str {
        "OneHot"
    }

    fn since_version(&self) -> i64 {
        9
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let dtype = ctx.require(2)?.dtype;
        let Some(shape) = ctx.shape(0) else {
            return Ok(vec![Fact::new(dtype, None)]);
        };
        let axis = resolve_axis(ctx.node.int("axis").unwrap_or(-1), shape.len() + 1)?;
        let real = |fact: &Fact| fact.constant.as_ref()?.to_f64_vec().ok()?.first().copied();
        let depth = ctx.elements(1).and_then(|e| e.first().cloned());
        let depth = depth.or_else(|| Some(SymDim::known(real(ctx.input(1)?)? as i64)));
        let mut dims = shape.to_vec();
        dims.insert(axis, depth.unwrap_or_else(|| open_dim(ctx, 0, axis)));
        Ok(vec![Fact::new(dtype, Some(dims))])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (indices, depth, values) = (ctx.require(0)?, ctx.require(1)?, ctx.require(2)?);
        let axis = resolve_axis(ctx.int("axis", -1), indices.rank() + 1)?;
        let depth = match depth.to_f64_vec()?.as_slice() {
            &[depth] if (0.0..9e15).contains(&depth) => depth as usize,
            other => {
                return Err(OpError::input(
                    1,
                    format!("not a depth, expected one number of at least 0, got {other:?}"),
                ));
            }
        };
        if values.shape() != [2] {
            return Err(OpError::input(
                2,
                format!("wrong shape, expected [2], got {:?}", values.shape()),
            ));
        }
        let on: Vec<Option<usize>> = indices
            .to_f64_vec()?
            .into_iter()
            .map(|i| if i < 0.0 { i + depth as f64 } else { i })
            .map(|i| (i >= 0.0 && i < depth as f64).then_some(i as usize))
            .collect();
        let mut shape = indices.shape().to_vec();
        shape.insert(axis, depth);
        let inner: usize = indices.shape()[axis..].iter().product();
        let outer: usize = indices.shape()[..axis].iter().product();
        let on = &on;
        let element = move |o: usize, d: usize, i: usize| usize::from(on[o * inner + i] == Some(d));
        let runs = (0..outer).flat_map(|o| {
            (0..depth).flat_map(move |d| (0..inner).map(move |i| Run::contiguous(element(o, d, i), 1)))
        });
        Ok(vec![copy_runs(&[values], &shape, runs)?])
    }
}
