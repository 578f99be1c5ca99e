//! com.microsoft.FusedGemm: Gemm and an activation.

use qloupe_kernels::UnaryKernel;
use qloupe_tensor::{DType, Tensor};

use super::cast::{cast, computing_dtype};
use super::composed::MICROSOFT;
use super::elementwise::{widened, wrong_dtype};
use super::fused_activation::{activated, kernel_of};
use super::gemm::Gemm;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, PrepareContext, Prepared};

/// `y = activation(alpha * a' * b' + beta * c)`; its parameters are `activation_alpha` and `activation_beta`.
///
/// Half types round once, at the end.
#[derive(Debug)]
pub(super) struct FusedGemm;

impl Operator for FusedGemm {
    fn op_type(&self) -> &'static str {
        "FusedGemm"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Gemm.infer(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        evaluated(ctx, &|ctx| Gemm.eval(ctx))
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let wide = |x: &Tensor| cast(x, computing_dtype(x.dtype()));
        let constants = ctx.constants.iter().map(|x| x.as_ref().map(wide).transpose());
        let constants = constants.collect::<Result<Vec<_>, _>>()?;
        let gemm = Gemm.prepare(&PrepareContext {
            constants: &constants,
            ..*ctx
        })?;
        Ok(gemm.map(|gemm| Box::new(PreparedFusedGemm(gemm)) as Box<dyn Prepared>))
    }
}

/// A FusedGemm with its right matrix packed.
#[derive(Debug)]
struct PreparedFusedGemm(Box<dyn Prepared>);

impl Prepared for PreparedFusedGemm {
    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        evaluated(ctx, &|ctx| self.0.eval(ctx))
    }
}

type Evaluate<'a> = dyn Fn(&EvalContext<'_>) -> Result<Vec<Tensor>, OpError> + 'a;

fn evaluated(ctx: &EvalContext<'_>, gemm: &Evaluate<'_>) -> Result<Vec<Tensor>, OpError> {
    let dtype = ctx.require(0)?.dtype();
    if computing_dtype(dtype) != DType::Float32 {
        return Err(wrong_dtype(0, "float32, float16 or bfloat16", dtype));
    }
    let wide = |idx| ctx.input(idx).map(|_| widened(ctx, idx, dtype)).transpose();
    let wide = [wide(0)?, wide(1)?, wide(2)?];
    let inputs: Vec<Option<&Tensor>> = wide.iter().map(Option::as_ref).collect();
    let y = gemm(&EvalContext {
        inputs: &inputs,
        ..*ctx
    })?
    .remove(0);
    Ok(vec![activated(y, activation(ctx)?, dtype)?])
}

fn activation(ctx: &EvalContext<'_>) -> Result<Option<UnaryKernel>, OpError> {
    let names = ["activation_alpha", "activation_beta"];
    match ctx.string("activation", "") {
        "" => Ok(None),
        name => kernel_of(name, |i, default| {
            names.get(i).map_or(default, |name| ctx.float(name, default))
        })
        .map(Some),
    }
}

#[cfg(test)]
mod tests {
    use half::f16;
    use qloupe_ir::{AttributeValue, Node};

    use super::*;
    use crate::Layout;

    #[test]
    fn the_activation_follows_the_addend() {
        let node = Node::new("FusedGemm", "", &["a", "b", "c"], &["y"])
            .with_attribute("activation", AttributeValue::String(b"LeakyRelu".to_vec()))
            .with_attribute("activation_alpha", AttributeValue::Float(0.5));
        let half = |shape: &[usize], v: &[f32]| {
            Tensor::new(shape, v.iter().copied().map(f16::from_f32).collect()).unwrap()
        };
        let (a, b, c) = (
            half(&[1, 2], &[1.0, 2.0]),
            half(&[2, 2], &[1.0, 2.0, 3.0, 4.0]),
            half(&[2], &[-9.0, 1.0]),
        );
        let ctx = EvalContext {
            node: &node,
            opset: 1,
            layout: Layout::Plain,
            inputs: &[Some(&a), Some(&b), Some(&c)],
        };
        let y = half(&[1, 2], &[-1.0, 11.0]);
        assert_eq!(FusedGemm.eval(&ctx).unwrap(), std::slice::from_ref(&y));
        let constants = [None, Some(b.clone()), Some(c.clone())];
        let prepared = FusedGemm.prepare(&PrepareContext {
            node: &node,
            opset: 1,
            constants: &constants,
        });
        let prepared = prepared.unwrap().expect("invariant: b and c are constant");
        assert_eq!(prepared.eval(&ctx).unwrap(), [y]);
    }
}
