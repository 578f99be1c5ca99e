//! com.microsoft.RotaryEmbedding: RotaryEmbedding with the positions as input 1.

use qloupe_tensor::Tensor;

use super::attention_core::{dims_of, merge_heads, split_heads};
use super::composed::MICROSOFT;
use super::parameters::integers;
use super::rotary_embedding::require_pairs;
use super::rotation::Rotation;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// The arithmetic of RotaryEmbedding. `position_ids` holds a position for each token, or that of the first one only.
///
/// Without `num_heads` the heads of a rank-3 input are as large as the tables say.
#[derive(Debug)]
pub(super) struct RotaryEmbedding;

impl Operator for RotaryEmbedding {
    fn op_type(&self) -> &'static str {
        "RotaryEmbedding"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let interleaved = ctx.int("interleaved", 0) != 0;
        let rotation = Rotation::new(ctx.require(2)?, ctx.require(3)?, 2, interleaved)?;
        let is_flat = x.rank() == 3;
        let heads = if is_flat {
            let n_heads = match ctx.int("num_heads", 0) {
                0 => x.shape()[2].checked_div(2 * rotation.n_pairs()).unwrap_or(0),
                n_heads => usize::try_from(n_heads).unwrap_or(0),
            };
            split_heads(x, 0, n_heads)?
        } else {
            x.clone()
        };
        let [batch, _, length, size] = dims_of(&heads, 0)?;
        require_pairs(ctx, &rotation, size)?;
        let positions = ctx.require(1)?;
        let rows = if positions.len() == 1 {
            let first = integers(positions, 1)?[0];
            let along = |i: usize| rotation.row(first.saturating_add(i as i64), 1);
            let one = (0..length).map(along).collect::<Result<Vec<_>, _>>()?;
            one.repeat(batch)
        } else {
            rotation.rows_at(positions, 1, batch * length)?
        };
        let turned = rotation.turn(&heads, 0, &rows)?;
        Ok(vec![if is_flat { merge_heads(&turned, 0)? } else { turned }])
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;

    use super::*;
    use crate::Layout;

    #[test]
    fn one_position_is_that_of_the_first_token() {
        let x = Tensor::new(&[1, 2, 2], vec![1_f32, 2.0, 3.0, 4.0]).unwrap();
        // No turn, a quarter, a half.
        let cos = Tensor::new(&[3, 1], vec![1_f32, 0.0, -1.0]).unwrap();
        let sin = Tensor::new(&[3, 1], vec![0_f32, 1.0, 0.0]).unwrap();
        let run = |positions: Vec<i64>| {
            RotaryEmbedding.eval(&EvalContext {
                node: &Node::default(),
                opset: 1,
                layout: Layout::Plain,
                inputs: &[Some(&x), Some(&Tensor::vector(positions)), Some(&cos), Some(&sin)],
            })
        };
        let turned = [-2.0, 1.0, -3.0, -4.0];
        for positions in [vec![1], vec![1, 2]] {
            assert_eq!(run(positions).unwrap()[0].as_slice::<f32>().unwrap(), turned);
        }
        assert_eq!(
            run(vec![2]).unwrap_err().to_string(),
            "input 1: index outside the axis, expected [-3, 3), got 3"
        );
    }
}
