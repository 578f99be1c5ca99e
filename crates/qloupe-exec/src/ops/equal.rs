//! Equal: `a == b`.

use qloupe_tensor::{DType, Tensor};

use super::broadcast::Broadcast;
use super::elementwise::{binary, infer_broadcast, wrong_dtype, zip_elements};
use super::number::each_castable;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, SymDim};

/// `c = a == b`, broadcast, of numbers, bools or strings; NaN equals nothing.
#[derive(Debug)]
pub(super) struct Equal;

impl Operator for Equal {
    fn op_type(&self) -> &'static str {
        "Equal"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let mut facts = infer_broadcast(ctx, Some(DType::Bool))?;
        if let (Some(a), Some(b)) = (ctx.elements(0), ctx.elements(1)) {
            facts[0].elements =
                zip_elements(a, b, |a, b| Some(SymDim::known(i64::from(known_equality(a, b)?))));
        }
        Ok(facts)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let dtype = ctx.require(0)?.dtype();
        if dtype == DType::String {
            return equal_strings(ctx);
        }
        each_castable!(
            dtype, T => binary::<T, bool>(ctx, same),
            else Err(wrong_dtype(0, "a number, bool or string", dtype))
        )
    }
}

fn same<T: PartialEq>(a: T, b: T) -> bool {
    a == b
}

/// Whether two dimensions are equal whatever the open ones are, which are never negative; `None` if it depends on them.
fn known_equality(a: &SymDim, b: &SymDim) -> Option<bool> {
    if a == b {
        return Some(true);
    }
    let negative = |dim: &SymDim| dim.as_known().is_some_and(|v| v < 0);
    let contradicts = (a.as_known().is_some() && b.as_known().is_some())
        || (negative(a) && b.is_non_negative())
        || (negative(b) && a.is_non_negative());
    contradicts.then_some(false)
}

fn equal_strings(ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
    let strings = |idx| {
        let x = ctx.require(idx)?;
        x.as_strings()
            .ok_or_else(|| wrong_dtype(idx, DType::String, x.dtype()))
    };
    let (a, b) = (strings(0)?, strings(1)?);
    let plan = Broadcast::new([ctx.require(0)?.shape(), ctx.require(1)?.shape()])?;
    let equal = plan.fill(|out, [i, j], [p, q]| {
        for (k, out) in out.iter_mut().enumerate() {
            *out = a[if p { i + k } else { i }] == b[if q { j + k } else { j }];
        }
    });
    Ok(vec![Tensor::new(plan.shape(), equal)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_dimensions_are_equal_only_where_that_is_certain() {
        let (n, one, minus) = (SymDim::symbol("n"), SymDim::known(1), SymDim::known(-1));
        for (a, b, expected) in [
            (&n, &n, Some(true)),
            (&one, &minus, Some(false)),
            (&n, &minus, Some(false)),
            (&n, &one, None),
            (&n.minus(&one), &minus, None),
        ] {
            assert_eq!(known_equality(a, b), expected, "{a} and {b}");
        }
    }
}
