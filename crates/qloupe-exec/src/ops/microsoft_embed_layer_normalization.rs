//! com.microsoft.EmbedLayerNormalization: the embedding of words, positions and segments, normalized.

use qloupe_tensor::{DType, Tensor};

use super::add::Add;
use super::cast::cast;
use super::composed::{MICROSOFT, plain};
use super::elementwise::widened;
use super::gather::Gather;
use super::layer_normalization::LayerNormalization;
use super::parameters::{integers, require_rank};
use super::skip_normalization::{Parts, normalized};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

const WORD_IDS: usize = 0;
const SEGMENT_IDS: usize = 1;
const WORDS: usize = 2;
const POSITIONS: usize = 3;
const SEGMENTS: usize = 4;
const MASK: usize = 7;
const POSITION_IDS: usize = 8;

/// `y = layer_normalization(words[ids] + positions[position_ids] + segments[segment_ids]) * gamma + beta`.
///
/// Without `position_ids` positions count from 0. Output 1 is the number of ones of each row of the mask (0 without a
/// mask), output 2 the sum.
#[derive(Debug)]
pub(super) struct EmbedLayerNormalization;

impl Operator for EmbedLayerNormalization {
    fn op_type(&self) -> &'static str {
        "EmbedLayerNormalization"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let dtype = ctx.dtype(WORDS);
        let (Some([batch, length]), Some([_, hidden])) = (ctx.shape(WORD_IDS), ctx.shape(WORDS)) else {
            let unknown = Fact::new(dtype, None);
            return Ok(vec![
                unknown.clone(),
                Fact::new(Some(DType::Int32), None),
                unknown,
            ]);
        };
        let y = Fact::new(dtype, Some(vec![batch.clone(), length.clone(), hidden.clone()]));
        let counts = Fact::new(Some(DType::Int32), Some(vec![batch.clone()]));
        Ok(vec![y.clone(), counts, y])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let ids = ctx.require(WORD_IDS)?;
        require_rank(ids, WORD_IDS, 2)?;
        let dtype = ctx.require(WORDS)?.dtype();
        let table = |idx| widened(ctx, idx, dtype);
        let picked = |table_idx: usize, idx: usize, ids: &Tensor| {
            plain(&Gather, &[(table_idx, &table(table_idx)?), (idx, ids)])
        };
        let counted;
        let position_ids = match ctx.input(POSITION_IDS) {
            Some(given) => given,
            None => {
                counted = Tensor::new(&[1, ids.shape()[1]], (0..ids.shape()[1] as i64).collect())?;
                &counted
            }
        };
        let mut sum = plain(
            &Add,
            &[
                (WORDS, &picked(WORDS, WORD_IDS, ids)?),
                (POSITIONS, &picked(POSITIONS, POSITION_IDS, position_ids)?),
            ],
        )?;
        if let Some(segment_ids) = ctx.input(SEGMENT_IDS) {
            sum = plain(
                &Add,
                &[
                    (WORDS, &sum),
                    (SEGMENTS, &picked(SEGMENTS, SEGMENT_IDS, segment_ids)?),
                ],
            )?;
        }
        let parts = Parts {
            scale: 5,
            shift: Some(6),
            bias: 0,
        };
        let y = normalized(ctx, &LayerNormalization, &sum, parts)?.remove(0);
        Ok(vec![
            cast(&y, dtype)?,
            lengths(ctx, ids.shape())?,
            cast(&sum, dtype)?,
        ])
    }
}

fn lengths(ctx: &EvalContext<'_>, shape: &[usize]) -> Result<Tensor, OpError> {
    let Some(mask) = ctx.input(MASK) else {
        return Ok(Tensor::vector(vec![0_i32; shape[0]]));
    };
    if mask.shape() != shape {
        return Err(OpError::input(
            MASK,
            format!("wrong shape, expected {shape:?}, got {:?}", mask.shape()),
        ));
    }
    let mask = integers(mask, MASK)?;
    let count = |row: &[i64]| row.iter().filter(|&&v| v == 1).count() as i32;
    let mut counts: Vec<i32> = mask.chunks(shape[1].max(1)).map(count).collect();
    counts.resize(shape[0], 0);
    Ok(Tensor::vector(counts))
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;

    use super::*;
    use crate::Layout;

    #[test]
    fn embeddings_are_summed_and_normalized() {
        let ids = Tensor::new(&[1, 2], vec![1_i32, 0]).unwrap();
        let words = Tensor::new(&[2, 2], vec![1_f32, 3.0, 5.0, 5.0]).unwrap();
        let positions = Tensor::new(&[2, 2], vec![0_f32, 2.0, 4.0, 0.0]).unwrap();
        let (gamma, beta) = (Tensor::vector(vec![1_f32, 2.0]), Tensor::vector(vec![0_f32, 1.0]));
        let mask = Tensor::new(&[1, 2], vec![1_i32, 0]).unwrap();
        let run = |mask: &Tensor| {
            EmbedLayerNormalization.eval(&EvalContext {
                node: &Node::new("", "", &[], &["y", "m", "s"]),
                opset: 1,
                layout: Layout::Plain,
                inputs: &[
                    Some(&ids),
                    None,
                    Some(&words),
                    Some(&positions),
                    None,
                    Some(&gamma),
                    Some(&beta),
                    Some(mask),
                ],
            })
        };
        let outputs = run(&mask).unwrap();
        assert_eq!(outputs[0].as_slice::<f32>().unwrap(), [-1.0, 3.0, 1.0, -1.0]);
        assert_eq!(outputs[1], Tensor::vector(vec![1_i32]));
        assert_eq!(outputs[2].as_slice::<f32>().unwrap(), [5.0, 7.0, 5.0, 3.0]);
        assert_eq!(
            run(&gamma).unwrap_err().to_string(),
            "input 7: wrong shape, expected [1, 2], got [2]"
        );
    }
}
