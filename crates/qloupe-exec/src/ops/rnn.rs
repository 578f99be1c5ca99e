//! RNN: the plain recurrent layer.

use qloupe_tensor::Tensor;

use super::recurrent::{Activations, Cell, Recurrent, infer_recurrent};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `h' = f(W x + R h)`.
#[derive(Debug)]
pub(super) struct Rnn;

struct RnnCell<'a>(&'a Activations);

impl Cell for RnnCell<'_> {
    fn step(&mut self, _b: usize, x: &[f32], h_product: &[f32], h: &mut [f32]) {
        for ((h, x), r) in h.iter_mut().zip(x).zip(h_product) {
            *h = x + r;
        }
        self.0.apply(0, h);
    }
}

impl Operator for Rnn {
    fn op_type(&self) -> &'static str {
        "RNN"
    }

    fn since_version(&self) -> i64 {
        7
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_recurrent(ctx, 1)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let layer = Recurrent::new(ctx, 1, &["Tanh"])?;
        layer.run(ctx, |direction| Ok(RnnCell(layer.activations(direction))), |_| ())
    }
}
