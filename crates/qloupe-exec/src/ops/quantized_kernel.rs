//! Operators of com.microsoft on 8-bit tensors that the integer kernels of units compute.

use std::fmt::Debug;

use qloupe_tensor::Tensor;

use super::composed::MICROSOFT;
use super::movement::View;
use crate::integer::IntegerKernel;
use crate::{
    EvalContext, Fact, InferContext, Layout, LayoutRule, OpError, Operator, PrepareContext, Prepared, Stored,
};

/// An operator whose scales and zero points make a kernel, which runs on the other inputs.
pub(super) trait KernelOperator: Debug + Sync {
    /// The name.
    const OP_TYPE: &'static str;
    /// The inputs that the kernel runs on.
    const ACTIVATIONS: &'static [usize];
    /// The inputs that make the kernel: where all are constants, it is made once.
    const PARAMETERS: &'static [usize];

    /// Types and shapes of the outputs.
    fn infer_outputs(ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError>;

    /// Makes the kernel; reads activations only where a zero point is absent.
    fn compile(ctx: &EvalContext<'_>) -> Result<Box<dyn IntegerKernel>, OpError>;
}

impl<K: KernelOperator> Operator for K {
    fn op_type(&self) -> &'static str {
        K::OP_TYPE
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        K::infer_outputs(ctx)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        run(K::compile(ctx)?.as_ref(), K::ACTIVATIONS, ctx)
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let inputs: Vec<Option<&Tensor>> = ctx.constants.iter().map(Option::as_ref).collect();
        let constant = |idx: usize| inputs.get(idx).is_some_and(Option::is_some);
        if !K::PARAMETERS.iter().copied().all(constant) {
            return Ok(None);
        }
        let kernel = K::compile(&EvalContext {
            node: ctx.node,
            opset: ctx.opset,
            layout: Layout::Plain,
            inputs: &inputs,
        })?;
        Ok(Some(Box::new(PreparedKernel {
            kernel,
            activations: K::ACTIVATIONS,
        })))
    }
}

#[derive(Debug)]
struct PreparedKernel {
    kernel: Box<dyn IntegerKernel>,
    activations: &'static [usize],
}

impl Prepared for PreparedKernel {
    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        run(self.kernel.as_ref(), self.activations, ctx)
    }
}

fn run(
    kernel: &dyn IntegerKernel,
    activations: &[usize],
    ctx: &EvalContext<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let channels_last = ctx.int("channels_last", 0) == 1;
    let mut inputs = Vec::with_capacity(activations.len());
    for &idx in activations {
        let x = Stored::of_call(ctx.require(idx)?.clone(), ctx.layout);
        inputs.push(if channels_last {
            channels_first(x.to_plain())?
        } else {
            x
        });
    }
    let mut outputs = Vec::new();
    for y in kernel.run(&inputs.iter().collect::<Vec<_>>())? {
        let y = if channels_last {
            Stored::plain(channels_behind(&y)?)
        } else {
            y
        };
        outputs.push(y.in_layout(ctx.layout).clone());
    }
    Ok(outputs)
}

/// A tensor `[N, spatial.., C]` as the value `[N, C, spatial..]`.
pub(super) fn channels_first(x: &Tensor) -> Result<Stored, OpError> {
    if x.rank() == 4 {
        return Ok(Stored::of_call(x.clone(), Layout::Nhwc));
    }
    let mut axes: Vec<usize> = (0..x.rank()).collect();
    axes.get_mut(1..)
        .unwrap_or_default()
        .rotate_right(usize::from(x.rank() > 2));
    transposed(x, &axes).map(Stored::plain)
}

/// A value `[N, C, spatial..]` as the tensor `[N, spatial.., C]`.
pub(super) fn channels_behind(y: &Stored) -> Result<Tensor, OpError> {
    if y.rank() == 4 {
        return Ok(y.to_nhwc().clone());
    }
    let mut axes: Vec<usize> = (0..y.rank()).collect();
    axes.get_mut(1..)
        .unwrap_or_default()
        .rotate_left(usize::from(y.rank() > 2));
    transposed(y.to_plain(), &axes)
}

fn transposed(x: &Tensor, axes: &[usize]) -> Result<Tensor, OpError> {
    let shape: Vec<usize> = axes.iter().map(|&axis| x.shape()[axis]).collect();
    View::transposed(x.shape(), axes).copy(x, &shape)
}

/// Infers with input 0 seen as `[N, C, spatial..]`, for operators with `channels_last`.
pub(super) fn infer_channels(
    ctx: &InferContext<'_>,
    channels_last: bool,
    infer: impl Fn(&InferContext<'_>) -> Result<Vec<Fact>, OpError>,
) -> Result<Vec<Fact>, OpError> {
    let x = ctx.require(0)?;
    let rotate = |fact: &mut Fact, by: fn(&mut [crate::SymDim])| {
        if let Some(shape) = fact
            .shape
            .as_mut()
            .filter(|shape| shape.len() > 2 && channels_last)
        {
            by(&mut shape[1..]);
        }
    };
    let mut first = Fact::new(x.dtype, x.shape.clone());
    rotate(&mut first, |dims| dims.rotate_right(1));
    let mut facts = infer(&InferContext {
        node: ctx.node,
        opset: ctx.opset,
        inputs: &[Some(&first)],
        bodies: ctx.bodies,
    })?;
    for fact in &mut facts {
        rotate(fact, |dims| dims.rotate_left(1));
    }
    Ok(facts)
}

/// Infers as an operator whose inputs are the activations only.
pub(super) fn infer_of(
    ctx: &InferContext<'_>,
    activations: &[usize],
    infer: impl Fn(&InferContext<'_>) -> Result<Vec<Fact>, OpError>,
) -> Result<Vec<Fact>, OpError> {
    let inputs: Vec<Option<&Fact>> = activations.iter().map(|&idx| ctx.input(idx)).collect();
    infer(&InferContext {
        node: ctx.node,
        opset: ctx.opset,
        inputs: &inputs,
        bodies: ctx.bodies,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_go_to_the_front_and_back() {
        for shape in [vec![2, 3], vec![2, 3, 5], vec![2, 3, 4, 5], vec![1, 2, 3, 4, 5]] {
            let n = shape.iter().product::<usize>();
            let x = Tensor::new(&shape, (0..n).map(|i| i as u8).collect()).unwrap();
            let first = channels_first(&x).unwrap();
            if shape.len() > 2 {
                assert_eq!(first.shape()[1], *shape.last().unwrap(), "{shape:?}");
            }
            assert_eq!(channels_behind(&first).unwrap(), x, "{shape:?}");
        }
    }
}
