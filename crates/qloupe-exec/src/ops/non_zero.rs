//! NonZero: coordinates of the elements that are not 0.

use qloupe_tensor::{DType, Tensor};

use super::parameters::open_dim;
use super::scatter::advance;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `[rank, n]`: the coordinates of the `n` elements that are not 0, in row-major order.
#[derive(Debug)]
pub(super) struct NonZero;

impl Operator for NonZero {
    fn op_type(&self) -> &'static str {
        "NonZero"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.require(0)?;
        let shape = ctx
            .shape(0)
            .map(|s| vec![SymDim::from(s.len()), open_dim(ctx, 0, 1)]);
        Ok(vec![Fact::new(Some(DType::Int64), shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let mut columns: Vec<Vec<i64>> = vec![Vec::new(); x.rank()];
        let mut at = vec![0; x.rank()];
        let mut n = 0;
        for value in x.to_f64_vec()? {
            if value != 0.0 {
                n += 1;
                for (column, &coordinate) in columns.iter_mut().zip(&at) {
                    column.push(coordinate as i64);
                }
            }
            advance(&mut at, x.shape());
        }
        Ok(vec![Tensor::new(&[x.rank(), n], columns.concat())?])
    }
}
