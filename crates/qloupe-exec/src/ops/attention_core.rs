//! Scaled dot-product attention over heads: what Attention, MultiHeadAttention and their kin share.
//!
//! Queries, keys and values are `[batch, heads, length, size]` in a type that computes, float32 or float64. What a
//! query sees is in `attention_sight`; where the parts come from is in the files of the operators.

use qloupe_ir::{AttributeValue, Node};
use qloupe_kernels::{UnaryKernel, unary_in_place};
use qloupe_tensor::{DType, Tensor, n_elements};

use super::cast::{cast, computing_dtype};
use super::composed::with_attributes;
use super::concat::Concat;
use super::elementwise::{FLOATS, map, wrong_dtype};
use super::mat_mul::multiply;
use super::movement::View;
use super::softmax::softmax_rows_of;
use crate::{EvalContext, OpError, SymDim};

/// `[batch, heads, length, size]` of an input of that shape, or of shape `[batch, length, heads * size]`.
///
/// # Errors
/// An absent input, another rank, a last dimension that the number of heads does not divide.
pub(super) fn heads_of(
    ctx: &EvalContext<'_>,
    idx: usize,
    attribute: &'static str,
) -> Result<Tensor, OpError> {
    let x = ctx.require(idx)?;
    match x.rank() {
        4 => Ok(x.clone()),
        3 => split_heads(x, idx, n_heads(ctx.node, attribute)?),
        _ => Err(OpError::input(
            idx,
            format!("wrong rank, expected 3 or 4, got shape {:?}", x.shape()),
        )),
    }
}

/// The attribute that counts heads.
///
/// # Errors
/// It is absent or not positive.
pub(super) fn n_heads(node: &Node, attribute: &'static str) -> Result<usize, OpError> {
    let heads = node.int(attribute);
    heads
        .and_then(|heads| usize::try_from(heads).ok())
        .filter(|&heads| heads > 0)
        .ok_or_else(|| {
            let got = heads.map_or_else(|| "nothing".to_owned(), |heads| heads.to_string());
            OpError::attribute(
                attribute,
                format!("is no number of heads, expected at least 1, got {got}"),
            )
        })
}

/// `[batch, length, heads * size]` as `[batch, heads, length, size]`.
///
/// # Errors
/// Another rank, a last dimension that the number of heads does not divide.
pub(super) fn split_heads(x: &Tensor, idx: usize, heads: usize) -> Result<Tensor, OpError> {
    let &[batch, length, hidden] = x.shape() else {
        return Err(OpError::input(
            idx,
            format!("wrong rank, expected 3, got shape {:?}", x.shape()),
        ));
    };
    if heads == 0 || !hidden.is_multiple_of(heads) {
        return Err(OpError::input(
            idx,
            format!("does not split into heads, expected a multiple of {heads} columns, got {hidden}"),
        ));
    }
    let size = hidden / heads;
    View::transposed(&[batch, length, heads, size], &[0, 2, 1, 3]).copy(x, &[batch, heads, length, size])
}

/// `[batch, heads, length, size]` as `[batch, length, heads * size]`.
///
/// # Errors
/// Another rank.
pub(super) fn merge_heads(x: &Tensor, idx: usize) -> Result<Tensor, OpError> {
    let [batch, heads, length, size] = dims_of(x, idx)?;
    View::transposed(x.shape(), &[0, 2, 1, 3]).copy(x, &[batch, length, heads * size])
}

/// The four dimensions of a tensor of heads. Every product of some of them is a size.
///
/// # Errors
/// Another rank, dimensions with a product that is no size beside one that is 0.
pub(super) fn dims_of(x: &Tensor, idx: usize) -> Result<[usize; 4], OpError> {
    x.shape().try_into().map_err(|_| {
        OpError::input(
            idx,
            format!(
                "wrong shape, expected [batch, heads, length, size], got {:?}",
                x.shape()
            ),
        )
    })
}

/// Whether every product of some of the dimensions is a size, although one of them may be 0.
pub(super) fn has_products<const N: usize>(dims: &[usize; N]) -> bool {
    n_elements(dims).is_some()
}

/// Keys or values with those of the past before them.
///
/// # Errors
/// Shapes that differ outside the length.
pub(super) fn after_past(past: Option<&Tensor>, new: &Tensor, idx: usize) -> Result<Tensor, OpError> {
    let Some(past) = past else {
        return Ok(new.clone());
    };
    let along_length = Node::default().with_attribute("axis", AttributeValue::Int(2));
    with_attributes(&Concat, &along_length, &[(idx, past), (idx, new)]).map_err(|_| {
        OpError::input(
            idx,
            format!(
                "does not fit the new part, expected {} of {:?} but for the length, got {} of {:?}",
                new.dtype(),
                new.shape(),
                past.dtype(),
                past.shape()
            ),
        )
    })
}

/// A floating-point tensor in the type it computes in.
///
/// # Errors
/// Another dtype.
pub(super) fn computing(x: &Tensor, idx: usize) -> Result<Tensor, OpError> {
    if x.dtype().is_float() {
        cast(x, computing_dtype(x.dtype()))
    } else {
        Err(wrong_dtype(idx, FLOATS, x.dtype()))
    }
}

/// `scale * q * k^T` as `[batch, heads, queries, keys]`. Each head of k serves as many neighbouring heads of q.
///
/// # Errors
/// Inputs that are no heads of one batch and size, a number of heads of q that those of k do not divide.
pub(super) fn scores(q: &Tensor, k: &Tensor, scale: f64) -> Result<Tensor, OpError> {
    let [batch, heads, queries, size] = dims_of(q, 0)?;
    let [k_batch, k_heads, keys, k_size] = dims_of(k, 1)?;
    if (k_batch, k_size) != (batch, size) || !heads.is_multiple_of(k_heads) {
        return Err(OpError::input(
            1,
            format!(
                "keys do not fit the queries, expected batch {batch}, size {size} and a divisor of {heads} heads, got \
                 {:?}",
                k.shape()
            ),
        ));
    }
    let grouped = [batch, k_heads, heads / k_heads.max(1), queries, size];
    let q = each_float(q.clone(), |v| v * scale as f32, |v| v * scale)?.reshape(&grouped)?;
    let k = View::transposed(k.shape(), &[0, 1, 3, 2]).copy(k, &[batch, k_heads, 1, size, keys])?;
    Ok(multiply(&q, &k)?.reshape(&[batch, heads, queries, keys])?)
}

/// `cap * tanh(scores / cap)`; a cap of 0 caps nothing.
///
/// # Errors
/// A negative cap.
pub(super) fn capped(scores: Tensor, cap: f32) -> Result<Tensor, OpError> {
    if cap == 0.0 {
        return Ok(scores);
    }
    if cap.is_nan() || cap < 0.0 {
        return Err(OpError::attribute(
            "softcap",
            format!("is negative, expected at least 0, got {cap}"),
        ));
    }
    let shape = scores.shape().to_vec();
    if scores.dtype() == DType::Float64 {
        let cap = f64::from(cap);
        return each_float(scores, |v| v, |v| cap * (v / cap).tanh());
    }
    let mut values = scores.into_vec::<f32>()?;
    values.iter_mut().for_each(|v| *v /= cap);
    unary_in_place(UnaryKernel::Tanh, &mut values);
    values.iter_mut().for_each(|v| *v *= cap);
    Ok(Tensor::new(&shape, values)?)
}

/// The softmax of every row of scores, with the scores rounded to `precision` before and the result after.
///
/// # Errors
/// A precision that is not floating-point.
pub(super) fn probabilities(scores: &Tensor, precision: Option<DType>) -> Result<Tensor, OpError> {
    let Some(precision) = precision else {
        return softmax_rows_of(scores);
    };
    if !precision.is_float() {
        return Err(OpError::attribute(
            "softmax_precision",
            format!("wrong dtype, expected {FLOATS}, got {precision}"),
        ));
    }
    let rounded = cast(&cast(scores, precision)?, computing_dtype(precision))?;
    let rows = cast(&softmax_rows_of(&rounded)?, precision)?;
    cast(&rows, scores.dtype())
}

/// `probabilities * v` as `[batch, heads, queries, size]`.
///
/// # Errors
/// Values that do not fit the keys.
pub(super) fn weighted(probabilities: &Tensor, v: &Tensor) -> Result<Tensor, OpError> {
    let [batch, heads, queries, keys] = dims_of(probabilities, 0)?;
    let [v_batch, v_heads, v_keys, size] = dims_of(v, 2)?;
    if (v_batch, v_keys) != (batch, keys) || !heads.is_multiple_of(v_heads) {
        return Err(OpError::input(
            2,
            format!(
                "values do not fit the keys, expected batch {batch}, length {keys} and a divisor of {heads} heads, got \
                 {:?}",
                v.shape()
            ),
        ));
    }
    let grouped = [batch, v_heads, heads / v_heads.max(1), queries, keys];
    let p = probabilities.clone().reshape(&grouped)?;
    let v = v.clone().reshape(&[batch, v_heads, 1, keys, size])?;
    Ok(multiply(&p, &v)?.reshape(&[batch, heads, queries, size])?)
}

fn each_float(
    x: Tensor,
    narrow: impl Fn(f32) -> f32 + Sync,
    wide: impl Fn(f64) -> f64 + Sync,
) -> Result<Tensor, OpError> {
    Ok(match x.as_slice::<f32>() {
        Some(values) => Tensor::new(x.shape(), map(values, narrow))?,
        None => Tensor::new(x.shape(), map(x.require::<f64>()?, wide))?,
    })
}

/// What is known of `[batch, heads, length, size]`, given a shape of rank 3 or 4.
pub(super) fn infer_heads(shape: &[SymDim], heads: Option<i64>) -> Option<[SymDim; 4]> {
    match shape {
        [batch, heads, length, size] => Some([batch, heads, length, size].map(SymDim::clone)),
        [batch, length, hidden] => {
            let heads = SymDim::known(heads.filter(|&h| h > 0)?);
            Some([
                batch.clone(),
                heads.clone(),
                length.clone(),
                hidden.floor_div(&heads),
            ])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::new(shape, (0..n).map(|i| i as f32).collect()).unwrap()
    }

    #[test]
    fn heads_are_split_and_merged() {
        let x = tensor(&[1, 2, 4]);
        let heads = split_heads(&x, 0, 2).unwrap();
        assert_eq!(heads.shape(), [1, 2, 2, 2]);
        assert_eq!(
            heads.as_slice::<f32>().unwrap(),
            [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]
        );
        assert_eq!(merge_heads(&heads, 0).unwrap(), x);
        assert_eq!(
            split_heads(&x, 1, 3).unwrap_err().to_string(),
            "input 1: does not split into heads, expected a multiple of 3 columns, got 4"
        );
    }

    #[test]
    fn a_head_of_keys_serves_several_heads_of_queries() {
        let q = Tensor::new(&[1, 2, 1, 2], vec![1_f32, 0.0, 0.0, 2.0]).unwrap();
        let k = Tensor::new(&[1, 1, 2, 2], vec![3_f32, 4.0, 5.0, 6.0]).unwrap();
        let s = scores(&q, &k, 0.5).unwrap();
        assert_eq!(
            s,
            Tensor::new(&[1, 2, 1, 2], vec![1.5_f32, 2.5, 4.0, 6.0]).unwrap()
        );
        let y = weighted(&s, &k).unwrap();
        assert_eq!(
            y,
            Tensor::new(&[1, 2, 1, 2], vec![17_f32, 21.0, 42.0, 52.0]).unwrap()
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let q = tensor(&[1, 2, 1, 2]);
        struct Case {
            error: OpError,
            text: &'static str,
        }
        let cases = [
            Case {
                error: scores(&q, &tensor(&[1, 0, 1, 2]), 1.0).unwrap_err(),
                text: "input 1: keys do not fit the queries, expected batch 1, size 2 and a divisor of 2 heads, got \
                       [1, 0, 1, 2]",
            },
            Case {
                error: weighted(&q, &tensor(&[1, 2, 3, 2])).unwrap_err(),
                text: "input 2: values do not fit the keys, expected batch 1, length 2 and a divisor of 2 heads, got \
                       [1, 2, 3, 2]",
            },
            Case {
                error: scores(&tensor(&[2]), &q, 1.0).unwrap_err(),
                text: "input 0: wrong shape, expected [batch, heads, length, size], got [2]",
            },
            Case {
                error: after_past(Some(&tensor(&[1, 3, 1, 2])), &q, 4).unwrap_err(),
                text: "input 4: does not fit the new part, expected float32 of [1, 2, 1, 2] but for the length, got \
                       float32 of [1, 3, 1, 2]",
            },
            Case {
                error: capped(q.clone(), -1.0).unwrap_err(),
                text: "attribute \"softcap\": is negative, expected at least 0, got -1",
            },
        ];
        for Case { error, text } in cases {
            assert_eq!(error.to_string(), text);
        }
    }
}
