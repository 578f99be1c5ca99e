//! DepthToSpace: channels moved into blocks of pixels.

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use super::movement::View;
use super::movement_gradient::moved;
use super::parameters::require_rank;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, Layout, LayoutRule, OpError, Operator, Pullback,
    PullbackContext, SymDim,
};

/// `[n, c * b * b, h, w]` to `[n, c, h * b, w * b]`: the block is the outer (`DCR`) or the inner (`CRD`) part of the
/// channels.
#[derive(Debug)]
pub(super) struct DepthToSpace;

/// The `blocksize` attribute.
pub(super) fn block_size(node: &Node) -> Result<usize, OpError> {
    let size = node.int("blocksize").unwrap_or(0);
    usize::try_from(size)
        .ok()
        .filter(|s| (1..=1 << 16).contains(s))
        .ok_or_else(|| {
            OpError::attribute(
                "blocksize",
                format!("not a size, expected at least 1, got {size}"),
            )
        })
}

impl Operator for DepthToSpace {
    fn op_type(&self) -> &'static str {
        "DepthToSpace"
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
                c.floor_div(&block.times(&block)),
                h.times(&block),
                w.times(&block),
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
        let [n, h, w, channels] = match *x.shape() {
            [n, h, w, c] if nhwc => [n, h, w, c],
            [n, c, h, w] => [n, h, w, c],
            _ => [0; 4],
        };
        if !channels.is_multiple_of(b * b) {
            return Err(OpError::input(
                0,
                format!(
                    "channels do not fit the block, expected a multiple of {}, got {channels}",
                    b * b
                ),
            ));
        }
        let c = channels / (b * b);
        let column_row_depth = match ctx.string("mode", "DCR") {
            "DCR" => false,
            "CRD" => true,
            other => {
                return Err(OpError::attribute(
                    "mode",
                    format!("unknown, expected DCR or CRD, got {other}"),
                ));
            }
        };
        let depth = if column_row_depth { [c, b, b] } else { [b, b, c] };
        // Positions of the channel, the block row and the block column among the three parts of the depth.
        let [pc, pr, pw] = if column_row_depth { [0, 1, 2] } else { [2, 0, 1] };
        let (view, shape) = if nhwc {
            let parts = [n, h, w, depth[0], depth[1], depth[2]];
            (
                View::transposed(&parts, &[0, 1, 3 + pr, 2, 3 + pw, 3 + pc]),
                [n, h * b, w * b, c],
            )
        } else {
            let parts = [n, depth[0], depth[1], depth[2], h, w];
            (
                View::transposed(&parts, &[0, 1 + pc, 4, 1 + pr, 5, 1 + pw]),
                [n, c, h * b, w * b],
            )
        };
        Ok(vec![view.copy(x, &shape)?])
    }
}

impl Differentiable for DepthToSpace {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        moved(self, &ctx.call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qloupe_ir::AttributeValue;

    #[test]
    fn both_modes_in_both_orders() {
        for (mode, expected) in [("DCR", [0_u8, 2, 4, 6]), ("CRD", [0, 1, 2, 3])] {
            let node = Node::default()
                .with_attribute("blocksize", AttributeValue::Int(2))
                .with_attribute("mode", AttributeValue::String(mode.as_bytes().to_vec()));
            let x: Vec<u8> = (0..8).collect();
            for (shape, layout) in [([1, 8, 1, 1], Layout::Plain), ([1, 1, 1, 8], Layout::Nhwc)] {
                let x = Tensor::new(&shape, x.clone()).unwrap();
                let ctx = EvalContext {
                    node: &node,
                    opset: 13,
                    layout,
                    inputs: &[Some(&x)],
                };
                let y = DepthToSpace.eval(&ctx).unwrap().remove(0);
                let y = y.as_slice::<u8>().unwrap();
                let step = if layout == Layout::Plain { 1 } else { 2 };
                let first_channel: Vec<u8> = y.iter().copied().step_by(step).take(4).collect();
                assert_eq!(first_channel, expected, "{mode} {layout:?}");
            }
        }
    }
}
