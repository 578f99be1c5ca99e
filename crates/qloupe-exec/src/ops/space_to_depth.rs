//! SpaceToDepth: blocks of pixels moved into channels.

use qloupe_tensor::Tensor;

use super::depth_to_space::block_size;
use super::movement::View;
use super::movement_gradient::moved;
use super::parameters::require_rank;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, Layout, LayoutRule, OpError, Operator, Pullback,
    PullbackContext, SymDim,
};

/// `[n, c, h * b, w * b]` to `[n, b * b * c, h, w]`: the inverse of DepthToSpace in mode `DCR` (or, by the attribute of
/// newer operator sets, `CRD`).
#[derive(Debug)]
pub(super) struct SpaceToDepth;

impl Operator for SpaceToDepth {
    fn op_type(&self) -> &'static str {
        "SpaceToDepth"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Nhwc
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let block = SymDim::from(block_size(ctx.node)?);
        let shape = match x.shape.as_deref() {
            Some([n, c, h, w]) => Some(vec![
                n.clone(),
                c.times(&block.times(&block)),
                h.floor_div(&block),
                w.floor_div(&block),
            ]),
            _ => None,
        };
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        require_rank(x, 0, 4)?;
        let b = block_size(ctx.node)?;
        let nhwc = ctx.layout == Layout::Nhwc;
        let [n, height, width, c] = match *x.shape() {
            [n, h, w, c] if nhwc => [n, h, w, c],
            [n, c, h, w] => [n, h, w, c],
            _ => [0; 4],
        };
        if !height.is_multiple_of(b) || !width.is_multiple_of(b) {
            return Err(OpError::input(
                0,
                format!("does not fit the block, expected multiples of {b}, got {height} x {width}"),
            ));
        }
        let crd = match ctx.string("mode", "DCR") {
            "DCR" => false,
            "CRD" => true,
            other => {
                return Err(OpError::attribute(
                    "mode",
                    format!("unknown, expected DCR or CRD, got {other}"),
                ));
            }
        };
        let (h, w) = (height / b, width / b);
        let (view, shape) = if nhwc {
            let depth = if crd { [5, 2, 4] } else { [2, 4, 5] };
            let parts = [n, h, b, w, b, c];
            let order = [0, 1, 3, depth[0], depth[1], depth[2]];
            (View::transposed(&parts, &order), [n, h, w, b * b * c])
        } else {
            let depth = if crd { [1, 3, 5] } else { [3, 5, 1] };
            let parts = [n, c, h, b, w, b];
            let order = [0, depth[0], depth[1], depth[2], 2, 4];
            (View::transposed(&parts, &order), [n, b * b * c, h, w])
        };
        Ok(vec![view.copy(x, &shape)?])
    }
}

impl Differentiable for SpaceToDepth {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        moved(self, &ctx.call)
    }
}
