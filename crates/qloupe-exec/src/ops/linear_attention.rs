//! LinearAttention: attention as a recurrence over a state, without a softmax.

use qloupe_kernels::{UnaryKernel, unary_in_place};
use qloupe_tensor::Tensor;
use rayon::prelude::*;

use super::attention_core::{has_products, infer_heads, merge_heads, n_heads, split_heads};
use super::float_tensor::{from_float32, to_float32};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

const PAST: usize = 3;
const DECAY: usize = 4;
const BETA: usize = 5;

/// For each token `s = e^g * s; s = s + k (beta * (v - s^T k))^T; y = scale * q^T s`, by heads.
///
/// `update_rule` says which parts there are: `gated` ones decay by g, `delta` ones subtract what the state has for k and
/// multiply by beta; otherwise `s = s + k v^T`.
///
/// # Numerics
/// The state is float32. A sum over the elements of k is one in-order chain of fused multiply-adds.
#[derive(Debug)]
pub(super) struct LinearAttention;

impl Operator for LinearAttention {
    fn op_type(&self) -> &'static str {
        "LinearAttention"
    }

    fn since_version(&self) -> i64 {
        27
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let heads = |name| ctx.node.int(name);
        let q = ctx
            .shape(0)
            .and_then(|shape| infer_heads(shape, heads("q_num_heads")));
        let v = ctx
            .shape(2)
            .and_then(|shape| infer_heads(shape, heads("kv_num_heads")));
        let (y, state) = match (q, v) {
            (Some([batch, q_heads, length, key_size]), Some([_, heads, _, size])) => (
                Some(vec![batch.clone(), length, q_heads.times(&size)]),
                Some(vec![batch, heads, key_size, size]),
            ),
            _ => (None, None),
        };
        let dtype = ctx.require(0)?.dtype;
        let state_dtype = if ctx.input(PAST).is_some() {
            ctx.dtype(PAST)
        } else {
            dtype
        };
        Ok(vec![Fact::new(dtype, y), Fact::new(state_dtype, state)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let recurrence = Recurrence::new(ctx)?;
        let [batch, heads, length, key_size, size] = recurrence.dims;
        let state_shape = [batch, heads, key_size, size];
        let (mut state, state_dtype) = match ctx.input(PAST) {
            Some(past) if past.shape() == state_shape => (to_float32(past, PAST)?.into_owned(), past.dtype()),
            Some(past) => {
                return Err(OpError::input(
                    PAST,
                    format!("wrong shape, expected {state_shape:?}, got {:?}", past.shape()),
                ));
            }
            None => (vec![0.0; state_shape.iter().product()], ctx.require(0)?.dtype()),
        };
        let per_head = recurrence.group * size;
        let mut y = vec![0.0; batch * heads * length * per_head];
        let of_heads = state.par_chunks_mut((key_size * size).max(1));
        of_heads
            .zip(y.par_chunks_mut((length * per_head).max(1)))
            .enumerate()
            .for_each(|(head, (state, y))| recurrence.run(head, state, y));
        let y = merge_heads(&Tensor::new(&[batch, heads, length, per_head], y)?, 0)?.into_vec()?;
        let shape = [batch, length, heads * per_head];
        Ok(vec![
            from_float32(ctx.require(0)?.dtype(), &shape, y)?,
            from_float32(state_dtype, &state_shape, state)?,
        ])
    }
}

/// The inputs, every one with the tokens of a head of keys in a row.
struct Recurrence {
    /// batch, heads of keys, length, size of keys, size of values
    dims: [usize; 5],
    /// How many heads of queries a head of keys serves.
    group: usize,
    scale: f32,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// e^g, one number for each token or one for each element of its key.
    decay: Option<Vec<f32>>,
    /// One number for each token.
    beta: Option<Vec<f32>>,
}

impl Recurrence {
    fn new(ctx: &EvalContext<'_>) -> Result<Self, OpError> {
        let (gated, delta) = rule_of(ctx)?;
        let (q_heads, heads) = (
            n_heads(ctx.node, "q_num_heads")?,
            n_heads(ctx.node, "kv_num_heads")?,
        );
        if !q_heads.is_multiple_of(heads) {
            return Err(OpError::attribute(
                "q_num_heads",
                format!("does not fit kv_num_heads, expected a multiple of {heads}, got {q_heads}"),
            ));
        }
        // The queries of the heads that one head of keys serves stay together.
        let q = in_heads(ctx, 0, heads)?;
        let (k, v) = (in_heads(ctx, 1, heads)?, in_heads(ctx, 2, heads)?);
        let (batch, length, key_size, size) = (q.shape()[0], q.shape()[2], k.shape()[3], v.shape()[3]);
        let group = q_heads / heads;
        if !has_products(&[batch, q_heads, length, key_size, size]) {
            return Err(OpError::input(2, format!("is too large, got {:?}", v.shape())));
        }
        let expect = |idx: usize, x: &Tensor, size: usize| {
            let expected = [batch, heads, length, size];
            if x.shape() == expected {
                return Ok(());
            }
            Err(OpError::input(
                idx,
                format!("heads do not fit, expected {expected:?}, got {:?}", x.shape()),
            ))
        };
        expect(1, &k, key_size)?;
        expect(2, &v, size)?;
        expect(0, &q, group * key_size)?;
        let optional = |idx, wanted: bool| match (ctx.input(idx), wanted) {
            (Some(_), false) => Err(OpError::input(
                idx,
                "is not part of the update rule, expected nothing",
            )),
            (None, true) => Err(OpError::MissingInput { idx }),
            (x, _) => Ok(x),
        };
        let decay = match optional(DECAY, gated)? {
            Some(_) => {
                let decay = in_heads(ctx, DECAY, heads)?;
                let own = if decay.shape()[3] == 1 { 1 } else { key_size };
                expect(DECAY, &decay, own)?;
                let mut values = values_of(&decay, DECAY)?;
                unary_in_place(UnaryKernel::Exp, &mut values);
                Some(values)
            }
            None => None,
        };
        let beta = match optional(BETA, delta)? {
            Some(beta) if beta.shape() == [batch, length, 1] => {
                let shared = to_float32(beta, BETA)?;
                let rows = shared.chunks(length.max(1));
                Some(rows.flat_map(|row| row.repeat(heads)).collect())
            }
            Some(_) => {
                let beta = in_heads(ctx, BETA, heads)?;
                expect(BETA, &beta, 1)?;
                Some(values_of(&beta, BETA)?)
            }
            None => None,
        };
        let scale = match ctx.float("scale", 0.0) {
            0.0 => (1.0 / (key_size as f64).sqrt()) as f32,
            scale => scale,
        };
        Ok(Self {
            dims: [batch, heads, length, key_size, size],
            group,
            scale,
            q: values_of(&q, 0)?,
            k: values_of(&k, 1)?,
            v: values_of(&v, 2)?,
            decay,
            beta,
        })
    }

    /// All tokens of one head of keys of one batch.
    fn run(&self, head: usize, state: &mut [f32], y: &mut [f32]) {
        let [_, _, length, key_size, size] = self.dims;
        let mut value = vec![0.0; size];
        for (t, y) in y.chunks_exact_mut(self.group * size).enumerate() {
            let token = head * length + t;
            let k = &self.k[token * key_size..][..key_size];
            value.copy_from_slice(&self.v[token * size..][..size]);
            if let Some(decay) = &self.decay {
                let per_token = decay.len() / (self.k.len() / key_size);
                let decay = &decay[token * per_token..][..per_token];
                for (row, decay) in state.chunks_exact_mut(size).zip(decay.iter().cycle()) {
                    row.iter_mut().for_each(|s| *s *= decay);
                }
            }
            if let Some(beta) = &self.beta {
                let known = product(k, state, size);
                for (value, known) in value.iter_mut().zip(known) {
                    *value = beta[token] * (*value - known);
                }
            }
            for (row, &k) in state.chunks_exact_mut(size).zip(k) {
                for (s, &value) in row.iter_mut().zip(&value) {
                    *s = k.mul_add(value, *s);
                }
            }
            let q = &self.q[token * self.group * key_size..][..self.group * key_size];
            for (q, y) in q.chunks_exact(key_size).zip(y.chunks_exact_mut(size)) {
                for (y, sum) in y.iter_mut().zip(product(q, state, size)) {
                    *y = self.scale * sum;
                }
            }
        }
    }
}

/// `x^T * state`
fn product(x: &[f32], state: &[f32], size: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f32; size];
    for (row, &x) in state.chunks_exact(size).zip(x) {
        for (sum, &s) in sums.iter_mut().zip(row) {
            *sum = x.mul_add(s, *sum);
        }
    }
    sums
}

/// Whether the rule has a decay, and whether it subtracts what the state has.
fn rule_of(ctx: &EvalContext<'_>) -> Result<(bool, bool), OpError> {
    match ctx.string("update_rule", "gated_delta") {
        "linear" => Ok((false, false)),
        "gated" => Ok((true, false)),
        "delta" => Ok((false, true)),
        "gated_delta" => Ok((true, true)),
        other => Err(OpError::attribute(
            "update_rule",
            format!("unknown value, expected linear, gated, delta or gated_delta, got \"{other}\""),
        )),
    }
}

fn in_heads(ctx: &EvalContext<'_>, idx: usize, heads: usize) -> Result<Tensor, OpError> {
    split_heads(ctx.require(idx)?, idx, heads)
}

fn values_of(x: &Tensor, idx: usize) -> Result<Vec<f32>, OpError> {
    Ok(to_float32(x, idx)?.into_owned())
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;
    use crate::Layout;

    fn run(rule: &str, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let node = Node::default()
            .with_attribute("q_num_heads", AttributeValue::Int(1))
            .with_attribute("kv_num_heads", AttributeValue::Int(1))
            .with_attribute("update_rule", AttributeValue::String(rule.as_bytes().to_vec()));
        LinearAttention.eval(&EvalContext {
            node: &node,
            opset: 27,
            layout: Layout::Plain,
            inputs,
        })
    }

    #[test]
    fn a_delta_rule_corrects_what_the_state_has() {
        let x = |values: &[f32]| Tensor::new(&[1, values.len(), 1], values.to_vec()).unwrap();
        let (one, v, beta) = (x(&[1.0, 1.0]), x(&[2.0, 6.0]), x(&[1.0, 0.5]));
        let outputs = run(
            "delta",
            &[Some(&one), Some(&one), Some(&v), None, None, Some(&beta)],
        )
        .unwrap();
        assert_eq!(outputs[0], x(&[2.0, 4.0]));
        assert_eq!(outputs[1], Tensor::new(&[1, 1, 1, 1], vec![4_f32]).unwrap());
    }

    #[test]
    fn inputs_follow_the_rule() {
        let x = Tensor::new(&[1, 1, 1], vec![1_f32]).unwrap();
        let all = [Some(&x); 6];
        assert_eq!(
            run("linear", &[Some(&x), Some(&x), Some(&x), None, Some(&x)])
                .unwrap_err()
                .to_string(),
            "input 4: is not part of the update rule, expected nothing"
        );
        assert_eq!(
            run("gated", &all[..3]).unwrap_err().to_string(),
            "input 4 is absent, expected a value"
        );
        assert_eq!(
            run("gated_delta", &all).unwrap_err().to_string(),
            "input 3: wrong shape, expected [1, 1, 1, 1], got [1, 1, 1]"
        );
    }
}
