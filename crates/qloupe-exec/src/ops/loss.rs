//! Losses of class predictions: what NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss share.
//!
//! # Numerics
//! In f64 with in-order sums, rounded once.

use qloupe_ir::Node;
use qloupe_tensor::{DType, Tensor};

use super::normalization::{floats_of_length, rounded};
use super::parameters::integers;
use crate::{EvalContext, Fact, InferContext, OpError};

/// What becomes of the losses of the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reduction {
    None,
    Sum,
    Mean,
}

impl Reduction {
    fn of(node: &Node) -> Result<Self, OpError> {
        match node.string("reduction").unwrap_or("mean") {
            "none" => Ok(Self::None),
            "sum" => Ok(Self::Sum),
            "mean" => Ok(Self::Mean),
            other => Err(OpError::attribute(
                "reduction",
                format!("unknown, expected none, sum or mean, got {other}"),
            )),
        }
    }
}

/// The loss from log-probabilities of shape `[N, C, ..]`, classes `[N, ..]` (input 1) and weights `[C]` (input 2).
///
/// `loss = -weight[class] * x[class]`; the mean is weighted. An element whose class is `ignore_index` weighs 0.
///
/// # Errors
/// Shapes that do not fit, a class outside `[0, C)` that is not ignored.
pub(super) fn class_loss(
    ctx: &EvalContext<'_>,
    log_probabilities: &[f64],
    shape: &[usize],
    dtype: DType,
) -> Result<Tensor, OpError> {
    let reduction = Reduction::of(ctx.node)?;
    let &[n, n_classes, ref inner @ ..] = shape else {
        return Err(OpError::input(
            0,
            format!("wrong rank, expected at least 2 ([N, C, ..]), got shape {shape:?}"),
        ));
    };
    let (target, expected) = (ctx.require(1)?, [&[n], inner].concat());
    if target.shape() != expected {
        return Err(OpError::input(
            1,
            format!("wrong shape, expected {expected:?}, got {:?}", target.shape()),
        ));
    }
    let weights = ctx
        .input(2)
        .map(|_| floats_of_length(ctx, 2, n_classes))
        .transpose()?;
    let ignored = ctx.node.int("ignore_index");
    let n_inner: usize = inner.iter().product();
    let mut losses = Vec::with_capacity(target.len());
    let mut total_weight = 0.0;
    for (i, class) in integers(target, 1)?.into_iter().enumerate() {
        if Some(class) == ignored {
            losses.push(0.0);
            continue;
        }
        let class = usize::try_from(class)
            .ok()
            .filter(|&class| class < n_classes)
            .ok_or_else(|| {
                OpError::input(
                    1,
                    format!("unknown class, expected one of [0, {n_classes}), got {class}"),
                )
            })?;
        let weight = weights.as_ref().map_or(1.0, |weights| weights[class]);
        total_weight += weight;
        let position = (i / n_inner * n_classes + class) * n_inner + i % n_inner;
        losses.push(-log_probabilities[position] * weight);
    }
    let sum = || losses.iter().fold(0.0, |sum, loss| sum + loss);
    match reduction {
        Reduction::None => rounded(&expected, losses, dtype),
        Reduction::Sum => rounded(&[], vec![sum()], dtype),
        Reduction::Mean => rounded(&[], vec![sum() / total_weight], dtype),
    }
}

/// The fact of the loss.
///
/// # Errors
/// An absent input, an unknown reduction.
pub(super) fn infer_loss(ctx: &InferContext<'_>) -> Result<Fact, OpError> {
    let (x, target) = (ctx.require(0)?, ctx.require(1)?);
    let shape = match Reduction::of(ctx.node)? {
        Reduction::None => target.shape.clone(),
        Reduction::Sum | Reduction::Mean => Some(Vec::new()),
    };
    Ok(Fact::new(x.dtype, shape))
}

#[cfg(test)]
mod tests {
    use qloupe_ir::AttributeValue;

    use super::*;
    use crate::Layout;

    fn loss(reduction: &str, ignored: Option<i64>, classes: Vec<i64>) -> Result<Tensor, OpError> {
        let mut node = Node::default()
            .with_attribute("reduction", AttributeValue::String(reduction.as_bytes().to_vec()));
        if let Some(class) = ignored {
            node = node.with_attribute("ignore_index", AttributeValue::Int(class));
        }
        let target = Tensor::vector(classes);
        let weights = Tensor::vector(vec![1.0_f32, 3.0]);
        let ctx = EvalContext {
            node: &node,
            opset: 13,
            layout: Layout::Plain,
            inputs: &[None, Some(&target), Some(&weights)],
        };
        class_loss(&ctx, &[-1.0, -2.0, -3.0, -4.0], &[2, 2], DType::Float32)
    }

    #[test]
    fn classes_weigh_and_may_be_ignored() {
        struct Case(&'static str, Option<i64>, Vec<i64>, Tensor);
        let cases = [
            Case("none", None, vec![0, 1], Tensor::vector(vec![1.0_f32, 12.0])),
            Case("sum", None, vec![0, 1], Tensor::scalar(13.0_f32)),
            Case("mean", None, vec![0, 1], Tensor::scalar(3.25_f32)),
            Case("mean", Some(-1), vec![-1, 1], Tensor::scalar(4.0_f32)),
        ];
        for Case(reduction, ignored, classes, expected) in cases {
            assert_eq!(
                loss(reduction, ignored, classes).unwrap(),
                expected,
                "{reduction}"
            );
        }
    }

    #[test]
    fn bad_classes_are_named() {
        let cases = [
            (
                "mean",
                vec![0, 2],
                "input 1: unknown class, expected one of [0, 2), got 2",
            ),
            ("mean", vec![0], "input 1: wrong shape, expected [2], got [1]"),
            (
                "max",
                vec![0, 1],
                "attribute \"reduction\": unknown, expected none, sum or mean, got max",
            ),
        ];
        for (reduction, classes, expected) in cases {
            assert_eq!(loss(reduction, None, classes).unwrap_err().to_string(), expected);
        }
    }
}
