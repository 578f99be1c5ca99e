//! Bernoulli: ones with given probabilities.

use qloupe_tensor::Tensor;

use super::cast::cast;
use super::normalization::floats;
use super::parameters::dtype_attribute;
use super::random::Random;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = 1` with probability `x`, else 0.
///
/// The same numbers in every run: they depend on the seed, or without one on the name of the output.
#[derive(Debug)]
pub(super) struct Bernoulli;

impl Operator for Bernoulli {
    fn op_type(&self) -> &'static str {
        "Bernoulli"
    }

    fn since_version(&self) -> i64 {
        15
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let dtype = dtype_attribute(ctx.node, "dtype")?.or(x.dtype);
        Ok(vec![Fact::new(dtype, x.shape.clone())])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let dtype = dtype_attribute(ctx.node, "dtype")?.unwrap_or(x.dtype());
        let random = Random::of(ctx.node);
        let probabilities = floats(ctx, 0)?.into_iter().enumerate();
        let drawn = probabilities.map(|(i, p)| random.uniform(i) < p).collect();
        Ok(vec![cast(&Tensor::new::<bool>(x.shape(), drawn)?, dtype)?])
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;

    use super::*;
    use crate::Layout;

    #[test]
    fn the_share_of_ones_is_the_probability() {
        let node = Node::new("Bernoulli", "", &["x"], &["y"]);
        for (p, low, high) in [(0.0_f32, 0, 0), (0.25, 2400, 2600), (1.0, 10_000, 10_000)] {
            let x = Tensor::vector(vec![p; 10_000]);
            let ctx = EvalContext {
                node: &node,
                opset: 15,
                layout: Layout::Plain,
                inputs: &[Some(&x)],
            };
            let y = Bernoulli.eval(&ctx).unwrap();
            let ones = y[0].to_f64_vec().unwrap().iter().sum::<f64>() as usize;
            assert!((low..=high).contains(&ones), "{ones} ones with probability {p}");
        }
    }
}
