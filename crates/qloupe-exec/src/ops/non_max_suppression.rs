//! NonMaxSuppression: the best boxes that do not overlap.

use qloupe_tensor::{DType, Tensor};

use super::float_tensor::to_float32;
use super::parameters::{integers, open_dim};
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `[n, 3]`: batch, class and box of the boxes that are kept, per class by falling score. A box is dropped when its
/// score is not above the threshold, or its overlap with a kept one is.
#[derive(Debug)]
pub(super) struct NonMaxSuppression;

/// Corners: low y, low x, high y, high x.
#[derive(Clone, Copy, Debug, PartialEq)]
struct BoundingBox([f32; 4]);

impl BoundingBox {
    fn new(values: &[f32], centered: bool) -> Self {
        if centered {
            let (x, y, w, h) = (values[0], values[1], values[2] / 2.0, values[3] / 2.0);
            Self([y - h, x - w, y + h, x + w])
        } else {
            let (a, b) = (values[0].min(values[2]), values[0].max(values[2]));
            let (c, d) = (values[1].min(values[3]), values[1].max(values[3]));
            Self([a, c, b, d])
        }
    }

    fn area(&self) -> f32 {
        (self.0[2] - self.0[0]) * (self.0[3] - self.0[1])
    }

    /// Intersection over union; 0 for boxes without an area.
    fn overlap(&self, other: &Self) -> f32 {
        let height = self.0[2].min(other.0[2]) - self.0[0].max(other.0[0]);
        let width = self.0[3].min(other.0[3]) - self.0[1].max(other.0[1]);
        let intersection = height * width;
        if height <= 0.0 || width <= 0.0 || self.area() <= 0.0 || other.area() <= 0.0 {
            return 0.0;
        }
        intersection / (self.area() + other.area() - intersection)
    }
}

/// An optional number in an input of one element.
fn threshold(ctx: &EvalContext<'_>, idx: usize) -> Result<Option<f32>, OpError> {
    match ctx.input(idx) {
        Some(tensor) => Ok(to_float32(tensor, idx)?.first().copied()),
        None => Ok(None),
    }
}

/// The kept boxes of one class, best first.
fn keep(boxes: &[BoundingBox], scores: &[f32], limit: usize, overlap: f32, score: Option<f32>) -> Vec<usize> {
    let mut candidates: Vec<usize> = (0..boxes.len())
        .filter(|&i| score.is_none_or(|threshold| scores[i] > threshold))
        .collect();
    candidates.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut kept: Vec<usize> = Vec::new();
    for candidate in candidates {
        if kept.len() == limit {
            break;
        }
        let covered = kept
            .iter()
            .any(|&k| boxes[candidate].overlap(&boxes[k]) > overlap);
        if !covered {
            kept.push(candidate);
        }
    }
    kept
}

impl Operator for NonMaxSuppression {
    fn op_type(&self) -> &'static str {
        "NonMaxSuppression"
    }

    fn since_version(&self) -> i64 {
        10
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let shape = vec![open_dim(ctx, 0, 0), SymDim::known(3)];
        Ok(vec![Fact::new(Some(DType::Int64), Some(shape))])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (boxes, scores) = (ctx.require(0)?, ctx.require(1)?);
        let (&[batches, n_boxes, 4], &[score_batches, classes, n_scores]) = (boxes.shape(), scores.shape())
        else {
            return Err(OpError::input(
                0,
                format!(
                    "wrong shape, expected [batches, boxes, 4], got {:?}",
                    boxes.shape()
                ),
            ));
        };
        if (score_batches, n_scores) != (batches, n_boxes) {
            return Err(OpError::input(
                1,
                format!(
                    "does not fit the boxes, expected [{batches}, classes, {n_boxes}], got {:?}",
                    scores.shape()
                ),
            ));
        }
        let limit = match ctx.input(2) {
            Some(limit) => integers(limit, 2)?.first().copied().unwrap_or(0),
            None => 0,
        };
        let limit = usize::try_from(limit).unwrap_or(0);
        let overlap = threshold(ctx, 3)?.unwrap_or(0.0);
        let score = threshold(ctx, 4)?;
        let centered = ctx.int("center_point_box", 0) == 1;
        let (corners, scores) = (to_float32(boxes, 0)?, to_float32(scores, 1)?);
        let mut selected: Vec<i64> = Vec::new();
        for batch in 0..batches {
            let boxes: Vec<BoundingBox> = corners[batch * n_boxes * 4..][..n_boxes * 4]
                .chunks_exact(4)
                .map(|values| BoundingBox::new(values, centered))
                .collect();
            for class in 0..classes {
                let scores = &scores[(batch * classes + class) * n_boxes..][..n_boxes];
                for kept in keep(&boxes, scores, limit, overlap, score) {
                    selected.extend([batch as i64, class as i64, kept as i64]);
                }
            }
        }
        Ok(vec![Tensor::new::<i64>(&[selected.len() / 3, 3], selected)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_boxes_are_dropped() {
        let boxes = [[0.0, 0.0, 1.0, 1.0], [0.0, 0.1, 1.0, 1.1], [0.0, 10.0, 1.0, 11.0]];
        let boxes = boxes.map(|b| BoundingBox::new(&b, false));
        assert_eq!(keep(&boxes, &[0.9, 0.75, 0.8], 3, 0.5, None), [0, 2]);
        assert_eq!(keep(&boxes, &[0.9, 0.75, 0.8], 3, 0.9, Some(0.75)), [0, 2]);
        assert_eq!(keep(&boxes, &[0.9, 0.75, 0.8], 1, 0.5, None), [0]);
    }

    #[test]
    fn corners_may_be_flipped_or_centered() {
        let expected = BoundingBox([0.0, 0.0, 2.0, 4.0]);
        assert_eq!(BoundingBox::new(&[2.0, 4.0, 0.0, 0.0], false), expected);
        assert_eq!(BoundingBox::new(&[2.0, 1.0, 4.0, 2.0], true), expected);
    }
}
