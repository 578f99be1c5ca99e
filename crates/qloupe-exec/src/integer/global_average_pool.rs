//! GlobalAveragePool: an exact int32 sum over the image, requantized once.

use qloupe_tensor::{DType, QuantParams, Requantize, Tensor};

use super::{IntegerKernel, IntegerSpec};
use crate::{Layout, OpError, Stored};

#[derive(Debug)]
struct GlobalAveragePool {
    input_scale: f32,
    input_zero_point: i32,
    output: QuantParams,
    policy: Requantize,
}

pub(super) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let ([node], Some(output), Some((input_scale, input_zero_point))) = (spec.nodes, spec.output(), spec.input_scale(0))
    else {
        return Ok(None);
    };
    if !node.is_onnx("GlobalAveragePool") || !spec.all_inputs_8_bit() {
        return Ok(None);
    }
    Ok(Some(Box::new(GlobalAveragePool { input_scale, input_zero_point, output: output.clone(), policy: spec.requantize })))
}

impl IntegerKernel for GlobalAveragePool {
    fn name(&self) -> &'static str {
        "global_average_pool"
    }

    fn run(&self, inputs: &[Stored]) -> Result<Vec<Stored>, OpError> {
        let x = inputs[0].to_nhwc();
        let &[n, h, w, c] = x.shape() else {
            return Err(OpError::input(0, format!("wrong rank, expected 4, got {}", x.rank())));
        };
        let mut sums = vec![0_i32; n * c];
        let pixels = h * w;
        for image in 0..n {
            let sums = &mut sums[image * c..][..c];
            match (x.as_slice::<u8>(), x.as_slice::<i8>()) {
                (Some(q), _) => add_rows(&q[image * pixels * c..][..pixels * c], sums, self.input_zero_point),
                (_, Some(q)) => add_rows(&q[image * pixels * c..][..pixels * c], sums, self.input_zero_point),
                _ => return Err(OpError::input(0, format!("wrong dtype, expected uint8 or int8, got {}", x.dtype()))),
            }
        }
        let (scale, zero_point) = self.output.as_per_tensor().expect("invariant: checked at compile time");
        let multiplier = self.input_scale / (scale * pixels as f32);
        let range = self.output.quant_range();
        let q = sums.iter().map(|&sum| self.policy.apply(sum, multiplier, zero_point, range));
        let shape = [n, 1, 1, c];
        let y = if self.output.dtype() == DType::Int8 {
            Tensor::new(&shape, q.map(|v| v as i8).collect())?
        } else {
            Tensor::new(&shape, q.map(|v| v as u8).collect())?
        };
        Ok(vec![Stored::of_call(y, Layout::Nhwc)])
    }
}

fn add_rows<T: Copy + Into<i32>>(x: &[T], sums: &mut [i32], zero_point: i32) {
    for row in x.chunks_exact(sums.len()) {
        for (sum, &v) in sums.iter_mut().zip(row) {
            *sum += v.into() - zero_point;
        }
    }
}
