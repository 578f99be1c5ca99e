//! AveragePool as ONNX Runtime's integer kernel does it: the mean of the real numbers, the zero point added before
//! rounding.

use qloupe_ir::Node;
use qloupe_kernels::{AveragePoolQuantized, QuantizedSlice, QuantizedSliceMut};
use qloupe_tensor::{DType, QuantParams, Requantize, Rounding, Tensor, dequantize_linear, quantize_linear};

use super::conv::{quantized_slice, write_quantized};
use super::{IntegerKernel, IntegerSpec, quantized_tensor};
use crate::ops::Pool;
use crate::{EvalContext, Layout, OpError, Stored};

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

    fn run(&self, inputs: &[&Stored]) -> Result<Vec<Stored>, OpError> {
        let value = inputs[0];
        let layout = if value.rank() == 4 {
            Layout::Nhwc
        } else {
            value.layout()
        };
        let ctx = EvalContext {
            node: &self.node,
            opset: self.opset,
            layout,
            inputs: &[],
        };
        let pool = Pool::new(&ctx, value.in_layout(layout))?;
        let include_padding = ctx.int("count_include_pad", 0) == 1;
        let y = match self.images(value, &pool, include_padding)? {
            Some(y) => y,
            None => self.each_window(value.in_layout(layout), &pool, include_padding)?,
        };
        Ok(vec![Stored::of_call(y, layout)])
    }
}

impl AveragePool {
    fn grid(params: &QuantParams) -> (f32, i32) {
        params
            .as_per_tensor()
            .expect("invariant: checked at compile time")
    }

    /// Images, by the kernel; `None` for other ranks.
    fn images(&self, value: &Stored, pool: &Pool, include_padding: bool) -> Result<Option<Tensor>, OpError> {
        let Some(geometry) = pool.nhwc_geometry() else {
            return Ok(None);
        };
        let kernel = AveragePoolQuantized {
            input: Self::grid(&self.input),
            output: Self::grid(&self.output),
            range: self.output.quant_range(),
            count_include_pad: include_padding,
        };
        let x = quantized_slice(value.to_nhwc())?;
        let y = write_quantized(self.output.dtype(), &pool.output_shape(), |y| {
            match (x, y) {
                (QuantizedSlice::U8(x), QuantizedSliceMut::U8(y)) => kernel.run(x, &geometry, y),
                (QuantizedSlice::U8(x), QuantizedSliceMut::I8(y)) => kernel.run(x, &geometry, y),
                (QuantizedSlice::I8(x), QuantizedSliceMut::U8(y)) => kernel.run(x, &geometry, y),
                (QuantizedSlice::I8(x), QuantizedSliceMut::I8(y)) => kernel.run(x, &geometry, y),
            }
            Ok(())
        })?;
        Ok(Some(y))
    }

    /// Any number of axes, one window after the other: the specification.
    fn each_window(&self, x: &Tensor, pool: &Pool, include_padding: bool) -> Result<Tensor, OpError> {
        let x = dequantize_linear(x, &self.input)?;
        let (scale, zero_point) = Self::grid(&self.output);
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
        quantized_tensor(self.output.dtype(), &shape, q)
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::AttributeValue;

    use super::*;

    #[test]
    fn images_are_averaged_as_their_windows_are() {
        let ints = |name: &str, node: Node, values: &[i64]| {
            node.with_attribute(name, AttributeValue::Ints(values.to_vec()))
        };
        let mut cases = Vec::new();
        for (kernel, strides, pads) in [([3, 3], [1, 1], [1, 1, 1, 1]), ([2, 3], [2, 3], [0, 1, 1, 2])] {
            for include in [0, 1] {
                for (input, output) in [(DType::UInt8, DType::Int8), (DType::Int8, DType::UInt8)] {
                    cases.push((kernel, strides, pads, include, input, output));
                }
            }
        }
        for (kernel, strides, pads, include, input, output) in cases {
            let mut node = Node::new("AveragePool", "p", &["x"], &["y"])
                .with_attribute("count_include_pad", AttributeValue::Int(include));
            node = ints("kernel_shape", node, &kernel);
            node = ints("strides", node, &strides);
            node = ints("pads", node, &pads);
            let pool = AveragePool {
                node: node.clone(),
                opset: 19,
                input: QuantParams::per_tensor(input, 0.037, 11).unwrap(),
                output: QuantParams::per_tensor(output, 0.029, -3 + 3 * i32::from(output == DType::UInt8))
                    .unwrap(),
            };
            let q = (0..2 * 7 * 9 * 5).map(|i| i * 7919 % 256 - if input == DType::Int8 { 128 } else { 0 });
            let x = Stored::of_call(quantized_tensor(input, &[2, 7, 9, 5], q).unwrap(), Layout::Nhwc);
            let ctx = EvalContext {
                node: &node,
                opset: 19,
                layout: Layout::Nhwc,
                inputs: &[],
            };
            let window = Pool::new(&ctx, x.to_nhwc()).unwrap();
            let expected = pool.each_window(x.to_nhwc(), &window, include == 1).unwrap();
            let got = pool.run(&[&x]).unwrap();
            assert_eq!(got[0].to_nhwc(), &expected, "{kernel:?} {include} {input}");
        }
    }

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
            pool.run(&[&x]).unwrap()[0].to_plain().as_slice::<u8>().unwrap(),
            [4]
        );
    }
}
