//! TensorScatter: writes new entries into a cache.

use qloupe_tensor::Tensor;

use super::movement::{Run, copy_runs};
use super::parameters::integers;
use crate::operator::resolve_axis;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = cache; y[b, .., write_indices[b] + i, ..] = update[b, .., i, ..]` along `axis`; `circular` positions wrap around.
#[derive(Debug)]
pub(super) struct TensorScatter;

impl Operator for TensorScatter {
    fn op_type(&self) -> &'static str {
        "TensorScatter"
    }

    fn since_version(&self) -> i64 {
        24
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (cache, update) = (ctx.require(0)?, ctx.require(1)?);
        let shape = cache.shape();
        let axis = resolve_axis(ctx.int("axis", -2), shape.len())?;
        if axis == 0 {
            return Err(OpError::attribute(
                "axis",
                "is the batch, expected another axis, got 0",
            ));
        }
        let fits = update.rank() == shape.len()
            && (0..shape.len())
                .all(|i| update.shape()[i] == shape[i] || (i == axis && update.shape()[i] <= shape[i]));
        if !fits {
            return Err(OpError::input(
                1,
                format!(
                    "does not fit the cache, expected {shape:?} or less along axis {axis}, got {:?}",
                    update.shape()
                ),
            ));
        }
        if cache.is_empty() {
            return Ok(vec![cache.clone()]);
        }
        let (length, new) = (shape[axis], update.shape()[axis]);
        let starts = starts_of(ctx, shape[0], length, new)?;
        let per_batch: usize = shape[1..axis].iter().product();
        let inner: usize = shape[axis + 1..].iter().product();
        let runs = (0..shape[0] * per_batch * length).map(|row| {
            let (outer, at) = (row / length, row % length);
            // How far behind the first written entry; one that is not written is behind them all.
            let behind = (at + length - starts[outer / per_batch]) % length;
            if behind < new {
                Run {
                    source: 1,
                    ..Run::contiguous((outer * new + behind) * inner, inner)
                }
            } else {
                Run::contiguous(row * inner, inner)
            }
        });
        Ok(vec![copy_runs(&[cache, update], shape, runs)?])
    }
}

/// The first entry that is written of each batch, below `length`.
fn starts_of(ctx: &EvalContext<'_>, batch: usize, length: usize, new: usize) -> Result<Vec<usize>, OpError> {
    let starts = match ctx.input(2) {
        Some(starts) => integers(starts, 2)?,
        None => vec![0; batch],
    };
    if starts.len() != batch {
        return Err(OpError::input(
            2,
            format!("wrong number of indices, expected {batch}, got {}", starts.len()),
        ));
    }
    let last = match ctx.string("mode", "linear") {
        "linear" => length - new,
        "circular" => usize::MAX,
        other => {
            return Err(OpError::attribute(
                "mode",
                format!("unknown value, expected \"linear\" or \"circular\", got \"{other}\""),
            ));
        }
    };
    let resolve = |start: i64| {
        let inside = usize::try_from(start).ok().filter(|&start| start <= last);
        inside.map(|start| start % length).ok_or_else(|| {
            OpError::input(
                2,
                format!("entries do not fit the cache, expected an index from 0 to {last}, got {start}"),
            )
        })
    };
    starts.into_iter().map(resolve).collect()
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;
    use crate::Layout;

    fn run(mode: &str, start: i64) -> Result<Tensor, OpError> {
        let node = Node::default().with_attribute("mode", AttributeValue::String(mode.as_bytes().to_vec()));
        let cache = Tensor::new(&[1, 3, 1], vec![1_u8, 2, 3]).unwrap();
        let update = Tensor::new(&[1, 2, 1], vec![8_u8, 9]).unwrap();
        let start = Tensor::vector(vec![start]);
        let ctx = EvalContext {
            node: &node,
            opset: 24,
            layout: Layout::Plain,
            inputs: &[Some(&cache), Some(&update), Some(&start)],
        };
        Ok(TensorScatter.eval(&ctx)?.remove(0))
    }

    #[test]
    fn entries_are_written_and_wrap_around() {
        let entries = |values: [u8; 3]| Tensor::new(&[1, 3, 1], values.to_vec()).unwrap();
        assert_eq!(run("linear", 1).unwrap(), entries([1, 8, 9]));
        assert_eq!(run("circular", 5).unwrap(), entries([9, 2, 8]));
        assert_eq!(
            run("linear", 2).unwrap_err().to_string(),
            "input 2: entries do not fit the cache, expected an index from 0 to 1, got 2"
        );
        assert_eq!(
            run("round", 0).unwrap_err().to_string(),
            "attribute \"mode\": unknown value, expected \"linear\" or \"circular\", got \"round\""
        );
    }
}
