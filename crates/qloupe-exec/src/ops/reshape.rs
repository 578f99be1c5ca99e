//! Reshape: the same elements under another shape.

use qloupe_tensor::Tensor;

use super::movement_gradient::reshaped;
use super::parameters::{elements_fact, integers, open_dim};
use crate::{
    Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext, SymDim,
};

/// The elements of `data` under a new shape: 0 copies the dimension of the input (unless `allowzero`), -1 takes what
/// remains.
#[derive(Debug)]
pub(super) struct Reshape;

/// The shape, with 0 and -1 resolved.
fn resolve(shape: &[usize], target: &[i64], allow_zero: bool) -> Result<Vec<usize>, OpError> {
    let wrong = |what: &str| {
        OpError::input(
            1,
            format!("{what}, expected a shape for {shape:?}, got {target:?}"),
        )
    };
    let mut resolved = Vec::with_capacity(target.len());
    let mut open = None;
    for (axis, &dim) in target.iter().enumerate() {
        resolved.push(match dim {
            -1 if open.is_some() => return Err(wrong("more than one -1")),
            -1 => {
                open = Some(axis);
                1
            }
            0 if !allow_zero => *shape.get(axis).ok_or_else(|| wrong("0 beyond the rank"))?,
            _ => usize::try_from(dim).map_err(|_| wrong("negative dimension"))?,
        });
    }
    if let Some(axis) = open {
        let total: usize = shape.iter().product();
        let others = qloupe_tensor::n_elements(&resolved).filter(|&n| n > 0);
        resolved[axis] = others
            .filter(|others| total.is_multiple_of(*others))
            .map(|others| total / others)
            .ok_or_else(|| wrong("-1 cannot be resolved"))?;
    }
    Ok(resolved)
}

/// `product(numerator) / product(denominator)` with common factors cancelled.
fn quotient(numerator: &[SymDim], denominator: &[SymDim]) -> SymDim {
    let mut top: Vec<&SymDim> = numerator.iter().collect();
    let mut bottom: Vec<&SymDim> = Vec::new();
    for factor in denominator {
        match top.iter().position(|t| *t == factor && t.as_known().is_none()) {
            Some(idx) => {
                top.remove(idx);
            }
            None => bottom.push(factor),
        }
    }
    let constant = |factors: &[&SymDim]| factors.iter().filter_map(|f| f.as_known()).product::<i64>();
    let open = |factors: &[&SymDim]| {
        let open = factors.iter().filter(|f| f.as_known().is_none());
        open.fold(SymDim::known(1), |product, factor| product.times(factor))
    };
    let (scale, divisor) = (constant(&top), constant(&bottom));
    if divisor != 0 && scale % divisor == 0 {
        open(&top)
            .times(&SymDim::known(scale / divisor))
            .floor_div(&open(&bottom))
    } else {
        let product = |factors: &[&SymDim]| open(factors).times(&SymDim::known(constant(factors)));
        product(&top).floor_div(&product(&bottom))
    }
}

impl Operator for Reshape {
    fn op_type(&self) -> &'static str {
        "Reshape"
    }

    fn since_version(&self) -> i64 {
        5
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let data = ctx.require(0)?;
        let target = ctx.require(1)?;
        let allow_zero = ctx.node.int("allowzero") == Some(1);
        let Some(elements) = &target.elements else {
            let rank = target.fixed_shape().filter(|s| s.len() == 1);
            let open = rank.map(|s| (0..s[0]).map(|axis| open_dim(ctx, 0, axis)).collect());
            return Ok(vec![Fact::new(data.dtype, open)]);
        };
        let mut dims = Vec::with_capacity(elements.len());
        let mut remaining = None;
        for (axis, dim) in elements.iter().enumerate() {
            dims.push(match dim.as_known() {
                Some(0) if !allow_zero => match data.shape.as_ref().map(|s| s.get(axis)) {
                    Some(Some(copied)) => copied.clone(),
                    Some(None) => {
                        return Err(OpError::input(
                            1,
                            format!("0 beyond the rank, expected at most {axis} dimensions of 0"),
                        ));
                    }
                    None => open_dim(ctx, 0, axis),
                },
                Some(-1) => {
                    remaining = Some(axis);
                    SymDim::known(1)
                }
                _ => dim.clone(),
            });
        }
        if let Some(axis) = remaining {
            let no_zero = |dims: &[SymDim]| dims.iter().all(|d| d.as_known() != Some(0));
            dims[axis] = match data.shape.as_deref() {
                Some(shape) if no_zero(&dims) => quotient(shape, &dims),
                _ => open_dim(ctx, 0, axis),
            };
        }
        Ok(vec![match &data.elements {
            Some(elements) => elements_fact(data.dtype, dims, elements.clone()),
            None => Fact::new(data.dtype, Some(dims)),
        }])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let data = ctx.require(0)?;
        let target = integers(ctx.require(1)?, 1)?;
        let shape = resolve(data.shape(), &target, ctx.int("allowzero", 0) == 1)?;
        Ok(vec![data.clone().reshape(&shape)?])
    }
}

impl Differentiable for Reshape {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        reshaped(ctx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_minus_one_are_resolved() {
        struct Case(&'static [i64], bool, Result<&'static [usize], &'static str>);
        let cases = [
            Case(&[0, -1], false, Ok(&[2, 12])),
            Case(&[4, -1, 3], false, Ok(&[4, 2, 3])),
            Case(
                &[-1, -1],
                false,
                Err("input 1: more than one -1, expected a shape for [2, 3, 4], got [-1, -1]"),
            ),
            Case(
                &[7, -1],
                false,
                Err("input 1: -1 cannot be resolved, expected a shape for [2, 3, 4], got [7, -1]"),
            ),
            Case(
                &[0, -1],
                true,
                Err("input 1: -1 cannot be resolved, expected a shape for [2, 3, 4], got [0, -1]"),
            ),
        ];
        for Case(target, allow_zero, expected) in cases {
            let got = resolve(&[2, 3, 4], target, allow_zero).map_err(|e| e.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), expected, "{target:?}");
        }
    }

    #[test]
    fn open_dimensions_cancel() {
        let [n, h, w] = ["n", "h", "w"].map(SymDim::symbol);
        let known = SymDim::known;
        let shape = [n.clone(), known(64), h.clone(), w.clone()];
        assert_eq!(quotient(&shape, &[n.clone(), known(64)]).to_string(), "h*w");
        assert_eq!(quotient(&shape, &[n, known(16), h, w]).to_string(), "4");
    }
}
