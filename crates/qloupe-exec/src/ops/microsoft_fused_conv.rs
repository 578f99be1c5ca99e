//! com.microsoft.FusedConv: a convolution, an addend and an activation.

use std::borrow::Cow;

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::{DType, Tensor};

use super::add::Add;
use super::cast::cast;
use super::composed::{MICROSOFT, apply};
use super::conv::Conv;
use super::elementwise::widened;
use super::fused_activation::{activated, kernel_of};
use crate::stored::permute;
use crate::{
    EvalContext, Fact, InferContext, Layout, LayoutRule, OpError, Operator, PrepareContext, Prepared,
};

/// `y = activation(conv(x, w) + b + z)`; `activation_params` are its parameters. Half types round once, at the end.
#[derive(Debug)]
pub(super) struct FusedConv;

impl Operator for FusedConv {
    fn op_type(&self) -> &'static str {
        "FusedConv"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Nhwc
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Conv.infer(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let dtype = ctx.require(1)?.dtype();
        let wide = [
            Some(ctx.require(0)?.clone()),
            Some(widened(ctx, 1, dtype)?),
            ctx.input(2).cloned(),
        ];
        let borrowed: Vec<Option<&Tensor>> = wide.iter().map(Option::as_ref).collect();
        let y = Conv
            .eval(&EvalContext {
                inputs: &borrowed,
                ..*ctx
            })?
            .remove(0);
        finished(ctx, y, dtype)
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let mut constants = ctx.constants.to_vec();
        let Some(Some(weight)) = constants.get_mut(1) else {
            return Ok(None);
        };
        let dtype = weight.dtype();
        if dtype.is_float() {
            *weight = cast(weight, DType::Float32)?;
        }
        let conv = Conv.prepare(&PrepareContext {
            constants: &constants,
            ..*ctx
        })?;
        Ok(conv.map(|conv| Box::new(PreparedFusedConv { conv, dtype }) as Box<dyn Prepared>))
    }
}

/// A FusedConv with its weight packed.
#[derive(Debug)]
struct PreparedFusedConv {
    conv: Box<dyn Prepared>,
    dtype: DType,
}

impl Prepared for PreparedFusedConv {
    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let y = self.conv.eval(ctx)?.remove(0);
        finished(ctx, y, self.dtype)
    }
}

fn finished(ctx: &EvalContext<'_>, mut y: Tensor, dtype: DType) -> Result<Vec<Tensor>, OpError> {
    if ctx.input(3).is_some() {
        let z = widened(ctx, 3, dtype)?;
        // Only input 0 comes in the order of the call.
        let z = match ctx.layout {
            Layout::Nhwc => Cow::Owned(permute(&z, Layout::Nhwc)),
            Layout::Plain => Cow::Borrowed(&z),
        };
        if z.shape() != y.shape() {
            return Err(OpError::input(
                3,
                format!("wrong shape, expected {:?}, got {:?}", y.shape(), z.shape()),
            ));
        }
        y = apply(&Add, ctx.node, ctx.layout, &[(0, &y), (3, &z)])?.remove(0);
    }
    Ok(vec![activated(y, activation(ctx)?, dtype)?])
}

fn activation(ctx: &EvalContext<'_>) -> Result<Option<UnaryKernel>, OpError> {
    let parameters = ctx.node.floats("activation_params").unwrap_or_default();
    match ctx.string("activation", "") {
        "" => Ok(None),
        name => kernel_of(name, |i, default| parameters.get(i).copied().unwrap_or(default)).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;

    #[test]
    fn the_addend_comes_before_the_activation_in_both_orders() {
        let node = Node::new("FusedConv", "", &["x", "w", "", "z"], &["y"])
            .with_attribute("activation", AttributeValue::String(b"LeakyRelu".to_vec()))
            .with_attribute("activation_params", AttributeValue::Floats(vec![0.5]));
        let x = Tensor::new(&[1, 1, 1, 2], vec![1_f32, 2.0]).unwrap();
        let weight = Tensor::new(&[2, 1, 1, 1], vec![1_f32, 10.0]).unwrap();
        let z = Tensor::new(&[1, 2, 1, 2], vec![-3_f32, 0.0, 1.0, -22.0]).unwrap();
        let y = Tensor::new(&[1, 2, 1, 2], vec![-1_f32, 2.0, 11.0, -1.0]).unwrap();
        for layout in [Layout::Plain, Layout::Nhwc] {
            let (x, y) = match layout {
                Layout::Plain => (x.clone(), y.clone()),
                Layout::Nhwc => (permute(&x, layout), permute(&y, layout)),
            };
            let inputs = [Some(&x), Some(&weight), None, Some(&z)];
            let ctx = EvalContext {
                node: &node,
                opset: 1,
                layout,
                inputs: &inputs,
            };
            assert_eq!(
                FusedConv.eval(&ctx).unwrap(),
                std::slice::from_ref(&y),
                "{layout:?}"
            );
            let constants = [None, Some(weight.clone()), None, None];
            let prepared = FusedConv.prepare(&PrepareContext {
                node: &node,
                opset: 1,
                constants: &constants,
            });
            let prepared = prepared.unwrap().expect("invariant: the weight is constant");
            assert_eq!(prepared.eval(&ctx).unwrap(), [y], "{layout:?}");
            let wrong = [Some(&x), Some(&weight), None, Some(&weight)];
            let error = FusedConv
                .eval(&EvalContext {
                    inputs: &wrong,
                    ..ctx
                })
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("input 3: wrong shape, expected [1, "),
                "{error}"
            );
        }
    }
}
