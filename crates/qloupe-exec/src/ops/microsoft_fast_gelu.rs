//! com.microsoft.FastGelu: Gelu of a sum, by way of tanh.

use qloupe_ir::{AttributeValue, Node};
use qloupe_tensor::Tensor;

use super::cast::cast;
use super::composed::{MICROSOFT, with_attributes, with_bias};
use super::gelu::Gelu;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = z/2 * (1 + tanh(sqrt(2/pi) * (z + 0.044715 z^3)))` of `z = x + bias`; the bias may be absent.
#[derive(Debug)]
pub(super) struct FastGelu;

impl Operator for FastGelu {
    fn op_type(&self) -> &'static str {
        "FastGelu"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let dtype = ctx.require(0)?.dtype();
        let sum = with_bias(ctx, 1)?;
        let approximate =
            Node::default().with_attribute("approximate", AttributeValue::String(b"tanh".to_vec()));
        Ok(vec![cast(
            &with_attributes(&Gelu, &approximate, &[(0, &sum)])?,
            dtype,
        )?])
    }
}
