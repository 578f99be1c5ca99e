//! LinearClassifier: the class of the largest weighted sum of features.

use qloupe_ir::{AttributeValue, Node};
use qloupe_tensor::{DType, Tensor};

use super::linear_model::{LinearModel, PostTransform};
use super::movement::{Run, copy_runs};
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `scores[n, c] = intercepts[c] + sum over i of coefficients[c, i] * x[n, i]`, then `post_transform`; the label is that of
/// the first largest score. One row of coefficients for two labels is a score of the second one: positive scores mean it.
/// The scores of both classes are then `[-s, s]`, as in the ONNX reference (ONNX Runtime writes `[1 - s, s]`).
///
/// # Shapes
/// x: `[N, F]`; labels: `[N]`, int64 or string; scores: `[N, C]`, float32.
#[derive(Debug)]
pub(super) struct LinearClassifier;

/// The labels of all classes.
fn labels(node: &Node) -> Result<Tensor, OpError> {
    if let Some(labels) = node.ints("classlabels_ints").filter(|l| !l.is_empty()) {
        return Ok(Tensor::vector(labels.to_vec()));
    }
    match node.attribute("classlabels_strings") {
        Some(AttributeValue::Strings(labels)) if !labels.is_empty() => {
            let text = |label: &Vec<u8>| String::from_utf8_lossy(label).into_owned();
            Ok(Tensor::from_strings(
                &[labels.len()],
                labels.iter().map(text).collect(),
            )?)
        }
        _ => Err(OpError::attribute(
            "classlabels_ints",
            "absent, expected the labels of the classes",
        )),
    }
}

impl Operator for LinearClassifier {
    fn op_type(&self) -> &'static str {
        "LinearClassifier"
    }

    fn domain(&self) -> &'static str {
        "ai.onnx.ml"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let labels = labels(ctx.node)?;
        let n = match ctx.shape(0) {
            Some([n, _]) => Some(n.clone()),
            Some([_]) => Some(SymDim::known(1)),
            _ => None,
        };
        let scores = n.clone().map(|n| vec![n, SymDim::from(labels.len())]);
        Ok(vec![
            Fact::new(Some(labels.dtype()), n.map(|n| vec![n])),
            Fact::new(Some(DType::Float32), scores),
        ])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let labels = labels(ctx.node)?;
        let n_intercepts = ctx.node.floats("intercepts").map_or(0, <[f32]>::len);
        let binary = labels.len() == 2 && n_intercepts == 1;
        let n_scores = if binary { 1 } else { labels.len() };
        let scores = LinearModel::new(ctx.node, n_scores)?.scores(ctx.require(0)?)?;
        let post_transform = PostTransform::of(ctx.string("post_transform", "NONE"))?;
        let mut rows = Vec::with_capacity(scores.len() / n_scores * labels.len());
        let mut chosen = Vec::with_capacity(scores.len() / n_scores);
        for row in scores.chunks_exact(n_scores) {
            let start = rows.len();
            if let (true, &[score]) = (binary, row) {
                chosen.push(usize::from(score > 0.0));
                rows.extend(binary_scores(score, post_transform));
                continue;
            }
            chosen.push(first_largest(row));
            rows.extend_from_slice(row);
            post_transform.apply(&mut rows[start..]);
        }
        let n = chosen.len();
        let runs = chosen.into_iter().map(|class| Run::contiguous(class, 1));
        let rows = rows.into_iter().map(|score| score as f32).collect();
        Ok(vec![
            copy_runs(&[&labels], &[n], runs)?,
            Tensor::new::<f32>(&[n, labels.len()], rows)?,
        ])
    }
}

/// Both scores of two classes of which only the second has one.
fn binary_scores(score: f64, post_transform: PostTransform) -> [f64; 2] {
    let mut both = match post_transform {
        PostTransform::Logistic => {
            let mut second = [score];
            post_transform.apply(&mut second);
            return [1.0 - second[0], second[0]];
        }
        _ => [-score, score],
    };
    post_transform.apply(&mut both);
    both
}

fn first_largest(row: &[f64]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}
