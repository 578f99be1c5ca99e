//! BitShift: shifts the bits of integers.

use qloupe_tensor::Tensor;

use super::broadcast::Broadcast;
use super::cast::cast;
use super::elementwise::{INTEGERS, infer_broadcast, widened, wrong_dtype, zip};
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `c = a << b` or `a >> b` by the attribute `direction`, broadcast.
///
/// # Edge cases
/// A shift that is negative or not smaller than the number of bits shifts all bits out: 0, or -1 for a negative number shifted
/// right, which keeps the sign.
#[derive(Debug)]
pub(super) struct BitShift;

impl Operator for BitShift {
    fn op_type(&self) -> &'static str {
        "BitShift"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_broadcast(ctx, ctx.dtype(0))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let left = match ctx.string("direction", "") {
            "LEFT" => true,
            "RIGHT" => false,
            other => {
                return Err(OpError::attribute(
                    "direction",
                    format!("unknown value, expected \"LEFT\" or \"RIGHT\", got \"{other}\""),
                ));
            }
        };
        let dtype = ctx.require(0)?.dtype();
        let n_bits = i64::try_from(dtype.size_bits()).unwrap_or(i64::MAX);
        let (a, b) = (widened(ctx, 0, dtype)?, widened(ctx, 1, dtype)?);
        let plan = Broadcast::new([a.shape(), b.shape()])?;
        let shifted = match (
            a.as_slice::<i64>(),
            b.as_slice::<i64>(),
            a.as_slice(),
            b.as_slice(),
        ) {
            (Some(a), Some(b), ..) => Tensor::new(
                plan.shape(),
                zip(&plan, a, b, |a, b| {
                    let all_out = if a < 0 && !left { -1 } else { 0 };
                    match b {
                        0.. if b < n_bits => {
                            if left {
                                a << b
                            } else {
                                a >> b
                            }
                        }
                        _ => all_out,
                    }
                }),
            )?,
            (.., Some(a), Some(b)) => Tensor::new(
                plan.shape(),
                zip(&plan, a, b, |a: u64, b: u64| match b {
                    0..64 => {
                        if left {
                            a << b
                        } else {
                            a >> b
                        }
                    }
                    _ => 0,
                }),
            )?,
            _ => return Err(wrong_dtype(0, INTEGERS, dtype)),
        };
        Ok(vec![cast(&shifted, dtype)?])
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;
    use crate::Layout;

    fn run(direction: &str) -> Result<Vec<Tensor>, OpError> {
        let node = Node::default().with_attribute("direction", AttributeValue::String(direction.into()));
        let (a, b) = (
            Tensor::vector(vec![16_u8, 3, 255]),
            Tensor::vector(vec![1_u8, 1, 8]),
        );
        BitShift.eval(&EvalContext {
            node: &node,
            opset: 11,
            layout: Layout::Plain,
            inputs: &[Some(&a), Some(&b)],
        })
    }

    #[test]
    fn all_bits_can_be_shifted_out() {
        assert_eq!(run("LEFT").unwrap()[0].as_slice::<u8>().unwrap(), [32, 6, 0]);
        assert_eq!(run("RIGHT").unwrap()[0].as_slice::<u8>().unwrap(), [8, 1, 0]);
        assert_eq!(
            run("UP").unwrap_err().to_string(),
            "attribute \"direction\": unknown value, expected \"LEFT\" or \"RIGHT\", got \"UP\""
        );
    }
}
