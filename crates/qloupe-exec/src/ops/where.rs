//! Where: one of two values, by a condition.

use qloupe_ir::Node;
use qloupe_tensor::{DType, Data, Element, Tensor};

use super::broadcast::Broadcast;
use super::elementwise::map;
use super::elementwise::{infer_broadcast, typed, wrong_dtype, zip_elements};
use super::elementwise_gradient::{Factor, broadcast_pullback};
use super::number::each_castable;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback,
    PullbackContext, SymDim,
};

/// `y = condition ? a : b`, broadcast; values of any dtype that has a Rust type, or strings.
#[derive(Debug)]
pub(super) struct Where;

impl Operator for Where {
    fn op_type(&self) -> &'static str {
        "Where"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let dtype = ctx.dtype(1).or(ctx.dtype(2));
        let mut facts = infer_broadcast(ctx, dtype)?;
        if let (Some(condition), Some(a), Some(b)) = (ctx.elements(0), ctx.elements(1), ctx.elements(2)) {
            facts[0].elements = select_elements(condition, a, b);
        }
        Ok(facts)
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let dtype = ctx.require(1)?.dtype();
        if dtype == DType::String {
            return select_strings(ctx);
        }
        each_castable!(
            dtype, T => select::<T>(ctx),
            else Err(wrong_dtype(1, "a number, bool or string", dtype))
        )
    }
}

impl Differentiable for Where {
    fn covers(&self, _node: &Node, input_idx: usize) -> bool {
        input_idx > 0
    }

    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let condition = ctx.call.require(0)?;
        let factor = |taken: bool| {
            let taken = map(condition.require::<bool>()?, |c| f32::from(u8::from(c == taken)));
            Ok::<_, OpError>(Some(Factor::Tensor(Tensor::new(condition.shape(), taken)?)))
        };
        broadcast_pullback(ctx, vec![None, factor(true)?, factor(false)?])
    }
}

fn plan(ctx: &EvalContext<'_>) -> Result<Broadcast<3>, OpError> {
    Broadcast::new([
        ctx.require(0)?.shape(),
        ctx.require(1)?.shape(),
        ctx.require(2)?.shape(),
    ])
}

fn select<T: Element>(ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
    let condition = typed::<bool>(ctx, 0)?;
    let (a, b) = (typed::<T>(ctx, 1)?, typed::<T>(ctx, 2)?);
    let plan = plan(ctx)?;
    let selected = plan.fill(|out, [c, i, j], [cs, p, q]| {
        for (k, out) in out.iter_mut().enumerate() {
            let at = |start: usize, advances: bool| if advances { start + k } else { start };
            *out = if condition[at(c, cs)] {
                a[at(i, p)]
            } else {
                b[at(j, q)]
            };
        }
    });
    Ok(vec![Tensor::new(plan.shape(), selected)?])
}

fn select_strings(ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
    let condition = typed::<bool>(ctx, 0)?;
    let strings = |idx| match ctx.require(idx)?.data() {
        Data::String(values) => Ok(values.as_slice()),
        _ => Err(wrong_dtype(idx, DType::String, ctx.require(idx)?.dtype())),
    };
    let (a, b) = (strings(1)?, strings(2)?);
    let plan = plan(ctx)?;
    let sources: Vec<(bool, usize)> = plan.fill(|out, [c, i, j], [cs, p, q]| {
        for (k, out) in out.iter_mut().enumerate() {
            let at = |start: usize, advances: bool| if advances { start + k } else { start };
            let takes_a = condition[at(c, cs)];
            *out = (takes_a, if takes_a { at(i, p) } else { at(j, q) });
        }
    });
    let selected = sources
        .into_iter()
        .map(|(takes_a, idx)| if takes_a { a[idx].clone() } else { b[idx].clone() })
        .collect();
    Ok(vec![Tensor::from_strings(plan.shape(), selected)?])
}

fn select_elements(condition: &[SymDim], a: &[SymDim], b: &[SymDim]) -> Option<Vec<SymDim>> {
    let pairs = zip_elements(a, b, |a, b| Some((a.clone(), b.clone())))?;
    let n = if pairs.len() == 1 {
        condition.len()
    } else {
        pairs.len()
    };
    if (condition.len() != n && condition.len() != 1) || pairs.is_empty() || condition.is_empty() {
        return None;
    }
    (0..n)
        .map(|i| {
            let (a, b) = &pairs[if pairs.len() == 1 { 0 } else { i }];
            let takes_a = condition[if condition.len() == 1 { 0 } else { i }].as_known()? != 0;
            Some(if takes_a { a } else { b }.clone())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_selected_where_the_condition_is_known() {
        let (n, one) = (SymDim::symbol("n"), SymDim::known(1));
        let condition = [SymDim::known(0), SymDim::known(1)];
        assert_eq!(
            select_elements(&condition, std::slice::from_ref(&one), &[n.clone(), n.clone()]),
            Some(vec![n.clone(), one.clone()])
        );
        let conditions = [one];
        assert_eq!(select_elements(&[n.clone(), n], &conditions, &conditions), None);
    }
}
