//! com.microsoft.MultiHeadAttention: attention of projected queries, keys and values.

use qloupe_tensor::Tensor;

use super::add::Add;
use super::attention_core::{
    after_past, computing, dims_of, has_products, infer_heads, merge_heads, n_heads, probabilities, scores,
    split_heads, weighted,
};
use super::attention_sight::Sight;
use super::cast::cast;
use super::composed::{MICROSOFT, plain};
use super::microsoft_attention::scale_of;
use super::movement::{Run, View, copy_runs};
use super::padding_mask::{Extent, bias_of};
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

const BIAS: usize = 3;
const MASK: usize = 4;
const SCORE_BIAS: usize = 5;
const PAST_KEY: usize = 6;
const PAST_VALUE: usize = 7;
const SHARED_CACHE: [usize; 2] = [8, 9];

/// `y = softmax(scale * q * k^T + mask + bias) * v` for every head; outputs 1 and 2 are keys and values with those of the
/// past before them, output 3 the biased scores.
///
/// # Shapes
/// q: [batch, length, heads * size]; k and v likewise or [batch, heads, length, size]; or q, k and v packed as
/// [batch, length, heads, 3, size]; or k and v packed as [batch, length, heads, 2, size].
/// # Numerics
/// Half types compute in float32 and round at the outputs.
#[derive(Debug)]
pub(super) struct MultiHeadAttention;

impl Operator for MultiHeadAttention {
    fn op_type(&self) -> &'static str {
        "MultiHeadAttention"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let dtype = ctx.require(0)?.dtype;
        let heads = ctx.node.int("num_heads");
        // Packed parts have a shape of rank 5.
        let part = |idx: usize| {
            let packed = (0..=idx).rev().find_map(|idx| ctx.input(idx).map(|_| idx))?;
            match ctx.shape(packed)? {
                [batch, length, heads, _, size] => Some([batch, heads, length, size].map(SymDim::clone)),
                shape => infer_heads(shape, heads),
            }
        };
        let with_past = |part: Option<[SymDim; 4]>, idx| {
            let mut dims = part?;
            if ctx.input(idx).is_some() {
                dims[2] = dims[2].plus(ctx.shape(idx)?.get(2)?);
            }
            Some(dims)
        };
        let (q, k, v) = (
            part(0),
            with_past(part(1), PAST_KEY),
            with_past(part(2), PAST_VALUE),
        );
        let y = q
            .clone()
            .zip(v.clone())
            .map(|([batch, heads, length, _], [.., size])| vec![batch, length, heads.times(&size)]);
        let scores = q
            .zip(k.clone())
            .map(|([batch, heads, queries, _], [_, _, keys, _])| vec![batch, heads, queries, keys]);
        Ok(vec![
            Fact::new(dtype, y),
            Fact::new(dtype, k.map(Vec::from)),
            Fact::new(dtype, v.map(Vec::from)),
            Fact::new(dtype, scores),
        ])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        if SHARED_CACHE.iter().any(|&idx| ctx.input(idx).is_some()) {
            return Err(OpError::Unsupported {
                what: "MultiHeadAttention with a shared cache".to_owned(),
                remedy: ": export the model without past_present_share_buffer".to_owned(),
            });
        }
        let dtype = ctx.require(0)?.dtype();
        let [q, k, v] = parts(ctx, n_heads(ctx.node, "num_heads")?)?;
        let past = |idx: usize| ctx.input(idx).map(|past| computing(past, idx)).transpose();
        let k = after_past(past(PAST_KEY)?.as_ref(), &k, PAST_KEY)?;
        let v = after_past(past(PAST_VALUE)?.as_ref(), &v, PAST_VALUE)?;
        let [batch, _, queries, size] = dims_of(&q, 0)?;
        let keys = dims_of(&k, 1)?[2];
        let n_past = ctx.input(PAST_KEY).map_or(0, |past| past.shape()[2]);
        let sight = Sight {
            bias: bias_of(ctx, MASK, SCORE_BIAS, Extent { batch, queries, keys })?,
            positions: vec![n_past as i64],
            // ONNX Runtime lets a single query see every key.
            ahead: (ctx.int("unidirectional", 0) != 0 && queries > 1).then_some(0),
            ..Sight::default()
        };
        let limited = sight.limit(scores(&q, &k, scale_of(ctx, size))?, SCORE_BIAS)?;
        let y = weighted(&probabilities(&limited, None)?, &v)?;
        let mut outputs = vec![merge_heads(&y, 0)?, k, v];
        if ctx.node.output(3).is_some() {
            outputs.push(limited);
        }
        outputs.iter().map(|output| cast(output, dtype)).collect()
    }
}

/// Heads of queries, keys and values, in the type that computes and with their biases added.
fn parts(ctx: &EvalContext<'_>, heads: usize) -> Result<[Tensor; 3], OpError> {
    let dtype = ctx.require(0)?.dtype();
    let input = |idx: usize| {
        let x = ctx.require(idx)?;
        if x.dtype() == dtype {
            return computing(x, idx);
        }
        Err(OpError::input(
            idx,
            format!("wrong dtype, expected {dtype}, got {}", x.dtype()),
        ))
    };
    let q = input(0)?;
    let parts = match (q.rank(), ctx.input(1).map(Tensor::rank)) {
        (5, _) => [
            unpacked(&q, 0, [heads, 3], 0)?,
            unpacked(&q, 0, [heads, 3], 1)?,
            unpacked(&q, 0, [heads, 3], 2)?,
        ],
        (_, Some(5)) => {
            let k = input(1)?;
            [
                q,
                unpacked(&k, 1, [heads, 2], 0)?,
                unpacked(&k, 1, [heads, 2], 1)?,
            ]
        }
        _ => [q, input(1)?, input(2)?],
    };
    let mut start = 0;
    let mut with_heads = Vec::with_capacity(3);
    for (idx, part) in parts.into_iter().enumerate() {
        // Keys and values in heads come from a cache: they have their bias.
        with_heads.push(match part.rank() {
            4 => part,
            _ => split_heads(&with_bias(ctx, part, idx, &mut start)?, idx, heads)?,
        });
    }
    Ok(<[Tensor; 3]>::try_from(with_heads).expect("invariant: there are three parts"))
}

/// `[batch, length, heads * size]` of one part of `[batch, length, heads, parts, size]`.
fn unpacked(x: &Tensor, idx: usize, [heads, parts]: [usize; 2], part: usize) -> Result<Tensor, OpError> {
    let &[batch, length, n_heads, n_parts, size] = x.shape() else {
        return Err(OpError::input(
            idx,
            format!("wrong rank, expected 3, 4 or 5, got shape {:?}", x.shape()),
        ));
    };
    if (n_heads, n_parts) != (heads, parts) || !has_products(&[batch, length, heads, parts, size]) {
        return Err(OpError::input(
            idx,
            format!(
                "wrong shape, expected [batch, length, {heads}, {parts}, size], got {:?}",
                x.shape()
            ),
        ));
    }
    let strides = [parts * size, 1].map(|stride| stride as isize);
    let view = View::new(part * size, &[batch * length * heads, size], strides.to_vec());
    view.copy(x, &[batch, length, heads * size])
}

/// A part with its bias, which begins at `start` of the bias of all.
fn with_bias(ctx: &EvalContext<'_>, part: Tensor, idx: usize, start: &mut usize) -> Result<Tensor, OpError> {
    let Some(bias) = ctx.input(BIAS) else {
        return Ok(part);
    };
    let columns = part.shape().last().copied().unwrap_or(0);
    let fits = bias.rank() == 1 && start.checked_add(columns).is_some_and(|end| end <= bias.len());
    if !fits {
        return Err(OpError::input(
            BIAS,
            format!(
                "does not fit, expected one number for each column, got {:?}",
                bias.shape()
            ),
        ));
    }
    let own = copy_runs(&[bias], &[columns], [Run::contiguous(*start, columns)])?;
    *start += columns;
    plain(&Add, &[(idx, &part), (BIAS, &computing(&own, BIAS)?)])
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;
    use crate::Layout;

    fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::new(shape, values.to_vec()).unwrap()
    }

    fn run(inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let node = Node::new("MultiHeadAttention", "", &[], &["y"])
            .with_attribute("num_heads", AttributeValue::Int(2))
            .with_attribute("unidirectional", AttributeValue::Int(1));
        MultiHeadAttention.eval(&EvalContext {
            node: &node,
            opset: 1,
            layout: Layout::Plain,
            inputs,
        })
    }

    #[test]
    fn packed_parts_are_the_same_as_separate_ones() {
        let q = tensor(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let k = tensor(&[1, 2, 2], &[0.5, -1.0, 0.0, 2.0]);
        let v = tensor(&[1, 2, 2], &[10.0, 20.0, 30.0, 40.0]);
        let apart = run(&[Some(&q), Some(&k), Some(&v)]).unwrap();
        let qkv = [1.0, 0.5, 10.0, 2.0, -1.0, 20.0, 3.0, 0.0, 30.0, 4.0, 2.0, 40.0];
        assert_eq!(run(&[Some(&tensor(&[1, 2, 2, 3, 1], &qkv))]).unwrap(), apart);
        let kv = tensor(&[1, 2, 2, 2, 1], &[0.5, 10.0, -1.0, 20.0, 0.0, 30.0, 2.0, 40.0]);
        assert_eq!(run(&[Some(&q), Some(&kv)]).unwrap(), apart);
        let in_heads = |x: &Tensor| split_heads(x, 0, 2).unwrap();
        assert_eq!(
            run(&[Some(&q), Some(&in_heads(&k)), Some(&in_heads(&v))]).unwrap(),
            apart
        );
        // The first query sees its own value only.
        assert_eq!(apart[0].as_slice::<f32>().unwrap()[..2], [10.0, 20.0]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let x = tensor(&[1, 1, 2], &[1.0, 2.0]);
        let (bias, packed) = (tensor(&[5], &[0.0; 5]), tensor(&[1, 1, 1, 3, 2], &[0.0; 6]));
        let all = [Some(&x); 9];
        let cases = [
            (
                run(&[Some(&x), Some(&x), Some(&x), Some(&bias)]),
                "input 3: does not fit, expected one number for each column, got [5]",
            ),
            (
                run(&[Some(&packed)]),
                "input 0: wrong shape, expected [batch, length, 2, 3, size], got [1, 1, 1, 3, 2]",
            ),
            (
                run(&all),
                "MultiHeadAttention with a shared cache is not supported: export the model without \
                 past_present_share_buffer",
            ),
            (run(&[Some(&x), Some(&x)]), "input 2 is absent, expected a value"),
            (
                run(&[Some(&tensor(&[2], &[0.0; 2])), Some(&x), Some(&x)]),
                "input 0: wrong rank, expected 3, got shape [2]",
            ),
        ];
        for (result, text) in cases {
            assert_eq!(result.unwrap_err().to_string(), text);
        }
    }
}
