//! Loop: a subgraph that runs again and again.

use qloupe_ir::TensorType;
use qloupe_tensor::{DType, Tensor};

use super::movement::{filled, number};
use super::parameters::{condition, integers, open_dim};
use super::pieces::stack;
use crate::{Fact, InferContext, OpError, Operator, SymDim, Value, ValueContext, ValueOperator};

/// The body runs while its condition holds and fewer than `M` times; it carries values from iteration to iteration and
/// returns further outputs that are stacked.
#[derive(Debug)]
pub(super) struct Loop;

/// More iterations than a network has: a loop that would never end is an error.
const MAX_ITERATIONS: i64 = 1 << 20;

impl Operator for Loop {
    fn op_type(&self) -> &'static str {
        "Loop"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let unknown = vec![Fact::default(); ctx.node.outputs.len()];
        let carried: Vec<Fact> = (2..ctx.node.inputs.len())
            .map(|idx| {
                ctx.input(idx)
                    .map_or_else(Fact::default, |f| Fact::new(f.dtype, f.shape.clone()))
            })
            .collect();
        let body = |carried: &[Fact]| {
            let mut inputs = vec![
                Fact::new(Some(DType::Int64), Some(Vec::new())),
                Fact::new(Some(DType::Bool), Some(Vec::new())),
            ];
            inputs.extend(carried.iter().cloned());
            ctx.infer_body("body", inputs)
        };
        let Some(mut outputs) = body(&carried).filter(|o| o.len() > carried.len()) else {
            return Ok(unknown);
        };
        let same = carried.iter().zip(&outputs[1..]).all(|(a, b)| a.shape == b.shape);
        if !same {
            // A shape may change from iteration to iteration: only the dtypes are known.
            let open: Vec<Fact> = carried.iter().map(|f| Fact::new(f.dtype, None)).collect();
            match body(&open) {
                Some(facts) => outputs = facts,
                None => return Ok(unknown),
            }
        }
        let mut facts: Vec<Fact> = Vec::with_capacity(outputs.len() - 1);
        for (idx, fact) in outputs.into_iter().skip(1).enumerate() {
            if idx < carried.len() {
                let shape = carried[idx].shape.clone().filter(|_| same);
                facts.push(Fact::new(fact.dtype.or(carried[idx].dtype), shape));
                continue;
            }
            let count = open_dim(ctx, idx, 0);
            let shape = fact
                .shape
                .map(|dims| std::iter::once(count).chain(dims).collect::<Vec<SymDim>>());
            facts.push(Fact::new(fact.dtype, shape));
        }
        Ok(facts)
    }

    fn on_values(&self) -> Option<&dyn ValueOperator> {
        Some(self)
    }
}

impl ValueOperator for Loop {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        let limit = match ctx.input(0) {
            Some(value) => {
                let tensor = value.require_tensor(0)?;
                integers(tensor, 0)?.first().copied()
            }
            None => None,
        };
        let mut goes_on = match ctx.input(1) {
            Some(value) => condition(value.require_tensor(1)?, 1)?,
            None => true,
        };
        let body = ctx.body("body")?;
        let n_carried = ctx.inputs.len().saturating_sub(2);
        let n_stacked = body.n_outputs().checked_sub(1 + n_carried).ok_or_else(|| {
            let expected = format!(
                "wrong number of outputs, expected at least {}, got {}",
                n_carried + 1,
                body.n_outputs()
            );
            OpError::attribute("body", expected)
        })?;
        let mut carried = (2..ctx.inputs.len())
            .map(|idx| Ok(ctx.require(idx)?.clone()))
            .collect::<Result<Vec<_>, OpError>>()?;
        let mut rows: Vec<Vec<Tensor>> = vec![Vec::new(); n_stacked];
        let mut iteration = 0_i64;
        while goes_on && limit.is_none_or(|limit| iteration < limit) {
            if iteration == MAX_ITERATIONS {
                return Err(OpError::unsupported(format!(
                    "a loop of more than {MAX_ITERATIONS} iterations"
                )));
            }
            let mut arguments = vec![Tensor::scalar(iteration).into(), Tensor::scalar(true).into()];
            arguments.append(&mut carried);
            let mut results = body.run(arguments)?.into_iter();
            let next = results
                .next()
                .ok_or_else(|| OpError::attribute("body", "returns nothing, expected a condition"))?;
            goes_on = condition(next.require_tensor(0)?, 0)?;
            carried.extend(results.by_ref().take(n_carried));
            for (row, value) in rows.iter_mut().zip(results) {
                row.push(value.require_tensor(0)?.clone());
            }
            iteration += 1;
        }
        let mut outputs = carried;
        for (idx, row) in rows.into_iter().enumerate() {
            let stacked = if row.is_empty() {
                nothing(body.output_type(1 + n_carried + idx))?
            } else {
                stack(&row, 0)?
            };
            outputs.push(stacked.into());
        }
        Ok(outputs)
    }
}

/// The rows of a loop that never ran: no row, of the declared type.
fn nothing(declared: Option<&TensorType>) -> Result<Tensor, OpError> {
    let dtype = declared.and_then(|ty| ty.dtype).unwrap_or(DType::Float32);
    let dims = declared.and_then(|ty| ty.shape.as_ref());
    let sizes = dims.into_iter().flatten().map(|dim| dim.size().unwrap_or(0));
    let shape: Vec<usize> = std::iter::once(0).chain(sizes).collect();
    filled(&number(dtype, 0)?, &shape)
}
