//! AveragePool as ONNX Runtime's integer kernel does it: the mean of the real numbers, the zero point added before
//! rounding.

use qloupe_ir::Node;
use qloupe_tensor::{DType, QuantParams, Requantize, Rounding, Tensor, dequantize_linear, quantize_linear};

use super::{IntegerKernel, IntegerSpec, quantized_tensor};
use crate::ops::Pool;
use crate::{EvalContext, OpError, Stored};

#[derive(Debug)]
struct AveragePool {
    node: Node,
    opset: i64,
    input: QuantParams,
    output: QuantParams,
}

pub(super) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let ([node], Some(output), Some(Some(input))) = (spec.nodes, spec.output(), spec.input_params.first())
    else {
        return Ok(None);
    };
    let before = spec.requantize == Requantize::FloatScaleZeroPointBefore;
    if !node.is_onnx("AveragePool") || !before || !spec.all_inputs_8_bit() {
        return Ok(None);
    }
    Ok(Some(qlinear_average_pool(node, spec.opset, input, output)))
}

/// The kernel of a node with the attributes of AveragePool.
pub(crate) fn qlinear_average_pool(
    node: &Node,
    opset: i64,
    input: &QuantParams,
    output: &QuantParams,
) -> Box<dyn IntegerKernel> {
    Box::new(AveragePool {
        node: node.clone(),
        opset,
        input: input.clone(),
        output: output.clone(),
    })
}

impl IntegerKernel for AveragePool {
    fn name(&self) -> &'static str {
        "average_pool"
    }

    fn run(&self, inputs: &[Stored]) -> Result<Vec<Stored>, OpError> {
        let layout = inputs[0].layout();
        let x = dequantize_linear(inputs[0].physical(), &self.input)?;
        let ctx = EvalContext {
            node: &self.node,
            opset: self.opset,
            layout,
            inputs: &[],
        };
        let pool = Pool::new(&ctx, &x)?;
        let include_padding = ctx.int("count_include_pad", 0) == 1;
        let (scale, zero_point) = self
            .output
            .as_per_tensor()
            .expect("invariant: checked at compile time");
        let steps = pool.reduce(x.require::<f32>()?, |values, taps| {
            let count = if include_padding {
                taps.n_padded
            } else {
                values.len()
            };
            let mean = values.iter().fold(0.0_f32, |sum, v| sum + v) / count as f32;
            mean / scale + zero_point as f32
        });
        let grid = QuantParams::per_tensor(DType::Int32, 1.0, 0)?;
        let rounded = quantize_linear(&Tensor::vector(steps), &grid, Rounding::TiesEven)?;
        let (min, max) = self.output.quant_range();
        let q = rounded.require::<i32>()?.iter().map(|&q| q.max(min).min(max));
        let shape = pool.output_shape();
        let y = quantized_tensor(self.output.dtype(), &shape, q)?;
        Ok(vec![Stored::of_call(y, layout)])
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::AttributeValue;

    use super::*;

    #[test]
    fn a_tie_rounds_with_the_zero_point_added() {
        let node = Node::new("AveragePool", "p", &["x"], &["y"])
            .with_attribute("kernel_shape", AttributeValue::Ints(vec![1, 2]));
        let input = QuantParams::per_tensor(DType::UInt8, 1.0, 0).unwrap();
        let output = QuantParams::per_tensor(DType::UInt8, 1.0, 1).unwrap();
        let pool = AveragePool {
            node,
            opset: 13,
            input,
            output,
        };
        let x = Stored::plain(Tensor::new(&[1, 1, 1, 2], vec![2_u8, 3]).unwrap());
        // 2.5 + 1 rounds to 4; 2.5 alone would round to 2 and become 3.
        assert_eq!(
            pool.run(&[x]).unwrap()[0].to_plain().as_slice::<u8>().unwrap(),
            [4]
        );
    }
}
