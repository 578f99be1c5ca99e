//! Softmax of 8-bit values as ONNX Runtime's integer kernel does it: a table of 256 exponentials, an integer division.
//!
//! `e[d] = floor(m * exp(-d * input_scale))` for the distance d to the largest element, `m = min((2^32 - 1) / n, 2^23 - 1)`,
//! `q = floor((e * floor(1 / output_scale) + sum / 2) / sum) + zero_point`. The output scale is used as a whole number of
//! steps: another rule than dequantize, Softmax, quantize, from which it differs in some percent of the elements.

use qloupe_tensor::{DType, QuantParams, Requantize};

use super::lookup::bytes;
use super::{IntegerKernel, IntegerSpec, quantized_tensor};
use crate::operator::resolve_axis;
use crate::{OpError, Stored};

/// The largest entry of the table, as a float that holds it exactly.
const MAX_ENTRY: f64 = 8_388_607.0;

#[derive(Debug)]
struct Softmax {
    axis: i64,
    input_scale: f32,
    steps: u64,
    zero_point: i32,
    range: (i32, i32),
    output: DType,
}

pub(super) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let ([node], Some(output), Some((input_scale, _))) = (spec.nodes, spec.output(), spec.input_scale(0))
    else {
        return Ok(None);
    };
    let same_dtype = spec
        .input_params
        .first()
        .is_some_and(|p| p.is_some_and(|p| p.dtype() == output.dtype()));
    // Below opset 13 Softmax flattens its input: those run in float.
    let fits = node.is_onnx("Softmax") && spec.opset >= 13 && same_dtype && spec.all_inputs_8_bit();
    if !fits || spec.requantize != Requantize::FloatScaleZeroPointAfter {
        return Ok(None);
    }
    Ok(Some(qlinear_softmax(
        node.int("axis").unwrap_or(-1),
        input_scale,
        output,
    )))
}

/// The kernel along an axis, for an output that is quantized per tensor.
pub(crate) fn qlinear_softmax(axis: i64, input_scale: f32, output: &QuantParams) -> Box<dyn IntegerKernel> {
    Box::new(Softmax {
        axis,
        input_scale,
        steps: (1.0 / output.scale()[0]).floor() as u64,
        zero_point: output.zero_point()[0],
        range: output.quant_range(),
        output: output.dtype(),
    })
}

impl Softmax {
    fn exponentials(&self, n: usize) -> Vec<u64> {
        let largest = (f64::from(u32::MAX) / n.max(1) as f64).min(MAX_ENTRY);
        (0..256)
            .map(|distance| (largest * (-f64::from(distance) * f64::from(self.input_scale)).exp()) as u64)
            .collect()
    }
}

impl IntegerKernel for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn run(&self, inputs: &[Stored]) -> Result<Vec<Stored>, OpError> {
        let x = inputs[0].to_plain();
        let axis = resolve_axis(self.axis, x.rank())?;
        let n = x.shape()[axis];
        let inner: usize = x.shape()[axis + 1..].iter().product();
        let table = self.exponentials(n);
        // A signed byte keeps its order when its top bit is flipped.
        let flip = if self.output == DType::Int8 { 0x80 } else { 0 };
        let levels: Vec<u8> = bytes(x)?.into_iter().map(|b| b ^ flip).collect();
        let mut y = vec![0_u8; levels.len()];
        let length = (n * inner).max(1);
        for (from, to) in levels.chunks(length).zip(y.chunks_mut(length)) {
            for column in 0..inner {
                let row = || (0..n).map(|i| usize::from(from[i * inner + column]));
                let largest = row().max().unwrap_or(0);
                let sum: u64 = row().map(|level| table[largest - level]).sum();
                for (i, level) in row().enumerate() {
                    let share = (table[largest - level] * self.steps + sum / 2) / sum.max(1);
                    let q = i64::try_from(share)
                        .unwrap_or(i64::MAX)
                        .saturating_add(i64::from(self.zero_point));
                    to[i * inner + column] =
                        q.max(i64::from(self.range.0)).min(i64::from(self.range.1)) as u8;
                }
            }
        }
        let tensor = quantized_tensor(self.output, x.shape(), y.into_iter().map(i32::from))?;
        Ok(vec![Stored::plain(tensor)])
    }
}

#[cfg(test)]
mod tests {
    use qloupe_tensor::Tensor;

    use super::*;

    #[test]
    fn a_far_largest_element_takes_all_and_equal_ones_share() {
        let softmax = |zero_point, range, output| Softmax {
            axis: -1,
            input_scale: 1.0,
            steps: 256,
            zero_point,
            range,
            output,
        };
        let x = Stored::plain(Tensor::new(&[2, 2], vec![200_u8, 0, 7, 7]).unwrap());
        let y = softmax(0, (0, 255), DType::UInt8).run(&[x]).unwrap();
        assert_eq!(y[0].to_plain().as_slice::<u8>().unwrap(), [255, 0, 128, 128]);
        let x = Stored::plain(Tensor::new(&[2, 2], vec![100_i8, -100, 7, 7]).unwrap());
        let y = softmax(-128, (-128, 127), DType::Int8).run(&[x]).unwrap();
        assert_eq!(y[0].to_plain().as_slice::<i8>().unwrap(), [127, -128, 0, 0]);
    }
}
