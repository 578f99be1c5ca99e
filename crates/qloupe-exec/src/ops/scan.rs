//! Scan: a subgraph that runs for each slice of its inputs.

use qloupe_tensor::Tensor;

use super::pieces::{cut, stack, without_axis};
use crate::operator::resolve_axis;
use crate::{BoundBody, Fact, InferContext, OpError, Operator, Value, ValueContext, ValueOperator};

/// The body runs for each slice of the scan inputs, carries a state and returns slices of the scan outputs.
#[derive(Debug)]
pub(super) struct Scan;

/// How one run slices and stacks.
struct Plan {
    n_state: usize,
    input_axes: Vec<i64>,
    input_directions: Vec<i64>,
    output_axes: Vec<i64>,
    output_directions: Vec<i64>,
}

impl Plan {
    fn new(node: &qloupe_ir::Node, n_inputs: usize, n_outputs: usize) -> Result<Self, OpError> {
        let n_scan = node.int("num_scan_inputs").and_then(|n| usize::try_from(n).ok());
        let n_scan = n_scan.filter(|&n| n >= 1 && n <= n_inputs).ok_or_else(|| {
            OpError::attribute(
                "num_scan_inputs",
                format!("does not fit, expected 1 to {n_inputs} inputs"),
            )
        })?;
        let n_state = n_inputs - n_scan;
        let n_stacked = n_outputs.checked_sub(n_state).ok_or_else(|| {
            OpError::attribute(
                "body",
                format!("too few outputs, expected at least {n_state}, got {n_outputs}"),
            )
        })?;
        let list = |names: &[&'static str], len: usize| {
            let given = names.iter().find_map(|name| Some((*name, node.ints(name)?)));
            match given {
                None => Ok(vec![0; len]),
                Some((_, values)) if values.len() == len => Ok(values.to_vec()),
                Some((name, values)) => Err(OpError::attribute(
                    name,
                    format!("wrong length, expected {len}, got {}", values.len()),
                )),
            }
        };
        Ok(Self {
            n_state,
            input_axes: list(&["scan_input_axes"], n_scan)?,
            input_directions: list(&["scan_input_directions", "directions"], n_scan)?,
            output_axes: list(&["scan_output_axes"], n_stacked)?,
            output_directions: list(&["scan_output_directions"], n_stacked)?,
        })
    }

    fn run(&self, body: BoundBody<'_>, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
        let (state, scanned) = inputs.split_at(self.n_state);
        let mut state: Vec<Value> = state.iter().cloned().map(Value::from).collect();
        let mut slices: Vec<Vec<Tensor>> = Vec::with_capacity(scanned.len());
        for (idx, tensor) in scanned.iter().enumerate() {
            let axis = resolve_axis(self.input_axes[idx], tensor.rank())?;
            let mut pieces = cut(tensor, axis, &vec![1; tensor.shape()[axis]])?;
            if self.input_directions[idx] == 1 {
                pieces.reverse();
            }
            let slice = pieces.into_iter().map(|piece| without_axis(piece, axis));
            slices.push(slice.collect::<Result<_, _>>()?);
        }
        let n_steps = slices.first().map_or(0, Vec::len);
        if let Some(idx) = slices.iter().position(|s| s.len() != n_steps) {
            let what = format!(
                "wrong number of slices, expected {n_steps}, got {}",
                slices[idx].len()
            );
            return Err(OpError::input(self.n_state + idx, what));
        }
        if n_steps == 0 && !self.output_axes.is_empty() {
            return Err(OpError::unsupported(
                "a Scan over nothing that returns stacked outputs",
            ));
        }
        let mut rows: Vec<Vec<Tensor>> = vec![Vec::new(); self.output_axes.len()];
        for step in 0..n_steps {
            let mut arguments = std::mem::take(&mut state);
            arguments.extend(slices.iter().map(|s| Value::from(s[step].clone())));
            let mut results = body.run(arguments)?.into_iter();
            state.extend(results.by_ref().take(self.n_state));
            for (row, value) in rows.iter_mut().zip(results) {
                row.push(value.require_tensor(0)?.clone());
            }
        }
        let mut outputs = Vec::with_capacity(state.len() + rows.len());
        for value in &state {
            outputs.push(value.require_tensor(0)?.clone());
        }
        for (idx, mut row) in rows.into_iter().enumerate() {
            if self.output_directions[idx] == 1 {
                row.reverse();
            }
            let rank = row.first().map_or(0, Tensor::rank);
            outputs.push(stack(&row, resolve_axis(self.output_axes[idx], rank + 1)?)?);
        }
        Ok(outputs)
    }
}

/// Version 8: a leading batch axis everywhere, and lengths as the first input.
fn run_batched(plan: &Plan, body: BoundBody<'_>, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    let n_batch = inputs
        .first()
        .and_then(|t| t.shape().first().copied())
        .unwrap_or(0);
    let mut items: Vec<Vec<Tensor>> = vec![Vec::new(); n_batch];
    for (idx, tensor) in inputs.iter().enumerate() {
        if tensor.shape().first() != Some(&n_batch) {
            return Err(OpError::input(
                idx + 1,
                format!("wrong batch, expected {n_batch}, got {:?}", tensor.shape()),
            ));
        }
        for (item, piece) in items.iter_mut().zip(cut(tensor, 0, &vec![1; n_batch])?) {
            item.push(without_axis(piece, 0)?);
        }
    }
    let results = items
        .iter()
        .map(|item| plan.run(body, item))
        .collect::<Result<Vec<_>, _>>()?;
    let n_outputs = results.first().map_or(0, Vec::len);
    (0..n_outputs)
        .map(|idx| stack(&results.iter().map(|r| r[idx].clone()).collect::<Vec<_>>(), 0))
        .collect()
}

impl Operator for Scan {
    fn op_type(&self) -> &'static str {
        "Scan"
    }

    fn since_version(&self) -> i64 {
        8
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let unknown = vec![Fact::default(); ctx.node.outputs.len()];
        let n_outputs = ctx.node.outputs.len();
        if ctx.opset < 9 {
            return Ok(unknown);
        }
        let plan = Plan::new(ctx.node, ctx.node.inputs.len(), n_outputs)?;
        let mut arguments: Vec<Fact> = Vec::new();
        let mut count = None;
        for idx in 0..ctx.node.inputs.len() {
            let fact = ctx.require(idx)?;
            let mut shape = fact.shape.clone();
            if let (Some(dims), Some(scanned)) = (&mut shape, idx.checked_sub(plan.n_state)) {
                let axis = resolve_axis(plan.input_axes[scanned], dims.len())?;
                count = Some(dims.remove(axis));
            }
            arguments.push(Fact::new(fact.dtype, shape));
        }
        let Some(results) = ctx.infer_body("body", arguments.clone()) else {
            return Ok(unknown);
        };
        let mut facts = Vec::with_capacity(results.len());
        for (idx, fact) in results.into_iter().enumerate() {
            let mut shape = fact.shape;
            if let Some(stacked) = idx.checked_sub(plan.n_state) {
                shape = match (shape, &count, plan.output_axes.get(stacked)) {
                    (Some(mut dims), Some(count), Some(&axis)) => {
                        dims.insert(resolve_axis(axis, dims.len() + 1)?, count.clone());
                        Some(dims)
                    }
                    _ => None,
                };
            } else if shape != arguments[idx].shape {
                shape = None;
            }
            facts.push(Fact::new(fact.dtype, shape));
        }
        Ok(facts)
    }

    fn on_values(&self) -> Option<&dyn ValueOperator> {
        Some(self)
    }
}

impl ValueOperator for Scan {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        let body = ctx.body("body")?;
        let batched = ctx.opset < 9;
        if batched && ctx.input(0).is_some() {
            return Err(OpError::unsupported("sequence_lens of Scan version 8"));
        }
        let from = usize::from(batched);
        let inputs = (from..ctx.inputs.len())
            .map(|idx| Ok(ctx.tensor(idx)?.clone()))
            .collect::<Result<Vec<_>, OpError>>()?;
        let plan = Plan::new(ctx.node, inputs.len(), body.n_outputs())?;
        let outputs = if batched {
            run_batched(&plan, body, &inputs)?
        } else {
            plan.run(body, &inputs)?
        };
        Ok(outputs.into_iter().map(Value::from).collect())
    }
}
