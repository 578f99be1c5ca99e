//! SequenceMap: a subgraph that runs for each item of a sequence.

use qloupe_tensor::Tensor;

use crate::{Fact, InferContext, OpError, Operator, Value, ValueContext, ValueOperator};

/// The body on each item of the first input; other sequences give their item of that place, tensors themselves.
#[derive(Debug)]
pub(super) struct SequenceMap;

impl Operator for SequenceMap {
    fn op_type(&self) -> &'static str {
        "SequenceMap"
    }

    fn since_version(&self) -> i64 {
        17
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::default(); ctx.node.outputs.len()])
    }

    fn on_values(&self) -> Option<&dyn ValueOperator> {
        Some(self)
    }
}

impl ValueOperator for SequenceMap {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        let body = ctx.body("body")?;
        let n_items = ctx.sequence(0)?.len();
        let mut outputs: Vec<Vec<Tensor>> = vec![Vec::new(); body.n_outputs()];
        for item in 0..n_items {
            let mut arguments = Vec::with_capacity(ctx.inputs.len());
            for idx in 0..ctx.inputs.len() {
                arguments.push(match ctx.require(idx)? {
                    Value::Sequence(items) => items.get(item).cloned().map(Value::from).ok_or_else(|| {
                        OpError::input(
                            idx,
                            format!("too short, expected {n_items} items, got {}", items.len()),
                        )
                    })?,
                    other => other.clone(),
                });
            }
            for (output, value) in outputs.iter_mut().zip(body.run(arguments)?) {
                output.push(value.require_tensor(0)?.clone());
            }
        }
        Ok(outputs.into_iter().map(Value::from).collect())
    }
}
