//! BatchNormalization at inference: each channel by its stored statistics.

use qloupe_tensor::{DType, Tensor};

use super::cast::{cast, computing_dtype};
use super::elementwise::{FLOATS, wrong_dtype};
use super::normalization::floats_of_length;
use super::rows::for_each_row;
use crate::{EvalContext, Fact, InferContext, Layout, LayoutRule, OpError, Operator};

/// How many elements one thread takes at a time, at least.
const BLOCK: usize = 16_384;

/// `y = (x - mean) * (scale / sqrt(variance + epsilon)) + bias` for each channel.
///
/// # Shapes
/// x: `[N, C, ..]`; scale, bias, mean, variance: `[C]`.
/// # Errors
/// `training_mode = 1`.
#[derive(Debug)]
pub(super) struct BatchNormalization;

impl Operator for BatchNormalization {
    fn op_type(&self) -> &'static str {
        "BatchNormalization"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Nhwc
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        if ctx.int("training_mode", 0) != 0 {
            return Err(OpError::Unsupported {
                what: "training_mode of BatchNormalization".to_owned(),
                remedy: ": export the model for inference".to_owned(),
            });
        }
        let x = ctx.require(0)?;
        let dtype = x.dtype();
        if !dtype.is_float() {
            return Err(wrong_dtype(0, FLOATS, dtype));
        }
        let (channels, inner) = match (ctx.layout, x.shape()) {
            (Layout::Nhwc, &[_, _, _, c]) => (c, 1),
            (_, [_, c, spatial @ ..]) => (*c, spatial.iter().product()),
            (_, shape) => {
                return Err(OpError::input(
                    0,
                    format!("wrong rank, expected at least 2, got {}", shape.len()),
                ));
            }
        };
        let parameters = |idx| floats_of_length(ctx, idx, channels);
        let epsilon = f64::from(ctx.float("epsilon", 1e-5));
        let slopes: Vec<f64> = parameters(1)?
            .iter()
            .zip(parameters(4)?)
            .map(|(scale, variance)| scale / (variance + epsilon).sqrt())
            .collect();
        let (biases, means) = (parameters(2)?, parameters(3)?);
        let wide = cast(x, computing_dtype(dtype))?;
        let y = if dtype == DType::Float64 {
            let mut values = wide.into_vec::<f64>()?;
            for (i, v) in values.iter_mut().enumerate() {
                let c = i / inner % channels;
                *v = (*v - means[c]) * slopes[c] + biases[c];
            }
            Tensor::new(x.shape(), values)?
        } else {
            let narrow = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<f32>>();
            let (slopes, biases, means) = (narrow(&slopes), narrow(&biases), narrow(&means));
            let values = wide.require::<f32>()?;
            let mut out = vec![0.0; values.len()];
            if inner == 1 {
                let block = BLOCK.div_ceil(channels.max(1)) * channels;
                for_each_row(&mut out, block, values.len(), &|i, out| {
                    let x = values[i * block..].chunks(channels);
                    for (out, x) in out.chunks_mut(channels).zip(x) {
                        for ((((out, &x), &mean), &slope), &bias) in
                            out.iter_mut().zip(x).zip(&means).zip(&slopes).zip(&biases)
                        {
                            *out = (x - mean) * slope + bias;
                        }
                    }
                });
            } else {
                for_each_row(&mut out, inner, values.len(), &|row, out| {
                    let (mean, slope, bias) = (
                        means[row % channels],
                        slopes[row % channels],
                        biases[row % channels],
                    );
                    for (out, &x) in out.iter_mut().zip(&values[row * inner..]) {
                        *out = (x - mean) * slope + bias;
                    }
                });
            }
            Tensor::new(x.shape(), out)?
        };
        Ok(vec![cast(&y, dtype)?])
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;

    #[test]
    fn both_layouts_give_the_same_bits() {
        let node = Node::new("BatchNormalization", "", &["x"], &["y"])
            .with_attribute("epsilon", AttributeValue::Float(0.0));
        let values: Vec<f32> = (0..12).map(|i| i as f32 * 0.3).collect();
        let plain = Tensor::new(&[1, 3, 2, 2], values.clone()).unwrap();
        let nhwc = (0..12).map(|i| values[i % 3 * 4 + i / 3]).collect();
        let nhwc = Tensor::new(&[1, 2, 2, 3], nhwc).unwrap();
        let [scale, bias, mean, variance] = [
            [1.0_f32, 2.0, 3.0],
            [0.1, 0.2, 0.3],
            [1.0, 0.5, 0.0],
            [4.0, 2.0, 1.0],
        ]
        .map(|v| Tensor::vector(v.to_vec()));
        let run = |layout, x: &Tensor| {
            let ctx = EvalContext {
                node: &node,
                opset: 15,
                layout,
                inputs: &[Some(x), Some(&scale), Some(&bias), Some(&mean), Some(&variance)],
            };
            BatchNormalization
                .eval(&ctx)
                .map(|mut y| y.remove(0).into_vec::<f32>().unwrap())
        };
        let (plain_y, nhwc_y) = (
            run(Layout::Plain, &plain).unwrap(),
            run(Layout::Nhwc, &nhwc).unwrap(),
        );
        let back: Vec<f32> = (0..12).map(|i| nhwc_y[i % 4 * 3 + i / 4]).collect();
        assert_eq!(format!("{plain_y:?}"), format!("{back:?}"));
        assert_eq!(
            plain_y[0].to_bits(),
            (-0.4_f32).to_bits(),
            "(0 - 1) * 1/2 + 0.1 is {}",
            plain_y[0]
        );
        assert_eq!(
            run(
                Layout::Plain,
                &Tensor::new(&[1, 2, 1, 1], vec![0.0_f32; 2]).unwrap()
            )
            .unwrap_err()
            .to_string(),
            "input 1: wrong number of elements, expected 2, got 3"
        );
    }
}
