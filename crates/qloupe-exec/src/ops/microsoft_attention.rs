//! com.microsoft.Attention: attention with the projection of queries, keys and values.

use qloupe_ir::Node;
use qloupe_kernels::GemmF32;
use qloupe_tensor::{DType, Tensor};

use super::attention_core::{
    after_past, computing, dims_of, has_products, merge_heads, n_heads, probabilities, scores, split_heads,
    weighted,
};
use super::attention_sight::Sight;
use super::cast::cast;
use super::composed::MICROSOFT;
use super::float_tensor::to_float32;
use super::movement::{Run, View, copy_runs};
use super::padding_mask::{Extent, bias_of};
use super::parameters::require_rank;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, PrepareContext, Prepared, SymDim};

const WEIGHT: usize = 1;
const BIAS: usize = 2;
const MASK: usize = 3;
const PAST: usize = 4;
const SCORE_BIAS: usize = 5;
const PAST_LENGTH: usize = 6;

/// `y = softmax(scale * q * k^T + mask) * v` for every head, with `[q, k, v] = x * w + b`.
///
/// Output 1 is keys and values with those of the past before them, `[2, batch, heads, length, size]`.
///
/// # Numerics
/// Half types compute in float32 and round at the outputs.
#[derive(Debug)]
pub(super) struct Attention;

impl Operator for Attention {
    fn op_type(&self) -> &'static str {
        "Attention"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let dtype = ctx.require(0)?.dtype;
        let (Some([batch, length, _]), Some([_, columns])) = (ctx.shape(0), ctx.shape(WEIGHT)) else {
            return Ok(vec![Fact::new(dtype, None), Fact::new(dtype, None)]);
        };
        let hidden = match ctx.node.ints("qkv_hidden_sizes") {
            Some(&[_, _, hidden]) => SymDim::known(hidden),
            _ => columns.floor_div(&SymDim::known(3)),
        };
        let total = match (ctx.input(PAST).is_some(), ctx.shape(PAST)) {
            (false, _) => Some(length.clone()),
            (true, Some([_, _, _, past, _])) => Some(past.plus(length)),
            _ => None,
        };
        let heads = SymDim::known(ctx.node.int("num_heads").unwrap_or(1).max(1));
        let present = total.map(|total| {
            vec![
                SymDim::known(2),
                batch.clone(),
                heads.clone(),
                total,
                hidden.floor_div(&heads),
            ]
        });
        let y = Fact::new(dtype, Some(vec![batch.clone(), length.clone(), hidden]));
        Ok(vec![y, Fact::new(dtype, present)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        Projection::new(ctx.node, ctx.require(WEIGHT)?, ctx.input(BIAS))?.eval(ctx)
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let constant = |idx: usize| ctx.constants.get(idx).and_then(Option::as_ref);
        let computed_bias = ctx.node.input(BIAS).is_some() && constant(BIAS).is_none();
        let Some(weight) = constant(WEIGHT).filter(|_| !computed_bias) else {
            return Ok(None);
        };
        Ok(Some(Box::new(Projection::new(ctx.node, weight, constant(BIAS))?)))
    }
}

/// The matrix of the projections, packed.
#[derive(Debug)]
struct Projection {
    gemm: GemmF32,
    rows: usize,
    /// The columns of queries, of keys and of values.
    columns: [usize; 3],
}

impl Projection {
    fn new(node: &Node, weight: &Tensor, bias: Option<&Tensor>) -> Result<Self, OpError> {
        require_rank(weight, WEIGHT, 2)?;
        let (rows, all) = (weight.shape()[0], weight.shape()[1]);
        let third = || vec![(all / 3) as i64; 3];
        let given = node.ints("qkv_hidden_sizes").map_or_else(third, <[i64]>::to_vec);
        let sizes: Vec<usize> = given.iter().filter_map(|&n| usize::try_from(n).ok()).collect();
        let columns = <[usize; 3]>::try_from(sizes)
            .ok()
            .filter(|[q, k, v]| q == k && q.checked_add(*k).and_then(|n| n.checked_add(*v)) == Some(all))
            .ok_or_else(|| {
                OpError::attribute(
                    "qkv_hidden_sizes",
                    format!(
                        "does not fit the weight, expected three sizes with a sum of {all}, got {given:?}"
                    ),
                )
            })?;
        let bias = match bias {
            Some(bias) if bias.shape() == [all] => Some(to_float32(bias, BIAS)?),
            Some(bias) => {
                return Err(OpError::input(
                    BIAS,
                    format!("wrong shape, expected [{all}], got {:?}", bias.shape()),
                ));
            }
            None => None,
        };
        Ok(Self {
            gemm: GemmF32::new(&to_float32(weight, WEIGHT)?, rows, all, bias.as_deref()),
            rows,
            columns,
        })
    }

    /// Heads of queries, keys and values.
    fn heads(&self, x: &Tensor, heads: usize) -> Result<[Tensor; 3], OpError> {
        require_rank(x, 0, 3)?;
        let (batch, length) = (x.shape()[0], x.shape()[1]);
        let all: usize = self.columns.iter().sum();
        if x.shape()[2] != self.rows || !has_products(&[batch, length, all]) {
            return Err(OpError::input(
                0,
                format!(
                    "does not fit the weight, expected {} columns, got {:?}",
                    self.rows,
                    x.shape()
                ),
            ));
        }
        let mut values = vec![0.0; batch * length * all];
        self.gemm.run(&to_float32(x, 0)?, batch * length, &mut values);
        let projected = Tensor::new(&[batch, length, all], values)?;
        heads_of_projection(&projected, self.columns, heads)
    }
}

/// Heads of queries, keys and values of a projection `[batch, length, columns]`, given the columns of each.
///
/// # Errors
/// Columns that the heads do not divide.
pub(super) fn heads_of_projection(
    projected: &Tensor,
    columns: [usize; 3],
    heads: usize,
) -> Result<[Tensor; 3], OpError> {
    let all: usize = columns.iter().sum();
    let (batch, length) = (projected.shape()[0], projected.shape()[1]);
    let part = |idx: usize| {
        let start = columns[..idx].iter().sum();
        let strides = [length * all, all, 1].map(|stride| stride as isize);
        let shape = [batch, length, columns[idx]];
        let part = View::new(start, &shape, strides.to_vec()).copy(projected, &shape)?;
        split_heads(&part, WEIGHT, heads)
    };
    Ok([part(0)?, part(1)?, part(2)?])
}

impl Prepared for Projection {
    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        if ctx.int("do_rotary", 0) != 0 || ctx.input(PAST_LENGTH).is_some() {
            return Err(OpError::Unsupported {
                what: "Attention with rotary embedding or a shared cache".to_owned(),
                remedy: ": export the model with GroupQueryAttention".to_owned(),
            });
        }
        let heads = self.heads(ctx.require(0)?, n_heads(ctx.node, "num_heads")?)?;
        let inputs = AttentionInputs {
            mask: MASK,
            past: PAST,
            score_bias: SCORE_BIAS,
        };
        attend(ctx, heads, inputs, ctx.require(0)?.dtype())
    }
}

/// Which inputs of the node hold what; an index beyond the inputs is an absent one.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttentionInputs {
    pub(super) mask: usize,
    pub(super) past: usize,
    pub(super) score_bias: usize,
}

/// The outputs of an attention, of type `dtype`, from heads of queries, keys and values.
///
/// # Errors
/// A mask, bias or past that does not fit.
pub(super) fn attend(
    ctx: &EvalContext<'_>,
    [q, k, v]: [Tensor; 3],
    inputs: AttentionInputs,
    dtype: DType,
) -> Result<Vec<Tensor>, OpError> {
    let (past_key, past_value) = match ctx.input(inputs.past) {
        Some(past) => (
            Some(half(past, inputs.past, 0)?),
            Some(half(past, inputs.past, 1)?),
        ),
        None => (None, None),
    };
    let k = after_past(past_key.as_ref(), &k, inputs.past)?;
    let v = after_past(past_value.as_ref(), &v, inputs.past)?;
    let [batch, _, queries, size] = dims_of(&q, 0)?;
    let keys = dims_of(&k, inputs.past)?[2];
    let sight = Sight {
        bias: bias_of(
            ctx,
            inputs.mask,
            inputs.score_bias,
            Extent { batch, queries, keys },
        )?,
        positions: vec![(keys - queries) as i64],
        ahead: (ctx.int("unidirectional", 0) != 0).then_some(0),
        ..Sight::default()
    };
    let limited = sight.limit(scores(&q, &k, scale_of(ctx, size))?, inputs.score_bias)?;
    let y = weighted(&probabilities(&limited, None)?, &v)?;
    let mut outputs = vec![cast(&merge_heads(&y, 0)?, dtype)?];
    if ctx.node.output(1).is_some() {
        outputs.push(cast(&stacked(&k, &v)?, dtype)?);
    }
    Ok(outputs)
}

/// The attribute `scale`; 0 and absence are `1 / sqrt(size)`.
pub(super) fn scale_of(ctx: &EvalContext<'_>, size: usize) -> f64 {
    match ctx.float("scale", 0.0) {
        0.0 => 1.0 / (size as f64).sqrt(),
        scale => f64::from(scale),
    }
}

/// Keys (0) or values (1) of the past, in the type that computes.
fn half(past: &Tensor, idx: usize, which: usize) -> Result<Tensor, OpError> {
    let &[2, batch, heads, length, size] = past.shape() else {
        return Err(OpError::input(
            idx,
            format!(
                "wrong shape, expected [2, batch, heads, length, size], got {:?}",
                past.shape()
            ),
        ));
    };
    let n = past.len() / 2;
    let half = copy_runs(
        &[past],
        &[batch, heads, length, size],
        [Run::contiguous(which * n, n)],
    )?;
    computing(&half, idx)
}

/// Keys and values as one tensor.
fn stacked(k: &Tensor, v: &Tensor) -> Result<Tensor, OpError> {
    if k.shape() != v.shape() {
        return Err(OpError::attribute(
            "qkv_hidden_sizes",
            format!(
                "keys and values of one size make a cache, expected {:?}, got {:?}",
                k.shape(),
                v.shape()
            ),
        ));
    }
    let shape = [&[2], k.shape()].concat();
    let run = |source| Run {
        source,
        ..Run::contiguous(0, k.len())
    };
    copy_runs(&[k, v], &shape, [run(0), run(1)])
}

#[cfg(test)]
mod tests {
    use qloupe_ir::AttributeValue;

    use super::*;
    use crate::Layout;

    fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::new(shape, values.to_vec()).unwrap()
    }

    fn run(node: &Node, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        Attention.eval(&EvalContext {
            node,
            opset: 1,
            layout: Layout::Plain,
            inputs,
        })
    }

    #[test]
    fn a_projection_with_a_past() {
        let node = Node::new("Attention", "", &["x", "w", "b", "", "p"], &["y", "present"])
            .with_attribute("num_heads", AttributeValue::Int(1))
            .with_attribute("unidirectional", AttributeValue::Int(1));
        // q = k = 0, v = x + 1: every query sees the mean of the values up to its own.
        let (x, weight) = (tensor(&[1, 2, 1], &[2.0, 1.0]), tensor(&[1, 3], &[0.0, 0.0, 1.0]));
        let (bias, past) = (
            tensor(&[3], &[0.0, 0.0, 1.0]),
            tensor(&[2, 1, 1, 1, 1], &[5.0, 7.0]),
        );
        let outputs = run(&node, &[Some(&x), Some(&weight), Some(&bias), None, Some(&past)]).unwrap();
        assert_eq!(outputs[0], tensor(&[1, 2, 1], &[5.0, 4.0]));
        assert_eq!(
            outputs[1],
            tensor(&[2, 1, 1, 3, 1], &[5.0, 0.0, 0.0, 7.0, 3.0, 2.0])
        );
        let masked = Tensor::new(&[1, 2], vec![1_i32, 0]).unwrap();
        let outputs = run(&node, &[Some(&x), Some(&weight), None, Some(&masked)]).unwrap();
        assert_eq!(outputs[0], tensor(&[1, 2, 1], &[2.0, 2.0]));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let node = Node::default().with_attribute("num_heads", AttributeValue::Int(1));
        let (x, weight) = (tensor(&[1, 1, 1], &[1.0]), tensor(&[1, 3], &[0.0; 3]));
        let shared = [Some(&x), Some(&weight), None, None, None, None, Some(&x)];
        let sizes = node.clone().with_attribute(
            "qkv_hidden_sizes",
            AttributeValue::Ints(vec![i64::MAX, i64::MAX, 5]),
        );
        let cases = [
            (
                run(&node, &[Some(&x), Some(&tensor(&[1, 4], &[0.0; 4]))]),
                "attribute \"qkv_hidden_sizes\": does not fit the weight, expected three sizes with a sum of 4, got \
                 [1, 1, 1]",
            ),
            (
                run(&sizes, &[Some(&x), Some(&weight)]),
                "attribute \"qkv_hidden_sizes\": does not fit the weight, expected three sizes with a sum of 3, got \
                 [9223372036854775807, 9223372036854775807, 5]",
            ),
            (
                run(&node, &[Some(&x), Some(&weight), Some(&x)]),
                "input 2: wrong shape, expected [3], got [1, 1, 1]",
            ),
            (
                run(&node, &[Some(&x), Some(&weight), None, None, Some(&x)]),
                "input 4: wrong shape, expected [2, batch, heads, length, size], got [1, 1, 1]",
            ),
            (
                run(&node, &shared),
                "Attention with rotary embedding or a shared cache is not supported: export the model with \
                 GroupQueryAttention",
            ),
            (
                run(&node, &[Some(&tensor(&[1, 2], &[0.0; 2])), Some(&weight)]),
                "input 0: wrong rank, expected 3, got shape [1, 2]",
            ),
        ];
        for (result, text) in cases {
            assert_eq!(result.unwrap_err().to_string(), text);
        }
    }
}
