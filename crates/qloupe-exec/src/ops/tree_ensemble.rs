//! TreeEnsemble: the aggregated leaves of decision trees.

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use super::linear_model::PostTransform;
use super::movement::repeated;
use super::normalization::{floats, rounded};
use super::parameters::require_rank;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// Every row walks down every tree, and the weights of the leaves are aggregated by target.
///
/// # Shapes
/// x: `[N, F]`; y: `[N, n_targets]`.
/// # Numerics
/// Weights are added in the order of the trees, in f64, and rounded once.
/// # Edge cases
/// A target without a leaf is 0.
#[derive(Debug)]
pub(super) struct TreeEnsemble;

/// A question about one feature.
#[derive(Clone, Debug)]
enum Question {
    Below(f64),
    AtMost(f64),
    Above(f64),
    AtLeast(f64),
    Equal(f64),
    Different(f64),
    OneOf(Vec<f64>),
}

impl Question {
    #[expect(
        clippy::float_cmp,
        reason = "equality with a stored number is what the model asks"
    )]
    fn holds(&self, x: f64) -> bool {
        match self {
            Self::Below(split) => x < *split,
            Self::AtMost(split) => x <= *split,
            Self::Above(split) => x > *split,
            Self::AtLeast(split) => x >= *split,
            Self::Equal(split) => x == *split,
            Self::Different(split) => x != *split,
            Self::OneOf(members) => members.contains(&x),
        }
    }
}

/// Where a branch leads.
#[derive(Clone, Copy, Debug)]
enum Place {
    Branch(usize),
    Leaf(usize),
}

#[derive(Debug)]
struct Branch {
    question: Question,
    feature: usize,
    missing_holds: bool,
    holds: Place,
    fails: Place,
}

/// How the weights of several trees become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Average,
    Sum,
    Min,
    Max,
}

#[derive(Debug)]
struct Ensemble {
    branches: Vec<Branch>,
    /// Target and weight.
    leaves: Vec<(usize, f64)>,
    roots: Vec<Place>,
    n_targets: usize,
    aggregate: Aggregate,
    post_transform: PostTransform,
}

fn ints<'a>(node: &'a Node, name: &'static str, len: Option<usize>) -> Result<&'a [i64], OpError> {
    let list = node
        .ints(name)
        .ok_or_else(|| OpError::attribute(name, "absent, expected a list of integers"))?;
    match len {
        Some(len) if len != list.len() => Err(wrong_length(name, len, list.len())),
        _ => Ok(list),
    }
}

fn numbers(node: &Node, name: &'static str) -> Result<Option<Vec<f64>>, OpError> {
    let Some(constant) = node.tensor(name) else {
        return Ok(None);
    };
    let tensor = constant
        .tensor()
        .map_err(|error| OpError::attribute(name, error.to_string()))?;
    Ok(Some(tensor.to_f64_vec()?))
}

fn require_numbers(node: &Node, name: &'static str, len: Option<usize>) -> Result<Vec<f64>, OpError> {
    let list = numbers(node, name)?.ok_or_else(|| OpError::attribute(name, "absent, expected a tensor"))?;
    match len {
        Some(len) if len != list.len() => Err(wrong_length(name, len, list.len())),
        _ => Ok(list),
    }
}

fn wrong_length(name: &'static str, expected: usize, got: usize) -> OpError {
    OpError::attribute(name, format!("wrong length, expected {expected}, got {got}"))
}

/// An index below a bound.
fn index(value: i64, bound: usize, name: &'static str) -> Result<usize, OpError> {
    usize::try_from(value)
        .ok()
        .filter(|&v| v < bound)
        .ok_or_else(|| OpError::attribute(name, format!("wrong index, expected [0, {bound}), got {value}")))
}

fn n_targets(node: &Node) -> Result<usize, OpError> {
    let n = node.int("n_targets").unwrap_or(1);
    usize::try_from(n)
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| OpError::attribute("n_targets", format!("too few, expected at least 1, got {n}")))
}

impl Ensemble {
    fn new(node: &Node) -> Result<Self, OpError> {
        let modes = require_numbers(node, "nodes_modes", None)?;
        let (n, n_targets) = (modes.len(), n_targets(node)?);
        let splits = require_numbers(node, "nodes_splits", Some(n))?;
        let list = |name| ints(node, name, Some(n));
        let features = list("nodes_featureids")?;
        let (holds, fails) = (list("nodes_truenodeids")?, list("nodes_falsenodeids")?);
        let (holds_leaf, fails_leaf) = (list("nodes_trueleafs")?, list("nodes_falseleafs")?);
        let missing = node
            .ints("nodes_missing_value_tracks_true")
            .filter(|list| !list.is_empty());
        if let Some(missing) = missing
            && missing.len() != n
        {
            return Err(wrong_length("nodes_missing_value_tracks_true", n, missing.len()));
        }
        let weights = require_numbers(node, "leaf_weights", None)?;
        let leaves = ints(node, "leaf_targetids", Some(weights.len()))?
            .iter()
            .zip(weights)
            .map(|(&target, weight)| Ok((index(target, n_targets, "leaf_targetids")?, weight)))
            .collect::<Result<Vec<_>, OpError>>()?;
        let place = |id: i64, leaf: i64| match leaf {
            0 => index(id, n, "nodes_truenodeids").map(Place::Branch),
            _ => index(id, leaves.len(), "nodes_trueleafs").map(Place::Leaf),
        };
        let members = numbers(node, "membership_values")?.unwrap_or_default();
        let mut sets = members.split(|v| v.is_nan()).map(<[f64]>::to_vec);
        let mut branches = Vec::with_capacity(n);
        for i in 0..n {
            let question = match modes[i] as u8 {
                0 => Question::AtMost(splits[i]),
                1 => Question::Below(splits[i]),
                2 => Question::AtLeast(splits[i]),
                3 => Question::Above(splits[i]),
                4 => Question::Equal(splits[i]),
                5 => Question::Different(splits[i]),
                6 => Question::OneOf(sets.next().ok_or_else(|| {
                    OpError::attribute(
                        "membership_values",
                        "too few, expected a set for each member node",
                    )
                })?),
                other => {
                    return Err(OpError::attribute(
                        "nodes_modes",
                        format!("unknown mode, expected 0 to 6, got {other}"),
                    ));
                }
            };
            branches.push(Branch {
                question,
                feature: index(features[i], usize::MAX, "nodes_featureids")?,
                missing_holds: missing.is_some_and(|missing| missing[i] != 0),
                holds: place(holds[i], holds_leaf[i])?,
                fails: place(fails[i], fails_leaf[i])?,
            });
        }
        let roots = ints(node, "tree_roots", None)?
            .iter()
            .map(|&root| index(root, n, "tree_roots").map(Place::Branch))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            branches,
            roots,
            n_targets,
            aggregate: match node.int("aggregate_function").unwrap_or(1) {
                0 => Aggregate::Average,
                1 => Aggregate::Sum,
                2 => Aggregate::Min,
                3 => Aggregate::Max,
                other => {
                    return Err(OpError::attribute(
                        "aggregate_function",
                        format!("unknown, expected 0 to 3, got {other}"),
                    ));
                }
            },
            post_transform: PostTransform::of(match node.int("post_transform").unwrap_or(0) {
                0 => "NONE",
                1 => "SOFTMAX",
                2 => "LOGISTIC",
                3 => "SOFTMAX_ZERO",
                _ => "PROBIT",
            })?,
            leaves,
        })
    }

    /// The leaf that a row ends at.
    fn leaf(&self, root: Place, row: &[f64]) -> Result<(usize, f64), OpError> {
        let mut place = root;
        for _ in 0..=self.branches.len() {
            let branch = match place {
                Place::Leaf(leaf) => return Ok(self.leaves[leaf]),
                Place::Branch(branch) => &self.branches[branch],
            };
            let x = *row.get(branch.feature).ok_or_else(|| {
                OpError::input(
                    0,
                    format!(
                        "too few features, expected at least {}, got {}",
                        branch.feature + 1,
                        row.len()
                    ),
                )
            })?;
            let holds = branch.question.holds(x) || (branch.missing_holds && x.is_nan());
            place = if holds { branch.holds } else { branch.fails };
        }
        Err(OpError::attribute(
            "nodes_truenodeids",
            "a tree has a cycle, expected leaves at its ends",
        ))
    }

    fn predict(&self, row: &[f64], y: &mut [f64]) -> Result<(), OpError> {
        let mut reached = vec![false; y.len()];
        for &root in &self.roots {
            let (target, weight) = self.leaf(root, row)?;
            let y = &mut y[target];
            *y = match self.aggregate {
                _ if !reached[target] => weight,
                Aggregate::Sum | Aggregate::Average => *y + weight,
                Aggregate::Min => y.min(weight),
                Aggregate::Max => y.max(weight),
            };
            reached[target] = true;
        }
        if self.aggregate == Aggregate::Average {
            y.iter_mut().for_each(|y| *y /= self.roots.len() as f64);
        }
        self.post_transform.apply(y);
        Ok(())
    }
}

impl Operator for TreeEnsemble {
    fn op_type(&self) -> &'static str {
        "TreeEnsemble"
    }

    fn domain(&self) -> &'static str {
        "ai.onnx.ml"
    }

    fn since_version(&self) -> i64 {
        5
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let targets = SymDim::from(n_targets(ctx.node)?);
        let n = x.shape.as_ref().and_then(|shape| shape.first());
        Ok(vec![Fact::new(x.dtype, n.map(|n| vec![n.clone(), targets]))])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        require_rank(x, 0, 2)?;
        let ensemble = Ensemble::new(ctx.node)?;
        let (n, n_features) = (x.shape()[0], x.shape()[1]);
        let shape = [n, ensemble.n_targets];
        let mut y = repeated(0.0, &shape)?;
        let rows = floats(ctx, 0)?;
        for (i, y) in y.chunks_exact_mut(ensemble.n_targets).enumerate() {
            ensemble.predict(&rows[i * n_features..][..n_features], y)?;
        }
        Ok(vec![rounded(&shape, y, x.dtype())?])
    }
}
