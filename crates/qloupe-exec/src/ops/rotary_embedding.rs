//! RotaryEmbedding: turns the elements of heads by angles that depend on their position.

use qloupe_tensor::Tensor;

use super::attention_core::{dims_of, heads_of, merge_heads};
use super::rotation::Rotation;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// For each pair `(a, b)` of a head: `(cos * a - sin * b, sin * a + cos * b)`.
///
/// Pairs are the halves of the first `rotary_embedding_dim` elements, or neighbours if `interleaved`; the other elements
/// stay. The angles of a token are the row of its position, or without `position_ids` its own row.
#[derive(Debug)]
pub(super) struct RotaryEmbedding;

impl Operator for RotaryEmbedding {
    fn op_type(&self) -> &'static str {
        "RotaryEmbedding"
    }

    fn since_version(&self) -> i64 {
        23
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let heads = heads_of(ctx, 0, "num_heads")?;
        let rotation = Rotation::new(
            ctx.require(1)?,
            ctx.require(2)?,
            1,
            ctx.int("interleaved", 0) != 0,
        )?;
        let [batch, _, length, size] = dims_of(&heads, 0)?;
        require_pairs(ctx, &rotation, size)?;
        let rows = match ctx.input(3) {
            Some(positions) => rotation.rows_at(positions, 3, batch * length)?,
            None => (0..batch * length).collect(),
        };
        let turned = rotation.turn(&heads, 0, &rows)?;
        let is_flat = ctx.require(0)?.rank() == 3;
        Ok(vec![if is_flat { merge_heads(&turned, 0)? } else { turned }])
    }
}

/// Checks that the tables have a column for each pair of `rotary_embedding_dim` elements, of all if it is 0.
///
/// # Errors
/// They have not.
pub(super) fn require_pairs(ctx: &EvalContext<'_>, rotation: &Rotation, size: usize) -> Result<(), OpError> {
    let turned = match ctx.int("rotary_embedding_dim", 0) {
        0 => size as i64,
        turned => turned,
    };
    if turned / 2 == rotation.n_pairs() as i64 {
        return Ok(());
    }
    Err(OpError::attribute(
        "rotary_embedding_dim",
        format!(
            "does not fit the cosines, expected {}, got {turned}",
            2 * rotation.n_pairs()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;
    use crate::Layout;

    #[test]
    fn tables_that_do_not_fit_are_named() {
        let x = Tensor::new(&[1, 1, 4], vec![1_f32; 4]).unwrap();
        let table = Tensor::new(&[1, 1, 1], vec![1_f32]).unwrap();
        let run = |node: &Node| {
            let ctx = EvalContext {
                node,
                opset: 23,
                layout: Layout::Plain,
                inputs: &[Some(&x), Some(&table), Some(&table)],
            };
            RotaryEmbedding.eval(&ctx)
        };
        let node = Node::default().with_attribute("num_heads", AttributeValue::Int(1));
        assert_eq!(
            run(&node).unwrap_err().to_string(),
            "attribute \"rotary_embedding_dim\": does not fit the cosines, expected 2, got 4"
        );
        let partial = node.with_attribute("rotary_embedding_dim", AttributeValue::Int(2));
        let y = run(&partial).unwrap().remove(0);
        assert_eq!(y, Tensor::new(&[1, 1, 4], vec![0_f32, 2.0, 1.0, 1.0]).unwrap());
    }
}
