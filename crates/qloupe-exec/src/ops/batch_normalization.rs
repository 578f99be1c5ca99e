//! BatchNormalization: each channel by its stored statistics, or in training by its own.

use qloupe_kernels::{BinaryKernel, ElementWise};
use qloupe_tensor::{DType, Tensor};

use super::cast::{cast, computing_dtype};
use super::elementwise::{FLOATS, wrong_dtype};
use super::elementwise_gradient::{Factor, broadcast_pullback};
use super::normalization::floats;
use super::normalization::{floats_of_length, mean_and_variance, rounded};
use super::rows::for_each_row;
use crate::element_wise::ElementSource;
use crate::{
    Differentiable, ElementSteps, EvalContext, Fact, InferContext, Layout, LayoutRule, OpError, Operator,
    PrepareContext, Pullback, PullbackContext,
};

/// How many elements one thread takes at a time, at least.
const BLOCK: usize = 16_384;

/// `y = (x - mean) * (scale / sqrt(variance + epsilon)) + bias` for each channel.
///
/// # Shapes
/// x: `[N, C, ..]`; scale, bias, mean, variance: `[C]`.
/// In `training_mode` mean and variance are those of `x`, and the second and third output are the stored ones moved towards
/// them: `stored * momentum + own * (1 - momentum)`.
///
/// # Errors
/// `spatial = 0`: statistics for each element, which no exporter has written since opset 8.
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
        let mut facts = ctx.same_as_input()?;
        for idx in [3, 4] {
            let statistics = ctx.require(idx)?;
            facts.push(Fact::new(statistics.dtype, statistics.shape.clone()));
        }
        Ok(facts)
    }

    fn elements(&self, ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        let flag = |name: &str, default| ctx.node.int(name).unwrap_or(default) != 0;
        if flag("training_mode", 0) || !flag("spatial", 1) || ctx.node.outputs.len() != 1 {
            return None;
        }
        let parameters = |idx: usize| {
            ctx.constants
                .get(idx)?
                .as_ref()
                .filter(|t| t.dtype().is_float())?
                .to_f64_vec()
                .ok()
        };
        let [scales, biases, means, variances] =
            [parameters(1)?, parameters(2)?, parameters(3)?, parameters(4)?];
        let epsilon = f64::from(ctx.node.float("epsilon").unwrap_or(1e-5));
        let slopes = slopes(&scales, &variances, epsilon);
        let step = |function, from, channels: &[f64]| {
            let sources = [from, ElementSource::Channels(narrow(channels))];
            (ElementWise::Binary(function), sources)
        };
        Some(ElementSteps(vec![
            step(BinaryKernel::Sub, ElementSource::Input(0), &means),
            step(BinaryKernel::Mul, ElementSource::Step(0), &slopes),
            step(BinaryKernel::Add, ElementSource::Step(1), &biases),
        ]))
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        if ctx.int("spatial", 1) == 0 {
            return Err(OpError::Unsupported {
                what: "spatial = 0 of BatchNormalization".to_owned(),
                remedy: ": flatten [N, C, ..] to [N, C * ..] before it".to_owned(),
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
        let (scales, biases) = (parameters(1)?, parameters(2)?);
        let (stored_means, stored_variances) = (parameters(3)?, parameters(4)?);
        let training = ctx.int("training_mode", 0) != 0;
        let (means, variances) = if training {
            own_statistics(&x.to_f64_vec()?, channels, inner)
        } else {
            (stored_means.clone(), stored_variances.clone())
        };
        let mut outputs = Vec::new();
        if training {
            let momentum = f64::from(ctx.float("momentum", 0.9));
            for (idx, stored, own) in [(3, stored_means, &means), (4, stored_variances, &variances)] {
                let moved = stored.iter().zip(own);
                let moved = moved.map(|(stored, own)| stored * momentum + own * (1.0 - momentum));
                outputs.push(rounded(&[channels], moved.collect(), ctx.require(idx)?.dtype())?);
            }
        }
        let slopes = slopes(&scales, &variances, epsilon);
        let wide = cast(x, computing_dtype(dtype))?;
        let y = if dtype == DType::Float64 {
            let mut values = wide.into_vec::<f64>()?;
            for (i, v) in values.iter_mut().enumerate() {
                let c = i / inner % channels;
                *v = (*v - means[c]) * slopes[c] + biases[c];
            }
            Tensor::new(x.shape(), values)?
        } else {
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
        outputs.insert(0, cast(&y, dtype)?);
        Ok(outputs)
    }
}

impl Differentiable for BatchNormalization {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        if ctx.call.int("training_mode", 0) != 0 || ctx.call.int("spatial", 1) == 0 {
            return Err(OpError::unsupported(
                "the gradient of BatchNormalization in training",
            ));
        }
        let (scales, variances) = (floats(&ctx.call, 1)?, floats(&ctx.call, 4)?);
        let epsilon = f64::from(ctx.call.float("epsilon", 1e-5));
        let slopes = narrow(&slopes(&scales, &variances, epsilon));
        let rank = ctx.call.require(0)?.rank();
        let mut shape = vec![1; rank];
        shape[if ctx.call.layout == Layout::Nhwc && rank == 4 {
            3
        } else {
            1
        }] = slopes.len();
        let factor = Factor::Tensor(Tensor::new(&shape, slopes)?);
        broadcast_pullback(ctx, vec![Some(factor)])
    }
}

fn slopes(scales: &[f64], variances: &[f64], epsilon: f64) -> Vec<f64> {
    let channels = scales.iter().zip(variances);
    channels
        .map(|(scale, variance)| scale / (variance + epsilon).sqrt())
        .collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// Mean and variance of each channel of `[.., channels, inner]`, over its elements in ONNX order, whatever the layout.
fn own_statistics(values: &[f64], channels: usize, inner: usize) -> (Vec<f64>, Vec<f64>) {
    let of_channel = |channel: usize| {
        let rows = values.chunks_exact(inner.max(1)).skip(channel).step_by(channels);
        mean_and_variance(&rows.flatten().copied().collect::<Vec<f64>>())
    };
    (0..channels).map(of_channel).unzip()
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

    #[test]
    fn training_uses_the_statistics_of_the_input_in_both_layouts() {
        let node = Node::new("BatchNormalization", "", &["x"], &["y", "mean", "variance"])
            .with_attribute("epsilon", AttributeValue::Float(0.0))
            .with_attribute("momentum", AttributeValue::Float(0.5))
            .with_attribute("training_mode", AttributeValue::Int(1));
        let [one, zero, stored] = [1.0_f32, 0.0, 10.0].map(|v| Tensor::vector(vec![v; 2]));
        let run = |layout, shape: &[usize], x: [f32; 4]| {
            let ctx = EvalContext {
                node: &node,
                opset: 15,
                layout,
                inputs: &[
                    Some(&Tensor::new(shape, x.to_vec()).unwrap()),
                    Some(&one),
                    Some(&zero),
                    Some(&stored),
                    Some(&stored),
                ],
            };
            BatchNormalization.eval(&ctx).unwrap()
        };
        let plain = run(Layout::Plain, &[1, 2, 1, 2], [1.0, 3.0, 0.0, 8.0]);
        let nhwc = run(Layout::Nhwc, &[1, 1, 2, 2], [1.0, 0.0, 3.0, 8.0]);
        assert_eq!(plain[0].as_slice::<f32>().unwrap(), [-1.0, 1.0, -1.0, 1.0]);
        assert_eq!(nhwc[0].as_slice::<f32>().unwrap(), [-1.0, -1.0, 1.0, 1.0]);
        for y in [plain, nhwc] {
            assert_eq!(
                y[1..],
                [
                    Tensor::vector(vec![6.0_f32, 7.0]),
                    Tensor::vector(vec![5.5_f32, 13.0])
                ]
            );
        }
    }
}
