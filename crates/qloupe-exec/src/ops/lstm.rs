//! LSTM: long short-term memory.

use qloupe_tensor::Tensor;

use super::float_tensor::to_float32;
use super::recurrent::{Activations, Cell, Recurrent, infer_recurrent};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `i, o, f = s(W x + R h + P * c)`, `c' = f * c + i * g(W x + R h)`, `h' = o * t(c')`; gates in the order i, o, f, c.
#[derive(Debug)]
pub(super) struct Lstm;

struct LstmCell<'a> {
    hidden: usize,
    /// `[batch, hidden]`.
    c: Vec<f32>,
    /// Peepholes for i, o and f.
    peepholes: Option<Vec<f32>>,
    activations: &'a Activations,
    input_forget: bool,
}

impl LstmCell<'_> {
    /// `P * c` added to a gate.
    fn peep(&self, gate: usize, values: &mut [f32], c: &[f32]) {
        if let Some(peepholes) = &self.peepholes {
            let weights = &peepholes[gate * self.hidden..][..self.hidden];
            for ((value, weight), c) in values.iter_mut().zip(weights).zip(c) {
                *value += weight * c;
            }
        }
    }
}

impl Cell for LstmCell<'_> {
    fn step(&mut self, b: usize, x: &[f32], h_product: &[f32], h: &mut [f32]) {
        let n = self.hidden;
        let mut c = self.c[b * n..][..n].to_vec();
        let mut gates: Vec<f32> = x.iter().zip(h_product).map(|(x, r)| x + r).collect();
        let (i, rest) = gates.split_at_mut(n);
        let (o, rest) = rest.split_at_mut(n);
        let (f, candidate) = rest.split_at_mut(n);
        self.peep(0, i, &c);
        self.peep(2, f, &c);
        self.activations.apply(0, i);
        self.activations.apply(0, f);
        self.activations.apply(1, candidate);
        for k in 0..n {
            let forget = if self.input_forget { 1.0 - i[k] } else { f[k] };
            c[k] = forget * c[k] + i[k] * candidate[k];
        }
        self.peep(1, o, &c);
        self.activations.apply(0, o);
        self.c[b * n..][..n].copy_from_slice(&c);
        self.activations.apply_unclipped(2, &mut c);
        for k in 0..n {
            h[k] = o[k] * c[k];
        }
    }
}

impl Operator for Lstm {
    fn op_type(&self) -> &'static str {
        "LSTM"
    }

    fn since_version(&self) -> i64 {
        7
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_recurrent(ctx, 2)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        run_lstm(ctx, &Recurrent::new(ctx, N_GATES, ACTIVATIONS)?)
    }
}

/// The gates of an LSTM.
pub(super) const N_GATES: usize = 4;

/// The activations of an LSTM without the attribute.
pub(super) const ACTIVATIONS: &[&str] = &["Sigmoid", "Tanh", "Tanh"];

/// Walks over time; peepholes and the initial cell state come from the inputs of LSTM.
///
/// # Errors
/// Peepholes or states that do not fit.
pub(super) fn run_lstm(ctx: &EvalContext<'_>, layer: &Recurrent) -> Result<Vec<Tensor>, OpError> {
    let state = layer.state(ctx, 6)?;
    let (n, per_direction) = (layer.hidden, layer.batch * layer.hidden);
    let peepholes = match ctx.input(7) {
        Some(p) if p.shape().last() == Some(&(3 * n)) && p.len() * layer.batch == 3 * state.len() => {
            Some(to_float32(p, 7)?)
        }
        Some(p) => {
            return Err(OpError::input(
                7,
                format!(
                    "wrong shape, expected [directions, {}], got {:?}",
                    3 * n,
                    p.shape()
                ),
            ));
        }
        None => None,
    };
    let mut last_c: Vec<f32> = Vec::with_capacity(state.len());
    let cell_of = |direction: usize| {
        Ok(LstmCell {
            hidden: n,
            c: state[direction * per_direction..][..per_direction].to_vec(),
            peepholes: peepholes
                .as_ref()
                .map(|p| p[direction * 3 * n..][..3 * n].to_vec()),
            activations: layer.activations(direction),
            input_forget: ctx.int("input_forget", 0) != 0,
        })
    };
    let mut outputs = layer.run(ctx, cell_of, |cell| last_c.extend(cell.c))?;
    outputs.push(layer.state_tensor(ctx, last_c)?);
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;
    use qloupe_ir::Node;

    #[test]
    fn zero_weights_halve_the_cell() {
        // All gates are sigmoid(0) = 0.5 and the candidate is tanh(0) = 0, so c' = c / 2.
        let zeros = |shape: &[usize]| Tensor::new(shape, vec![0_f32; shape.iter().product()]).unwrap();
        let (x, w, r) = (zeros(&[1, 1, 2]), zeros(&[1, 4, 2]), zeros(&[1, 4, 1]));
        let c = Tensor::new(&[1, 1, 1], vec![3_f32]).unwrap();
        let node = Node::default();
        let ctx = EvalContext {
            node: &node,
            opset: 22,
            layout: Layout::Plain,
            inputs: &[Some(&x), Some(&w), Some(&r), None, None, None, Some(&c)],
        };
        let y = Lstm.eval(&ctx).unwrap();
        assert_eq!(y[2].as_slice::<f32>().unwrap(), [1.5]);
        assert_eq!((y[0].shape(), y[1].shape()), (&[1, 1, 1, 1][..], &[1, 1, 1][..]));
    }
}
