//! ArrayFeatureExtractor: columns of the last axis.

use qloupe_tensor::Tensor;

use super::movement::{Run, copy_runs};
use super::parameters::{integers, resolve_index};
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `z[.., i] = x[.., y[i]]`; a vector counts as one row.
#[derive(Debug)]
pub(super) struct ArrayFeatureExtractor;

impl Operator for ArrayFeatureExtractor {
    fn op_type(&self) -> &'static str {
        "ArrayFeatureExtractor"
    }

    fn domain(&self) -> &'static str {
        "ai.onnx.ml"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let n = ctx.shape(1).map(|shape| {
            let one = SymDim::known(1);
            shape.iter().fold(one, |product, dim| product.times(dim))
        });
        let shape = match (x.shape.as_deref(), n) {
            (Some([_]), Some(n)) => Some(vec![SymDim::known(1), n]),
            (Some([rows @ .., _]), Some(n)) => Some([rows, &[n]].concat()),
            _ => None,
        };
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let Some((&n_columns, rows)) = x.shape().split_last() else {
            return Err(OpError::input(0, "wrong rank, expected at least 1, got 0"));
        };
        let columns = integers(ctx.require(1)?, 1)?
            .into_iter()
            .map(|index| resolve_index(index, n_columns, 1))
            .collect::<Result<Vec<usize>, _>>()?;
        let n_rows: usize = rows.iter().product();
        let shape = match rows {
            [] => vec![1, columns.len()],
            rows => [rows, &[columns.len()]].concat(),
        };
        let runs = (0..n_rows).flat_map(|row| {
            let column = move |&column: &usize| Run::contiguous(row * n_columns + column, 1);
            columns.iter().map(column)
        });
        Ok(vec![copy_runs(&[x], &shape, runs)?])
    }
}
