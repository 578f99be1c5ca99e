//! com.microsoft.GroupQueryAttention: causal attention over a cache, with rotary embedding.

use qloupe_tensor::Tensor;

use super::attention_core::{
    capped, computing, dims_of, infer_heads, merge_heads, n_heads, probabilities, scores, split_heads,
    weighted,
};
use super::attention_sight::Sight;
use super::cast::cast;
use super::composed::MICROSOFT;
use super::elementwise::{scalar, widened, wrong_dtype};
use super::microsoft_attention::scale_of;
use super::movement::{Run, View, copy_runs, filled, number};
use super::parameters::integers;
use super::rotation::Rotation;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

const PAST_KEY: usize = 3;
const PAST_VALUE: usize = 4;
const LAST_KEYS: usize = 5;
const TOTAL: usize = 6;
const COSINES: usize = 7;
const POSITIONS: usize = 9;
const SCORE_BIAS: usize = 10;
const SINK: usize = 11;

/// `y = softmax(cap(scale * q * k^T) + bias) * v` for every head; each head of k and v serves as many neighbouring ones of
/// q. Outputs 1 and 2 are the cache with the new keys and values written behind those of the past.
///
/// `seqlens_k` is the number of keys of each batch minus 1, `total_sequence_length` the largest number of keys. If that is
/// the number of queries, there is no past. `head_sink`, or 0 with `smooth_softmax`, is the logit of a key without a value.
/// Rows of the cache behind the keys are 0.
///
/// # Shapes
/// q: [batch, length, heads * size]; k and v likewise, or packed behind q. Cache: [batch, heads, length, size].
/// # Numerics
/// Half types compute in float32 and round in the cache and at the output.
#[derive(Debug)]
pub(super) struct GroupQueryAttention;

impl Operator for GroupQueryAttention {
    fn op_type(&self) -> &'static str {
        "GroupQueryAttention"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let dtype = ctx.require(0)?.dtype;
        let heads = ctx.node.int("num_heads").unwrap_or(1).max(1);
        let kv_heads = ctx.node.int("kv_num_heads").unwrap_or(1).max(1);
        let packed = ctx.input(1).is_none();
        let all = if packed {
            heads.saturating_add(kv_heads.saturating_mul(2))
        } else {
            heads
        };
        let Some([batch, _, length, size]) = ctx.shape(0).and_then(|shape| infer_heads(shape, Some(all)))
        else {
            return Ok(vec![
                Fact::new(dtype, None),
                Fact::new(dtype, None),
                Fact::new(dtype, None),
            ]);
        };
        let columns = size.times(&SymDim::known(heads));
        let past = ctx.shape(PAST_KEY).and_then(|shape| shape.get(2)?.as_known());
        let total = ctx.known_elements(TOTAL).and_then(|list| list.first().copied());
        let absent = ctx.input(PAST_KEY).is_none().then_some(0);
        let cache = past.or(absent).zip(total).map(|(past, total)| {
            vec![
                batch.clone(),
                SymDim::known(kv_heads),
                SymDim::known(past.max(total)),
                size,
            ]
        });
        let cache = Fact::new(dtype, cache);
        Ok(vec![
            Fact::new(dtype, Some(vec![batch, length, columns])),
            cache.clone(),
            cache,
        ])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        refuse_variants(ctx)?;
        let dtype = ctx.require(0)?.dtype();
        let [q, k, v] = parts(ctx)?;
        let steps = Steps::new(ctx, &q)?;
        let (q, k) = rotated(ctx, q, k, &steps)?;
        let present_key = steps.cache(ctx, PAST_KEY, &k)?;
        let present_value = steps.cache(ctx, PAST_VALUE, &v)?;
        let (k, v) = (steps.keys_of(&present_key)?, steps.keys_of(&present_value)?);
        let sight = steps.sight(ctx)?;
        let scores = scores(&computing(&q, 0)?, &k, scale_of(ctx, dims_of(&q, 0)?[3]))?;
        let limited = sight.limit(capped(scores, ctx.float("softcap", 0.0))?, SCORE_BIAS)?;
        let y = weighted(&sunk(ctx, &limited)?, &v)?;
        Ok(vec![
            cast(&merge_heads(&y, 0)?, dtype)?,
            present_key,
            present_value,
        ])
    }
}

fn refuse_variants(ctx: &EvalContext<'_>) -> Result<(), OpError> {
    let is_quantized = ["k_quant_type", "v_quant_type"]
        .iter()
        .any(|name| ctx.string(name, "NONE") != "NONE");
    let variants = [
        (
            is_quantized || ctx.input(12).is_some() || ctx.input(13).is_some(),
            "a quantized cache",
        ),
        (
            ctx.input(14).is_some() || ctx.input(15).is_some(),
            "normalized queries and keys",
        ),
        (ctx.input(16).is_some(), "padded queries"),
        (
            ctx.int("sliding_window_cache", 0) != 0,
            "a cache of the size of its window",
        ),
        (ctx.node.output(3).is_some(), "scores as an output"),
    ];
    match variants.iter().find(|(is_present, _)| *is_present) {
        Some((_, what)) => Err(OpError::unsupported(format!("GroupQueryAttention with {what}"))),
        None => Ok(()),
    }
}

/// Heads of queries, keys and values.
fn parts(ctx: &EvalContext<'_>) -> Result<[Tensor; 3], OpError> {
    let (heads, kv_heads) = (
        n_heads(ctx.node, "num_heads")?,
        n_heads(ctx.node, "kv_num_heads")?,
    );
    let q = ctx.require(0)?;
    if !q.dtype().is_float() {
        return Err(wrong_dtype(0, "float32, float16 or bfloat16", q.dtype()));
    }
    if ctx.input(1).is_some() {
        let part = |idx| split_heads(ctx.require(idx)?, idx, kv_heads);
        return Ok([split_heads(q, 0, heads)?, part(1)?, part(2)?]);
    }
    let all = kv_heads
        .checked_mul(2)
        .and_then(|kv| kv.checked_add(heads))
        .unwrap_or(0);
    let packed = split_heads(q, 0, all)?;
    let [batch, _, length, size] = dims_of(&packed, 0)?;
    let part = |first: usize, n: usize| {
        let runs = (0..batch).map(|b| Run::contiguous((b * all + first) * length * size, n * length * size));
        copy_runs(&[&packed], &[batch, n, length, size], runs)
    };
    Ok([
        part(0, heads)?,
        part(heads, kv_heads)?,
        part(heads + kv_heads, kv_heads)?,
    ])
}

/// Where the new tokens stand.
struct Steps {
    batch: usize,
    /// The number of new tokens.
    new: usize,
    /// The keys before the new ones, of each batch.
    past: Vec<usize>,
    /// The keys with the new ones, of each batch.
    ends: Vec<usize>,
    /// The most keys of a batch.
    total: usize,
}

impl Steps {
    fn new(ctx: &EvalContext<'_>, q: &Tensor) -> Result<Self, OpError> {
        let [batch, _, new, _] = dims_of(q, 0)?;
        let last = integers(ctx.require(LAST_KEYS)?, LAST_KEYS)?;
        let given = i64::from(scalar::<i32>(ctx, TOTAL)?);
        let total = usize::try_from(given).ok().filter(|&total| total >= new);
        let Some(total) = total else {
            return Err(OpError::input(
                TOTAL,
                format!("does not hold the queries, expected at least {new}, got {given}"),
            ));
        };
        let ends: Vec<usize> = last
            .iter()
            .filter_map(|&last| usize::try_from(last.checked_add(1)?).ok())
            .filter(|&end| (1..=total).contains(&end))
            .collect();
        let is_first = total == new;
        let past = ends
            .iter()
            .map(|end| if is_first { Some(0) } else { end.checked_sub(new) });
        match past.collect::<Option<Vec<usize>>>() {
            Some(past) if past.len() == batch && last.len() == batch => Ok(Self {
                batch,
                new,
                past,
                ends,
                total,
            }),
            _ => Err(OpError::input(
                LAST_KEYS,
                format!(
                    "does not fit, expected {batch} numbers from {} to {} (exclusive), got {last:?}",
                    if is_first { 0 } else { new as i64 - 1 },
                    total
                ),
            )),
        }
    }

    /// The past with new keys or values written behind it, in the type of the past.
    fn cache(&self, ctx: &EvalContext<'_>, idx: usize, new: &Tensor) -> Result<Tensor, OpError> {
        let [batch, heads, length, size] = dims_of(new, idx)?;
        let empty = || filled(&number(new.dtype(), 0)?, &[batch, heads, 0, size]);
        let past = ctx.input(idx).map_or_else(empty, |past| Ok(past.clone()))?;
        let room = past.shape().get(2).copied().unwrap_or(0);
        let longest = self.past.iter().copied().max().unwrap_or(0);
        if past.shape() != [batch, heads, room, size]
            || batch != self.batch
            || length != self.new
            || longest > room
        {
            return Err(OpError::input(
                idx,
                format!(
                    "cache does not fit, expected [{}, {heads}, at least {longest}, {size}] and {} new keys, got {:?} \
                     and {length}",
                    self.batch,
                    self.new,
                    past.shape()
                ),
            ));
        }
        let room_after = room.max(self.total);
        let zero = number(new.dtype(), 0)?;
        let runs = (0..batch * heads).flat_map(|head| {
            let kept = self.past[head / heads];
            let rest = room_after - kept - length;
            [
                Run::contiguous(head * room * size, kept * size),
                Run {
                    source: 1,
                    ..Run::contiguous(head * length * size, length * size)
                },
                Run {
                    source: 2,
                    start: 0,
                    stride: 0,
                    len: rest * size,
                },
            ]
        });
        copy_runs(&[&past, new, &zero], &[batch, heads, room_after, size], runs)
    }

    /// The part of a cache that is in use, in the type that computes.
    fn keys_of(&self, cache: &Tensor) -> Result<Tensor, OpError> {
        let [batch, heads, room, size] = dims_of(cache, PAST_KEY)?;
        let strides = [room * size, size, 1].map(|stride| stride as isize);
        let used = View::new(0, &[batch * heads, self.total, size], strides.to_vec());
        computing(&used.copy(cache, &[batch, heads, self.total, size])?, PAST_KEY)
    }

    fn sight(&self, ctx: &EvalContext<'_>) -> Result<Sight, OpError> {
        let dtype = ctx.require(0)?.dtype();
        let is_causal = ctx.int("causal", 1) != 0;
        Ok(Sight {
            bias: ctx
                .input(SCORE_BIAS)
                .map(|_| widened(ctx, SCORE_BIAS, dtype))
                .transpose()?,
            positions: self.past.iter().map(|&past| past as i64).collect(),
            behind: match ctx.int("local_window_size", -1) {
                -1 => None,
                size if size > 0 => Some(size - 1),
                size => {
                    return Err(OpError::attribute(
                        "local_window_size",
                        format!("is no window, expected -1 or at least 1, got {size}"),
                    ));
                }
            },
            ahead: is_causal.then_some(0),
            lengths: (!is_causal).then(|| self.ends.iter().map(|&end| end as i64).collect()),
        })
    }
}

/// Queries and keys, turned by the angles of their positions.
fn rotated(ctx: &EvalContext<'_>, q: Tensor, k: Tensor, steps: &Steps) -> Result<(Tensor, Tensor), OpError> {
    if ctx.int("do_rotary", 0) == 0 {
        return Ok((q, k));
    }
    let interleaved = ctx.int("rotary_interleaved", 0) != 0;
    let rotation = Rotation::new(
        ctx.require(COSINES)?,
        ctx.require(COSINES + 1)?,
        COSINES,
        interleaved,
    )?;
    let rows = match ctx.input(POSITIONS) {
        Some(positions) => rotation.rows_at(positions, POSITIONS, steps.batch * steps.new)?,
        None => {
            let positions = steps.past.iter().flat_map(|&past| past..past + steps.new);
            let row = |position: usize| rotation.row(position as i64, COSINES);
            positions.map(row).collect::<Result<Vec<_>, _>>()?
        }
    };
    Ok((rotation.turn(&q, 0, &rows)?, rotation.turn(&k, 1, &rows)?))
}

/// Probabilities of scores beside a key without a value, if there is one.
fn sunk(ctx: &EvalContext<'_>, scores: &Tensor) -> Result<Tensor, OpError> {
    let [batch, heads, queries, keys] = dims_of(scores, 0)?;
    let sinks = match ctx.input(SINK) {
        Some(sink) if sink.shape() == [heads] => cast(sink, scores.dtype())?,
        Some(sink) => {
            return Err(OpError::input(
                SINK,
                format!("wrong shape, expected [{heads}], got {:?}", sink.shape()),
            ));
        }
        None if ctx.int("smooth_softmax", 0) == 1 => filled(&number(scores.dtype(), 0)?, &[heads])?,
        None => return probabilities(scores, None),
    };
    let with_sink = (0..batch * heads * queries).flat_map(|row| {
        let sink = Run {
            source: 1,
            ..Run::contiguous(row / queries % heads, 1)
        };
        [Run::contiguous(row * keys, keys), sink]
    });
    let wide = copy_runs(&[scores, &sinks], &[batch, heads, queries, keys + 1], with_sink)?;
    let without_sink = (0..batch * heads * queries).map(|row| Run::contiguous(row * (keys + 1), keys));
    copy_runs(&[&probabilities(&wide, None)?], scores.shape(), without_sink)
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;
    use crate::Layout;

    fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::new(shape, values.to_vec()).unwrap()
    }

    fn node() -> Node {
        Node::new("GroupQueryAttention", "", &["q", "k", "v"], &["y", "pk", "pv"])
            .with_attribute("num_heads", AttributeValue::Int(2))
            .with_attribute("kv_num_heads", AttributeValue::Int(1))
    }

    /// Queries of 0, which see all keys alike, and one new key; `last` is `seqlens_k`.
    fn run(node: &Node, last: i32, total: i32, past: &Tensor) -> Result<Vec<Tensor>, OpError> {
        let (q, kv) = (tensor(&[1, 1, 2], &[0.0, 0.0]), tensor(&[1, 1, 1], &[6.0]));
        let (last, total) = (Tensor::vector(vec![last]), Tensor::scalar(total));
        GroupQueryAttention.eval(&EvalContext {
            node,
            opset: 1,
            layout: Layout::Plain,
            inputs: &[
                Some(&q),
                Some(&kv),
                Some(&kv),
                Some(past),
                Some(past),
                Some(&last),
                Some(&total),
            ],
        })
    }

    #[test]
    fn new_keys_are_written_behind_the_past() {
        let past = tensor(&[1, 1, 4, 1], &[1.0, 2.0, 9.0, 9.0]);
        let outputs = run(&node(), 2, 3, &past).unwrap();
        assert_eq!(outputs[0], tensor(&[1, 1, 2], &[3.0, 3.0]));
        assert_eq!(outputs[2], tensor(&[1, 1, 4, 1], &[1.0, 2.0, 6.0, 0.0]));
        let near = node().with_attribute("local_window_size", AttributeValue::Int(2));
        assert_eq!(
            run(&near, 2, 3, &past).unwrap()[0],
            tensor(&[1, 1, 2], &[4.0, 4.0])
        );
        let smooth = node().with_attribute("smooth_softmax", AttributeValue::Int(1));
        assert_eq!(
            run(&smooth, 2, 3, &past).unwrap()[0],
            tensor(&[1, 1, 2], &[2.25, 2.25])
        );
        let first = run(&node(), 0, 1, &past).unwrap();
        assert_eq!(first[0], tensor(&[1, 1, 2], &[6.0, 6.0]));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let past = tensor(&[1, 1, 1, 1], &[1.0]);
        let window = node().with_attribute("sliding_window_cache", AttributeValue::Int(1));
        let cases = [
            (
                run(&node(), 2, 3, &past),
                "input 3: cache does not fit, expected [1, 1, at least 2, 1] and 1 new keys, got [1, 1, 1, 1] and 1",
            ),
            (
                run(&node(), 3, 3, &past),
                "input 5: does not fit, expected 1 numbers from 0 to 3 (exclusive), got [3]",
            ),
            (
                run(&node(), 0, 0, &past),
                "input 6: does not hold the queries, expected at least 1, got 0",
            ),
            (
                run(&window, 0, 1, &past),
                "GroupQueryAttention with a cache of the size of its window is not supported",
            ),
        ];
        for (result, text) in cases {
            assert_eq!(result.unwrap_err().to_string(), text);
        }
    }
}
