//! GlobalAveragePool: an exact int32 sum over the image, requantized once.

use qloupe_kernels::{QuantizedSlice, global_sum};
use qloupe_tensor::{QuantParams, Requantize, Tensor};

use super::conv::quantized_slice;
use super::{IntegerKernel, IntegerSpec, quantized_tensor};
use crate::{Layout, OpError, Stored};

#[derive(Debug)]
struct GlobalAveragePool {
    input_scale: f32,
    input_zero_point: i32,
    output: QuantParams,
    policy: Requantize,
}

pub(super) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let ([node], Some(output), Some((input_scale, input_zero_point))) =
        (spec.nodes, spec.output(), spec.input_scale(0))
    else {
        return Ok(None);
    };
    if !node.is_onnx("GlobalAveragePool") || !spec.all_inputs_8_bit() {
        return Ok(None);
    }
    Ok(Some(Box::new(GlobalAveragePool {
        input_scale,
        input_zero_point,
        output: output.clone(),
        policy: spec.requantize,
    })))
}

/// The kernel as ONNX Runtime's QLinearGlobalAveragePool rounds.
pub(crate) fn qlinear_global_average_pool(
    input: &QuantParams,
    output: &QuantParams,
) -> Box<dyn IntegerKernel> {
    Box::new(GlobalAveragePool {
        input_scale: input.scale()[0],
        input_zero_point: input.zero_point()[0],
        output: output.clone(),
        policy: Requantize::FloatScaleZeroPointAfter,
    })
}

impl IntegerKernel for GlobalAveragePool {
    fn name(&self) -> &'static str {
        "global_average_pool"
    }

    fn run(&self, inputs: &[&Stored]) -> Result<Vec<Stored>, OpError> {
        let value = inputs[0];
        let layout = if value.rank() == 4 {
            Layout::Nhwc
        } else {
            Layout::Plain
        };
        let x = value.in_layout(layout);
        let (&[n, ref spatial @ .., c], Layout::Nhwc) = (x.shape(), layout) else {
            return self.run_plain(x);
        };
        let pixels: usize = spatial.iter().product();
        let mut sums = vec![0_i32; n * c];
        global_sum(quantized_slice(x)?, n, pixels, c, &mut sums);
        let zero_points = (pixels as i32).wrapping_mul(self.input_zero_point);
        for sum in &mut sums {
            *sum = sum.wrapping_sub(zero_points);
        }
        let y = self.requantize(&sums, pixels, &[n, 1, 1, c])?;
        Ok(vec![Stored::of_call(y, Layout::Nhwc)])
    }
}

impl GlobalAveragePool {
    /// Signals and volumes: `[N, C, ..]` in ONNX order.
    fn run_plain(&self, x: &Tensor) -> Result<Vec<Stored>, OpError> {
        let &[n, c, ref spatial @ ..] = x.shape() else {
            return Err(OpError::input(
                0,
                format!("wrong rank, expected at least 2, got {}", x.rank()),
            ));
        };
        let pixels: usize = spatial.iter().product();
        let sums = match quantized_slice(x)? {
            QuantizedSlice::U8(q) => row_sums(q, pixels, self.input_zero_point),
            QuantizedSlice::I8(q) => row_sums(q, pixels, self.input_zero_point),
        };
        let shape: Vec<usize> = [n, c].into_iter().chain(spatial.iter().map(|_| 1)).collect();
        Ok(vec![Stored::plain(self.requantize(&sums, pixels, &shape)?)])
    }

    fn requantize(&self, sums: &[i32], pixels: usize, shape: &[usize]) -> Result<Tensor, OpError> {
        let (scale, zero_point) = self
            .output
            .as_per_tensor()
            .expect("invariant: checked at compile time");
        let multiplier = self.input_scale / (scale * pixels as f32);
        let range = self.output.quant_range();
        let q = sums
            .iter()
            .map(|&sum| self.policy.apply(sum, multiplier, zero_point, range));
        quantized_tensor(self.output.dtype(), shape, q)
    }
}

/// The sum of `q - zero_point` over each row.
fn row_sums<Q: Copy + Into<i32>>(q: &[Q], row_len: usize, zero_point: i32) -> Vec<i32> {
    let sum = |row: &[Q]| row.iter().map(|&q| q.into() - zero_point).sum();
    q.chunks(row_len.max(1)).map(sum).collect()
}

#[cfg(test)]
mod tests {
    use qloupe_tensor::DType;

    use super::*;

    #[test]
    fn images_and_signals_have_the_same_mean() {
        let output = QuantParams::per_tensor(DType::UInt8, 0.5, 10).unwrap();
        let policy = Requantize::FloatScaleZeroPointAfter;
        let pool = GlobalAveragePool {
            input_scale: 1.0,
            input_zero_point: 2,
            output,
            policy,
        };
        let q = vec![3_u8, 4, 5, 6, 12, 12, 12, 12];
        let image = Stored::plain(Tensor::new(&[1, 2, 2, 2], q.clone()).unwrap());
        let signal = Stored::plain(Tensor::new(&[1, 2, 4], q).unwrap());
        // Means 2.5 and 10 in real numbers are 5 and 20 steps.
        for (x, shape) in [(image, vec![1, 2, 1, 1]), (signal, vec![1, 2, 1])] {
            let y = pool.run(&[&x]).unwrap();
            assert_eq!(y[0].to_plain(), &Tensor::new(&shape, vec![15_u8, 30]).unwrap());
        }
    }
}
