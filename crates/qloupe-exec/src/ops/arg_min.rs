//! ArgMin: where the smallest element along an axis is.

use qloupe_tensor::Tensor;

use super::arg_extremum::{arg_extremum, infer_arg_extremum};
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = index of the smallest x` along `axis`, as int64: the first one, or the last one with `select_last_index`.
/// NaN wins.
#[derive(Debug)]
pub(super) struct ArgMin;

impl Operator for ArgMin {
    fn op_type(&self) -> &'static str {
        "ArgMin"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_arg_extremum(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        arg_extremum(ctx, std::cmp::Ordering::Less)
    }
}
