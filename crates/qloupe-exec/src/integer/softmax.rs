//! Softmax of 8-bit values as ONNX Runtime's integer kernel does it: a table of 256 exponentials, an integer division.
//!
//! `e[d] = floor(m * exp(-d * input_scale))` for the distance d to the largest element, `m = min((2^32 - 1) / n, 2^23 - 1)`,
//! `q = floor((e * floor(1 / output_scale) + sum / 2) / sum) + zero_point`. The output scale is used as a whole number of
//! steps: another rule than dequantize, Softmax, quantize, from which it differs in some percent of the elements.

use std::sync::OnceLock;

use qloupe_kernels::SoftmaxQuantized;
use qloupe_tensor::{DType, QuantParams, Requantize};

use super::conv::{quantized_slice, write_quantized};
use super::{IntegerKernel, IntegerSpec};
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
    /// For the length of the axis at the first call.
    first: OnceLock<(usize, SoftmaxQuantized)>,
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
        first: OnceLock::new(),
    })
}

impl Softmax {
    /// The kernel for `n` elements along the axis.
    fn kernel(&self, n: usize) -> SoftmaxQuantized {
        let largest = (f64::from(u32::MAX) / n.max(1) as f64).min(MAX_ENTRY);
        let exponential =
            |distance: usize| (largest * (-(distance as f64) * f64::from(self.input_scale)).exp()) as u32;
        SoftmaxQuantized::new(
            std::array::from_fn(exponential),
            self.steps,
            self.zero_point,
            self.range,
        )
    }
}

impl IntegerKernel for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn run(&self, inputs: &[&Stored]) -> Result<Vec<Stored>, OpError> {
        let x = inputs[0].to_plain();
        let axis = resolve_axis(self.axis, x.rank())?;
        let n = x.shape()[axis];
        let inner: usize = x.shape()[axis + 1..].iter().product();
        let (n_first, first) = self.first.get_or_init(|| (n, self.kernel(n)));
        let other;
        let kernel = if *n_first == n {
            first
        } else {
            other = self.kernel(n);
            &other
        };
        let tensor = write_quantized(self.output, x.shape(), |out| {
            kernel.run(quantized_slice(x)?, n, inner, out);
            Ok(())
        })?;
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
            first: OnceLock::new(),
        };
        let x = Stored::plain(Tensor::new(&[2, 2], vec![200_u8, 0, 7, 7]).unwrap());
        let y = softmax(0, (0, 255), DType::UInt8).run(&[&x]).unwrap();
        assert_eq!(y[0].to_plain().as_slice::<u8>().unwrap(), [255, 0, 128, 128]);
        let x = Stored::plain(Tensor::new(&[2, 2], vec![100_i8, -100, 7, 7]).unwrap());
        let y = softmax(-128, (-128, 127), DType::Int8).run(&[&x]).unwrap();
        assert_eq!(y[0].to_plain().as_slice::<i8>().unwrap(), [127, -128, 0, 0]);
    }
}
