//! GRU: gated recurrent units.

use qloupe_kernels::GemmF32;
use qloupe_tensor::Tensor;

use super::recurrent::{Activations, Cell, Recurrent, infer_recurrent};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `z, r = s(W x + R h)`, `n = g(W x + R (r * h))`, or with `linear_before_reset` `g(W x + r * (R h))`;
/// `h' = (1 - z) * n + z * h`. Gates in the order z, r, h.
#[derive(Debug)]
pub(super) struct Gru;

struct GruCell<'a> {
    hidden: usize,
    activations: &'a Activations,
    /// The recurrence of the candidate, where the reset comes before it.
    candidate: Option<GemmF32>,
}

impl Cell for GruCell<'_> {
    fn step(&mut self, _b: usize, x: &[f32], h_product: &[f32], h: &mut [f32]) {
        let n = self.hidden;
        let mut gates: Vec<f32> = x.iter().zip(h_product).take(2 * n).map(|(x, r)| x + r).collect();
        let (z, r) = gates.split_at_mut(n);
        self.activations.apply(0, z);
        self.activations.apply(0, r);
        let mut recurrence = vec![0.0; n];
        match &self.candidate {
            Some(gemm) => {
                let reset: Vec<f32> = r.iter().zip(&*h).map(|(r, h)| r * h).collect();
                gemm.run(&reset, 1, &mut recurrence);
            }
            None => {
                for k in 0..n {
                    recurrence[k] = r[k] * h_product[2 * n + k];
                }
            }
        }
        let mut candidate: Vec<f32> = x[2 * n..].iter().zip(&recurrence).map(|(x, r)| x + r).collect();
        self.activations.apply(1, &mut candidate);
        for k in 0..n {
            h[k] = (1.0 - z[k]) * candidate[k] + z[k] * h[k];
        }
    }
}

impl Operator for Gru {
    fn op_type(&self) -> &'static str {
        "GRU"
    }

    fn since_version(&self) -> i64 {
        7
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_recurrent(ctx, 1)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let layer = Recurrent::new(ctx, 3, &["Sigmoid", "Tanh"])?;
        let reset_first = ctx.int("linear_before_reset", 0) == 0;
        let cell_of = |direction: usize| {
            Ok(GruCell {
                hidden: layer.hidden,
                activations: layer.activations(direction),
                candidate: if reset_first {
                    layer.recurrence(direction, 2..3)
                } else {
                    None
                },
            })
        };
        layer.run(ctx, cell_of, |_| ())
    }
}
