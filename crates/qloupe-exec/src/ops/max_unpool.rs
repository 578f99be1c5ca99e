//! MaxUnpool: pooled values back at the positions they came from.

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use super::movement::{Run, copy_runs, count, number, repeated, strides_of};
use super::parameters::{integers, resolve_index, size};
use super::window::{Window, spatial};
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `y = 0; y[indices[i]] = x[i]`, the flat positions in the unpooled tensor.
///
/// The unpooled size is `(size - 1) * stride - pads + kernel`; a larger `output_shape` (input 2) adds zeros at the end of
/// each axis.
///
/// # Shapes
/// x and indices: `[N, C, ..]`; y: `[N, C, ..]`.
#[derive(Debug)]
pub(super) struct MaxUnpool;

/// The spatial shape that pooling came from.
fn unpooled(node: &Node, input: &[usize]) -> Result<Vec<usize>, OpError> {
    let window = Window::new(node, input.len(), None)?;
    let axis = |(axis, &size): (usize, &usize)| {
        let (begin, end) = window.pads[axis];
        size.checked_sub(1)?
            .checked_mul(window.strides[axis])?
            .checked_add(window.kernel[axis])?
            .checked_sub(begin + end)
    };
    input
        .iter()
        .enumerate()
        .map(axis)
        .collect::<Option<_>>()
        .ok_or_else(|| OpError::input(0, format!("does not fit the pads, got spatial shape {input:?}")))
}

impl Operator for MaxUnpool {
    fn op_type(&self) -> &'static str {
        "MaxUnpool"
    }

    fn since_version(&self) -> i64 {
        9
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        if ctx.input(2).is_some() {
            return Ok(vec![Fact::new(x.dtype, ctx.elements(2).map(<[SymDim]>::to_vec))]);
        }
        let Some(dims) = &x.shape else {
            return Ok(vec![Fact::new(x.dtype, None)]);
        };
        let sizes: Option<Vec<usize>> = spatial(dims)?.iter().map(SymDim::as_size).collect();
        let shape = match sizes {
            Some(sizes) => {
                let unpooled = unpooled(ctx.node, &sizes)?;
                Some(
                    [
                        &dims[..2],
                        &unpooled.into_iter().map(SymDim::from).collect::<Vec<_>>(),
                    ]
                    .concat(),
                )
            }
            None => None,
        };
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (x, indices) = (ctx.require(0)?, ctx.require(1)?);
        if indices.shape() != x.shape() {
            return Err(OpError::input(
                1,
                format!("wrong shape, expected {:?}, got {:?}", x.shape(), indices.shape()),
            ));
        }
        let spatial_inner = unpooled(ctx.node, spatial(x.shape())?)?;
        let inner = [&x.shape()[..2], &spatial_inner].concat();
        let mut sources = repeated(None, &inner)?;
        for (i, index) in integers(indices, 1)?.into_iter().enumerate() {
            let position = resolve_index(index, sources.len(), 1)?;
            sources[position] = Some(i);
        }
        let shape = match ctx.input(2) {
            Some(shape) => integers(shape, 2)?
                .into_iter()
                .map(|d| size(d, 2))
                .collect::<Result<Vec<usize>, _>>()?,
            None => inner.clone(),
        };
        if shape.len() != inner.len() || shape.iter().zip(&inner).any(|(outer, inner)| outer < inner) {
            return Err(OpError::input(
                2,
                format!("too small, expected at least {inner:?}, got {shape:?}"),
            ));
        }
        let n = count(&shape)?;
        let (inner_strides, strides) = (strides_of(&inner), strides_of(&shape));
        let run = |position: usize| {
            let source = (0..shape.len()).try_fold(0, |at, axis| {
                let i = position / strides[axis] % shape[axis];
                (i < inner[axis]).then_some(at + i * inner_strides[axis])
            });
            match source.and_then(|at| sources[at]) {
                Some(start) => Run::contiguous(start, 1),
                None => Run {
                    source: 1,
                    ..Run::contiguous(0, 1)
                },
            }
        };
        let zero = number(x.dtype(), 0)?;
        Ok(vec![copy_runs(&[x, &zero], &shape, (0..n).map(run))?])
    }
}
