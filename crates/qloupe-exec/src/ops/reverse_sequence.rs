//! ReverseSequence: the beginnings of sequences reversed.

use qloupe_tensor::Tensor;

use super::movement::{Run, copy_runs};
use super::parameters::{integers, resolve_index};
use crate::operator::resolve_axis;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// For each index of `batch_axis`, reverses the first `sequence_lens[i]` slices along `time_axis`.
#[derive(Debug)]
pub(super) struct ReverseSequence;

impl Operator for ReverseSequence {
    fn op_type(&self) -> &'static str {
        "ReverseSequence"
    }

    fn since_version(&self) -> i64 {
        10
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let batch_axis = resolve_axis(ctx.int("batch_axis", 1), x.rank())?;
        let time_axis = resolve_axis(ctx.int("time_axis", 0), x.rank())?;
        if batch_axis + time_axis != 1 {
            return Err(OpError::attribute(
                "time_axis",
                format!(
                    "not the other of the first two axes, expected batch and time to be 0 and 1, got {batch_axis} and {time_axis}"
                ),
            ));
        }
        let (batch, time) = (x.shape()[batch_axis], x.shape()[time_axis]);
        let lengths = integers(ctx.require(1)?, 1)?
            .into_iter()
            .map(|len| resolve_index(len, time + 1, 1))
            .collect::<Result<Vec<usize>, _>>()?;
        if lengths.len() != batch {
            return Err(OpError::input(
                1,
                format!("wrong length, expected {batch}, got {}", lengths.len()),
            ));
        }
        let inner: usize = x.shape()[2..].iter().product();
        let [rows, columns] = [x.shape()[0], x.shape()[1]];
        let lengths = &lengths;
        let runs = (0..rows).flat_map(|row| {
            (0..columns).map(move |column| {
                let (b, t) = if batch_axis == 0 {
                    (row, column)
                } else {
                    (column, row)
                };
                let from = if t < lengths[b] { lengths[b] - 1 - t } else { t };
                let source = if batch_axis == 0 {
                    b * columns + from
                } else {
                    from * columns + b
                };
                Run::contiguous(source * inner, inner)
            })
        });
        Ok(vec![copy_runs(&[x], x.shape(), runs)?])
    }
}
