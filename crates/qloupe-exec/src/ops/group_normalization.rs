//! GroupNormalization: standardizes groups of channels of each sample.

use qloupe_tensor::Tensor;

use super::normalization::{each_row, floats, floats_of_length, rounded, standardize};
use super::normalization_gradient::{Center, standardized};
use crate::{Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext};

/// `y = scale * (x - mean) / sqrt(variance + epsilon) + bias`, statistics for each sample and group of channels.
///
/// # Shapes
/// x: `[N, C, ..]`; scale, bias: `[C]` from opset 21 on, `[num_groups]` before.
#[derive(Debug)]
pub(super) struct GroupNormalization;

impl Operator for GroupNormalization {
    fn op_type(&self) -> &'static str {
        "GroupNormalization"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let [_, channels, spatial @ ..] = x.shape() else {
            return Err(OpError::input(
                0,
                format!("wrong rank, expected at least 2, got {}", x.rank()),
            ));
        };
        let given = ctx.int("num_groups", 0);
        let groups = usize::try_from(given)
            .ok()
            .filter(|&groups| groups > 0 && channels % groups == 0)
            .ok_or_else(|| {
                OpError::attribute(
                    "num_groups",
                    format!("expected a divisor of {channels} channels, got {given}"),
                )
            })?;
        let per_group = channels / groups;
        let n_affine = if ctx.opset < 21 { groups } else { *channels };
        let scale = floats_of_length(ctx, 1, n_affine)?;
        let bias = floats_of_length(ctx, 2, n_affine)?;
        let epsilon = f64::from(ctx.float("epsilon", 1e-5));
        let inner: usize = spatial.iter().product();
        let mut values = floats(ctx, 0)?;
        each_row(&mut values, per_group * inner, |row_idx, row| {
            standardize(row, epsilon);
            let group = row_idx % groups;
            for (c, channel) in row.chunks_mut(inner.max(1)).enumerate() {
                let idx = if n_affine == groups && ctx.opset < 21 {
                    group
                } else {
                    group * per_group + c
                };
                channel.iter_mut().for_each(|v| *v = *v * scale[idx] + bias[idx]);
            }
        });
        Ok(vec![rounded(x.shape(), values, x.dtype())?])
    }
}

impl Differentiable for GroupNormalization {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let x = ctx.call.require(0)?;
        let channels = x.shape().get(1).copied().unwrap_or(1).max(1);
        let inner: usize = x.shape().iter().skip(2).product::<usize>().max(1);
        let groups = usize::try_from(ctx.call.int("num_groups", 1)).unwrap_or(1).max(1);
        let per_group = (channels / groups).max(1);
        let mut scale = floats(&ctx.call, 1)?;
        if ctx.call.opset < 21 {
            let spread = scale.iter().flat_map(|&s| std::iter::repeat_n(s, per_group));
            scale = spread.collect();
        }
        let epsilon = f64::from(ctx.call.float("epsilon", 1e-5));
        standardized(x, per_group * inner, epsilon, Center::Mean, move |row, i| {
            scale[row % groups * per_group + i / inner]
        })
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;
    use crate::Layout;

    #[test]
    fn the_scale_is_per_group_before_opset_21() {
        let node = Node::new("GroupNormalization", "", &["x", "s", "b"], &["y"])
            .with_attribute("num_groups", AttributeValue::Int(2))
            .with_attribute("epsilon", AttributeValue::Float(0.0));
        let x = Tensor::new(&[1, 4, 1], vec![-1.0_f32, 1.0, 3.0, 5.0]).unwrap();
        let run = |opset, scale: Vec<f32>| {
            let bias = Tensor::vector(vec![0.0_f32; scale.len()]);
            let ctx = EvalContext {
                node: &node,
                opset,
                layout: Layout::Plain,
                inputs: &[Some(&x), Some(&Tensor::vector(scale)), Some(&bias)],
            };
            GroupNormalization.eval(&ctx).map(|mut y| y.remove(0))
        };
        let y = |values: [f32; 4]| Tensor::new(&[1, 4, 1], values.to_vec()).unwrap();
        assert_eq!(run(18, vec![1.0, 2.0]).unwrap(), y([-1.0, 1.0, -2.0, 2.0]));
        assert_eq!(
            run(21, vec![1.0, 2.0, 3.0, 4.0]).unwrap(),
            y([-1.0, 2.0, -3.0, 4.0])
        );
        assert_eq!(
            run(21, vec![1.0, 2.0]).unwrap_err().to_string(),
            "input 1: wrong number of elements, expected 4, got 2"
        );
    }
}
