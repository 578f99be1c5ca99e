//! The pullback of Gemm.

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use super::elementwise_gradient::{Factor, sum_to};
use super::mat_mul::multiply;
use super::product_gradient::{PackedProduct, transposed_matrices};
use crate::{OpError, PreparedPullback, Pullback, PullbackContext};

fn is_set(node: &Node, name: &str) -> bool {
    node.int(name).unwrap_or(0) != 0
}

fn turned_if(x: Tensor, turn: bool) -> Result<Tensor, OpError> {
    if turn { transposed_matrices(&x) } else { Ok(x) }
}

/// The pullback of `alpha * a' * b' + beta * c` to all inputs.
///
/// # Errors
/// An absent input, another type than float.
pub(super) fn gemm_pullback<'a>(ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
    let node = ctx.call.node;
    let (alpha, beta) = (ctx.call.float("alpha", 1.0), ctx.call.float("beta", 1.0));
    let wanted = [ctx.wants(0), ctx.wants(1), ctx.wants(2)];
    // The operands as they are multiplied.
    let (turn_a, turn_b) = (is_set(node, "transA"), is_set(node, "transB"));
    let a = turned_if(ctx.call.require(0)?.to_f32()?, turn_a)?;
    let b = turned_if(ctx.call.require(1)?.to_f32()?, turn_b)?;
    let addend = ctx.call.input(2).map(|c| c.shape());
    let (a, b) = (transposed_matrices(&a)?, transposed_matrices(&b)?);
    Ok(Pullback::new(move |mut gradients| {
        let Some(gradient) = gradients.first_mut().and_then(Option::take) else {
            return Ok(Vec::new());
        };
        let scaled = Factor::Number(alpha).times(&gradient)?;
        let mut results = vec![None; wanted.len()];
        if wanted[0] {
            results[0] = Some(turned_if(multiply(&scaled, &b)?, turn_a)?);
        }
        if wanted[1] {
            results[1] = Some(turned_if(multiply(&a, &scaled)?, turn_b)?);
        }
        if let Some(shape) = addend.filter(|_| wanted[2]) {
            results[2] = Some(sum_to(Factor::Number(beta).times(&gradient)?, shape)?);
        }
        Ok(results)
    }))
}

/// A Gemm with a constant right matrix, packed for the way back.
#[derive(Debug)]
pub(super) struct PackedGemm {
    product: PackedProduct,
    turn_a: bool,
    alpha: f32,
}

impl PackedGemm {
    /// # Errors
    /// A matrix of another rank or type.
    pub(super) fn new(node: &Node, b: &Tensor) -> Result<Self, OpError> {
        let b = turned_if(b.to_f32()?, is_set(node, "transB"))?;
        Ok(Self {
            product: PackedProduct::new(&b)?,
            turn_a: is_set(node, "transA"),
            alpha: node.float("alpha").unwrap_or(1.0),
        })
    }
}

impl PreparedPullback for PackedGemm {
    fn pullback<'a>(&'a self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let mut shape = ctx.call.require(0)?.shape().to_vec();
        if self.turn_a {
            shape.reverse();
        }
        Ok(Pullback::of_first(move |gradient| {
            let scaled = Factor::Number(self.alpha).times(&gradient)?;
            turned_if(self.product.times(&scaled, &shape)?, self.turn_a)
        }))
    }
}
