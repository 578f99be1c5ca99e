//! Clip: limits values to a range.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::Tensor;

use super::cast::cast;
use super::elementwise::{NUMBERS, map, widened, wrong_dtype};
use super::elementwise_gradient::{by_input, indicator};
use super::number::{Exact, Number, each_number};
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext,
};

/// `y = min(max(x, low), high)`; NaN stays NaN. The bounds are attributes below opset 11, optional inputs from then on.
#[derive(Debug)]
pub(super) struct Clip;

impl Operator for Clip {
    fn op_type(&self) -> &'static str {
        "Clip"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn elements(&self, ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        let bound = |idx: usize, attribute: &str, none: f32| {
            if ctx.opset < 11 {
                return Some(ctx.node.float(attribute).unwrap_or(none));
            }
            if ctx.node.input(idx).is_none() {
                return Some(none);
            }
            match ctx.constants.get(idx)?.as_ref()?.as_slice::<f32>()? {
                &[value] => Some(value),
                _ => None,
            }
        };
        let min = bound(1, "min", f32::NEG_INFINITY)?;
        let max = bound(2, "max", f32::INFINITY)?;
        ElementSteps::unary(UnaryKernel::Clip { min, max })
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let dtype = x.dtype();
        let wide = widened(ctx, 0, dtype)?;
        let clipped = each_number!(wide.dtype(), T => {
            let (low, high) = (bound::<T>(ctx, 1, "min")?, bound::<T>(ctx, 2, "max")?);
            let values = wide.require::<T>()?;
            Tensor::new(x.shape(), map(values, |v| {
                let raised = low.map_or(v, |low| if v < low { low } else { v });
                high.map_or(raised, |high| if raised > high { high } else { raised })
            }))?
        }, else return Err(wrong_dtype(0, NUMBERS, dtype)));
        Ok(vec![cast(&clipped, dtype)?])
    }
}

impl Differentiable for Clip {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let low = bound::<f32>(&ctx.call, 1, "min")?.unwrap_or(f32::NEG_INFINITY);
        let high = bound::<f32>(&ctx.call, 2, "max")?.unwrap_or(f32::INFINITY);
        by_input(ctx, move |x| indicator((x >= low) & (x <= high)))
    }
}

fn bound<T: Number>(ctx: &EvalContext<'_>, idx: usize, attribute: &str) -> Result<Option<T>, OpError> {
    if ctx.opset < 11 {
        let value = ctx.node.float(attribute);
        return Ok(value.map(|v| T::narrow(Exact::Float(f64::from(v)))));
    }
    if ctx.input(idx).is_none() {
        return Ok(None);
    }
    let bound = widened(ctx, idx, ctx.require(0)?.dtype())?;
    match bound.require::<T>()? {
        &[value] => Ok(Some(value)),
        _ => Err(OpError::input(
            idx,
            format!("wrong shape, expected one element, got {:?}", bound.shape()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;
    use crate::Layout;

    #[test]
    fn bounds_are_attributes_before_opset_11_and_inputs_after() {
        let node = Node::default()
            .with_attribute("min", AttributeValue::Float(-1.0))
            .with_attribute("max", AttributeValue::Float(1.0));
        let x = Tensor::vector(vec![-2.0_f32, 0.5, 2.0, f32::NAN]);
        let low = Tensor::scalar(0.0_f32);
        let run = |opset, inputs: &[Option<&Tensor>]| {
            let y = Clip.eval(&EvalContext {
                node: &node,
                opset,
                layout: Layout::Plain,
                inputs,
            });
            format!("{:?}", y.unwrap()[0].as_slice::<f32>().unwrap())
        };
        assert_eq!(run(6, &[Some(&x)]), "[-1.0, 0.5, 1.0, NaN]");
        assert_eq!(run(13, &[Some(&x), Some(&low)]), "[0.0, 0.5, 2.0, NaN]");
        assert_eq!(run(13, &[Some(&x), None, Some(&low)]), "[-2.0, 0.0, 0.0, NaN]");
    }
}
