//! Attention: scaled dot-product attention with several heads, masks and a cache of keys and values.

use qloupe_ir::Node;
use qloupe_tensor::{DType, Tensor};

use super::attention_core::{
    after_past, capped, computing, dims_of, heads_of, infer_heads, merge_heads, probabilities, scores,
    weighted,
};
use super::attention_sight::{Sight, mask_bias};
use super::cast::cast;
use super::parameters::{dtype_attribute, integers};
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

const MASK: usize = 3;
const PAST_KEY: usize = 4;
const PAST_VALUE: usize = 5;
const LENGTHS: usize = 6;

/// `y = softmax(cap(scale * q * k^T) + mask) * v` for every head.
///
/// With `is_causal` query i sees the keys up to i + the number of keys before the first query: those of the past, or
/// `nonpad_kv_seqlen` minus the queries. A query that sees no key gives 0.
///
/// # Shapes
/// q: [batch, heads, length, size] or [batch, length, heads * size]; k and v likewise, with their own number of heads.
/// # Numerics
/// Half types compute in float32 and round at the outputs.
/// # Source
/// ONNX Attention-25, Attention-24 and Attention-23; the causal window follows the past in all of them.
#[derive(Debug)]
pub(super) struct Attention;

impl Operator for Attention {
    fn op_type(&self) -> &'static str {
        "Attention"
    }

    fn since_version(&self) -> i64 {
        23
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let part = |idx, name| infer_heads(ctx.shape(idx)?, ctx.node.int(name));
        let (q, k, v) = (
            part(0, "q_num_heads"),
            part(1, "kv_num_heads"),
            part(2, "kv_num_heads"),
        );
        let with_past = |part: &Option<[SymDim; 4]>, idx| {
            let mut dims = part.clone()?;
            if ctx.input(idx).is_some() {
                dims[2] = dims[2].plus(ctx.shape(idx)?.get(2)?);
            }
            Some(dims)
        };
        let (present_key, present_value) = (with_past(&k, PAST_KEY), with_past(&v, PAST_VALUE));
        let y = q.clone().zip(v).map(|([batch, heads, length, _], [.., size])| {
            match ctx.shape(0).map(<[SymDim]>::len) {
                Some(3) => vec![batch, length, heads.times(&size)],
                _ => vec![batch, heads, length, size],
            }
        });
        let scores = q
            .zip(present_key.clone())
            .map(|([batch, heads, queries, _], [_, _, keys, _])| vec![batch, heads, queries, keys]);
        let cache = |dims: Option<[SymDim; 4]>| dims.map(Vec::from);
        let dtype = ctx.require(0)?.dtype;
        Ok(vec![
            Fact::new(dtype, y),
            Fact::new(ctx.dtype(1), cache(present_key)),
            Fact::new(ctx.dtype(2), cache(present_value)),
            Fact::new(dtype, scores),
        ])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let dtype = ctx.require(0)?.dtype();
        let q = computing(&heads_of(ctx, 0, "q_num_heads")?, 0)?;
        let present_key = after_past(ctx.input(PAST_KEY), &heads_of(ctx, 1, "kv_num_heads")?, PAST_KEY)?;
        let present_value = after_past(
            ctx.input(PAST_VALUE),
            &heads_of(ctx, 2, "kv_num_heads")?,
            PAST_VALUE,
        )?;
        let k = in_type_of(&present_key, 1, &q)?;
        let v = in_type_of(&present_value, 2, &q)?;
        let [_, _, queries, size] = dims_of(&q, 0)?;
        let sight = sight_of(ctx, queries, dims_of(&k, 1)?[2], q.dtype())?;
        let scale = ctx
            .node
            .float("scale")
            .map_or_else(|| 1.0 / (size as f64).sqrt(), f64::from);
        let mut shown = Shown::new(ctx)?;
        let raw = shown.look(0, scores(&q, &k, scale)?);
        let cap = shown.look(1, capped(raw, ctx.float("softcap", 0.0))?);
        let limited = shown.look(2, sight.limit(cap, MASK)?);
        let precision = dtype_attribute(ctx.node, "softmax_precision")?;
        let probable = shown.look(3, sight.blank(probabilities(&limited, precision)?)?);
        let y = weighted(&probable, &v)?;
        let y = if ctx.require(0)?.rank() == 3 {
            merge_heads(&y, 0)?
        } else {
            y
        };
        let mut outputs = vec![cast(&y, dtype)?, present_key, present_value];
        if let Some(tensor) = shown.tensor {
            outputs.push(cast(&tensor, dtype)?);
        }
        Ok(outputs)
    }
}

/// The stage that output 3 shows, if it is there.
struct Shown {
    stage: Option<i64>,
    tensor: Option<Tensor>,
}

impl Shown {
    fn new(ctx: &EvalContext<'_>) -> Result<Self, OpError> {
        let stage = ctx.int("qk_matmul_output_mode", 0);
        if !(0..=3).contains(&stage) {
            return Err(OpError::attribute(
                "qk_matmul_output_mode",
                format!("unknown value, expected 0 to 3, got {stage}"),
            ));
        }
        Ok(Self {
            stage: ctx.node.output(3).map(|_| stage),
            tensor: None,
        })
    }

    /// Keeps the tensor of the stage.
    fn look(&mut self, stage: i64, tensor: Tensor) -> Tensor {
        if self.stage == Some(stage) {
            self.tensor = Some(tensor.clone());
        }
        tensor
    }
}

fn in_type_of(x: &Tensor, idx: usize, q: &Tensor) -> Result<Tensor, OpError> {
    cast(&computing(x, idx)?, q.dtype())
}

fn sight_of(ctx: &EvalContext<'_>, queries: usize, keys: usize, dtype: DType) -> Result<Sight, OpError> {
    let past = ctx.input(PAST_KEY).map_or(0, |past| past.shape()[2]);
    let lengths = ctx
        .input(LENGTHS)
        .map(|lengths| integers(lengths, LENGTHS))
        .transpose()?;
    if let Some(lengths) = &lengths {
        let batch = ctx.require(0)?.shape()[0];
        if lengths.len() != batch || ctx.input(PAST_KEY).is_some() {
            return Err(OpError::input(
                LENGTHS,
                format!(
                    "does not fit, expected {batch} lengths and no past, got {}",
                    lengths.len()
                ),
            ));
        }
    }
    let positions = match &lengths {
        Some(lengths) => lengths.iter().map(|n| n.saturating_sub(queries as i64)).collect(),
        None => vec![past as i64],
    };
    let bias = ctx
        .input(MASK)
        .map(|mask| mask_bias(mask, MASK, dtype, keys))
        .transpose()?;
    let right = window(ctx.node, "right_window_size")?;
    Ok(Sight {
        bias,
        positions,
        behind: window(ctx.node, "left_window_size")?,
        ahead: if ctx.int("is_causal", 0) != 0 {
            Some(0)
        } else {
            right
        },
        lengths,
    })
}

/// One side of the sliding window; -1 and absence leave it open.
fn window(node: &Node, name: &'static str) -> Result<Option<i64>, OpError> {
    match node.int(name) {
        None | Some(-1) => Ok(None),
        Some(size) if size >= 0 => Ok(Some(size)),
        Some(size) => Err(OpError::attribute(
            name,
            format!("is negative, expected at least -1, got {size}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::AttributeValue;

    use super::*;
    use crate::Layout;

    fn run(node: &Node, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        Attention.eval(&EvalContext {
            node,
            opset: 24,
            layout: Layout::Plain,
            inputs,
        })
    }

    fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::new(shape, values.to_vec()).unwrap()
    }

    #[test]
    fn a_causal_query_sees_the_past_and_itself() {
        let node = Node::new("Attention", "", &["q", "k", "v", "", "pk", "pv"], &["y", "", "v"])
            .with_attribute("is_causal", AttributeValue::Int(1));
        let flat = |n: usize| tensor(&[1, 1, n, 1], &vec![0.0; n]);
        let (past, v) = (tensor(&[1, 1, 1, 1], &[6.0]), tensor(&[1, 1, 2, 1], &[2.0, 1.0]));
        let inputs = [
            Some(&flat(2)),
            Some(&flat(2)),
            Some(&v),
            None,
            Some(&flat(1)),
            Some(&past),
        ];
        let outputs = run(&node, &inputs).unwrap();
        assert_eq!(outputs[0], tensor(&[1, 1, 2, 1], &[4.0, 3.0]));
        assert_eq!(outputs[2], tensor(&[1, 1, 3, 1], &[6.0, 2.0, 1.0]));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        struct Case {
            node: Node,
            q: Tensor,
            lengths: Option<Tensor>,
            text: &'static str,
        }
        let node = Node::new("Attention", "", &["q", "k", "v"], &["y"]);
        let four = tensor(&[1, 1, 1, 2], &[1.0, 2.0]);
        let cases = [
            Case {
                node: node.clone(),
                q: tensor(&[1, 1, 2], &[1.0, 2.0]),
                lengths: None,
                text: "attribute \"q_num_heads\": is no number of heads, expected at least 1, got nothing",
            },
            Case {
                node: node.clone(),
                q: tensor(&[2], &[1.0, 2.0]),
                lengths: None,
                text: "input 0: wrong rank, expected 3 or 4, got shape [2]",
            },
            Case {
                node: node.clone(),
                q: Tensor::new(&[1, 1, 1, 2], vec![1_i64, 2]).unwrap(),
                lengths: None,
                text: "input 0: wrong dtype, expected float32, float64, float16 or bfloat16, got int64",
            },
            Case {
                node: node.clone(),
                q: four.clone(),
                lengths: Some(Tensor::vector(vec![1_i64, 1])),
                text: "input 6: does not fit, expected 1 lengths and no past, got 2",
            },
            Case {
                node: node.with_attribute("left_window_size", AttributeValue::Int(-2)),
                q: four.clone(),
                lengths: None,
                text: "attribute \"left_window_size\": is negative, expected at least -1, got -2",
            },
        ];
        for Case {
            node,
            q,
            lengths,
            text,
        } in cases
        {
            let inputs = [
                Some(&q),
                Some(&four),
                Some(&four),
                None,
                None,
                None,
                lengths.as_ref(),
            ];
            assert_eq!(run(&node, &inputs).unwrap_err().to_string(), text);
        }
    }
}
