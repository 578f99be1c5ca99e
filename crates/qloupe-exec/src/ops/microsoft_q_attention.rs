//! com.microsoft.QAttention: attention with an integer projection of queries, keys and values.

use qloupe_tensor::{DType, Tensor};

use super::attention_core::n_heads;
use super::composed::MICROSOFT;
use super::elementwise::scalar;
use super::integer_matrix::IntegerMatrix;
use super::microsoft_attention::{Attention, AttentionInputs, attend, heads_of_projection};
use super::parameters::require_rank;
use super::quant_parameters::activation_zero_point;
use super::quantized_kernel::infer_of;
use super::scaled_product::scaled_product;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, PrepareContext, Prepared};

const WEIGHT: usize = 1;
const BIAS: usize = 2;
const SCALE: usize = 3;
const WEIGHT_SCALE: usize = 4;
const MASK: usize = 5;
const ZERO_POINT: usize = 6;
const WEIGHT_ZERO_POINT: usize = 7;
const PAST: usize = 8;

/// An index that no input has.
const ABSENT: usize = usize::MAX;

/// Attention of com.microsoft with `[q, k, v] = f32((x - x_zero_point) * (w - w_zero_point)) * (x_scale * w_scale) + b`;
/// scale and zero point of w may be one for each column. All that follows is float32.
#[derive(Debug)]
pub(super) struct QAttention;

impl Operator for QAttention {
    fn op_type(&self) -> &'static str {
        "QAttention"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let as_attention = [0, WEIGHT, BIAS, MASK, PAST];
        let mut facts = infer_of(ctx, &as_attention, |ctx| Attention.infer(ctx))?;
        for fact in &mut facts {
            fact.dtype = Some(DType::Float32);
        }
        Ok(facts)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let zero_point = (WEIGHT_ZERO_POINT, ctx.input(WEIGHT_ZERO_POINT));
        PreparedQAttention(IntegerMatrix::new(
            WEIGHT,
            ctx.require(WEIGHT)?,
            zero_point,
            None,
        )?)
        .eval(ctx)
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let weight = IntegerMatrix::prepare(ctx, WEIGHT, WEIGHT_ZERO_POINT)?;
        Ok(weight.map(|weight| Box::new(PreparedQAttention(weight)) as Box<dyn Prepared>))
    }
}

#[derive(Debug)]
struct PreparedQAttention(IntegerMatrix);

impl Prepared for PreparedQAttention {
    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        require_rank(x, 0, 3)?;
        let params = (
            scalar::<f32>(ctx, SCALE)?,
            activation_zero_point(ctx, ZERO_POINT, x)?,
        );
        let projected = scaled_product(ctx, x, params, &self.0, (WEIGHT_SCALE, BIAS))?;
        let all = self.0.n_columns();
        if projected.rank() != 3 || !all.is_multiple_of(3) {
            return Err(OpError::input(
                WEIGHT,
                format!("wrong shape, expected a matrix with a multiple of 3 columns, got {all} columns"),
            ));
        }
        let heads = heads_of_projection(&projected, [all / 3; 3], n_heads(ctx.node, "num_heads")?)?;
        let inputs = AttentionInputs {
            mask: MASK,
            past: PAST,
            score_bias: ABSENT,
        };
        attend(ctx, heads, inputs, DType::Float32)
    }
}
