//! Hardmax: 1 at the first largest element of a row, 0 elsewhere.

use qloupe_tensor::Tensor;

use super::soft_rows::soft_rows;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = 1` where `x` is the first largest element of its row, else 0.
///
/// Below opset 13 the tensor is flattened to two axes at `axis` (1 by default) and a row is a row of that matrix; from
/// then on a row runs along `axis` (the last one by default).
#[derive(Debug)]
pub(super) struct Hardmax;

impl Operator for Hardmax {
    fn op_type(&self) -> &'static str {
        "Hardmax"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        soft_rows(
            ctx,
            |x, n, out| {
                for (x, out) in x.chunks(n).zip(out.chunks_mut(n)) {
                    let mut row: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                    mark_largest(&mut row);
                    for (out, mark) in out.iter_mut().zip(row) {
                        *out = mark as f32;
                    }
                }
            },
            mark_largest,
        )
    }
}

fn mark_largest(row: &mut [f64]) {
    let best = (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    row.fill(0.0);
    if let Some(mark) = row.get_mut(best) {
        *mark = 1.0;
    }
}
