//! If: one of two subgraphs.

use crate::{Fact, InferContext, OpError, Operator, Value, ValueContext, ValueOperator};

/// The outputs of `then_branch` or of `else_branch`; only the branch that is taken runs.
#[derive(Debug)]
pub(super) struct If;

/// What is known whichever branch is taken.
fn either(a: Fact, b: Fact) -> Fact {
    let dtype = a.dtype.filter(|_| a.dtype == b.dtype);
    let shape = match (a.shape, b.shape) {
        (Some(a), Some(b)) if a == b => Some(a),
        _ => None,
    };
    Fact::new(dtype, shape)
}

impl Operator for If {
    fn op_type(&self) -> &'static str {
        "If"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let constant = ctx.require(0)?.constant.as_ref();
        let condition = constant.and_then(|t| t.as_slice::<bool>()?.first().copied());
        let branch = |attribute| ctx.infer_body(attribute, Vec::new());
        let (taken, other) = match condition {
            Some(true) => (branch("then_branch"), None),
            Some(false) => (branch("else_branch"), None),
            None => (branch("then_branch"), branch("else_branch")),
        };
        Ok(match (condition, taken, other) {
            (Some(_), Some(facts), _) => facts,
            (None, Some(a), Some(b)) => a.into_iter().zip(b).map(|(a, b)| either(a, b)).collect(),
            _ => vec![Fact::default(); ctx.node.outputs.len()],
        })
    }

    fn on_values(&self) -> Option<&dyn ValueOperator> {
        Some(self)
    }
}

impl ValueOperator for If {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        let taken = super::parameters::condition(ctx.tensor(0)?, 0)?;
        let branch = ctx.body(if taken { "then_branch" } else { "else_branch" })?;
        branch.run(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use qloupe_tensor::DType;

    use super::*;
    use crate::SymDim;

    #[test]
    fn only_what_both_branches_say_is_known() {
        let fact = |sizes: &[usize]| {
            Fact::new(
                Some(DType::Float32),
                Some(sizes.iter().map(|&s| SymDim::from(s)).collect()),
            )
        };
        assert_eq!(either(fact(&[2]), fact(&[2])), fact(&[2]));
        assert_eq!(
            either(fact(&[2]), fact(&[1, 2])),
            Fact::new(Some(DType::Float32), None)
        );
    }
}
