//! Gemm and MatMul with constant 8-bit weights, the bias Add and the activation that end their unit.

use qloupe_ir::Node;
use qloupe_kernels::{
    Epilogue, GemmI8, QuantizedSlice, dequantize_accumulators, requantize_accumulators, subtract_window_sums,
};
use qloupe_tensor::{DType, Tensor};

use super::conv::{quantized_slice, quantized_weight, write_quantized};
use super::{IntegerKernel, IntegerSpec, activation_range, check_sums};
use crate::{OpError, Stored};

#[derive(Debug)]
struct Gemm {
    sums: GemmSums,
    epilogue: Epilogue,
    output: DType,
}

/// The exact sums of a product of 8-bit values with a constant matrix.
#[derive(Debug)]
pub(super) struct GemmSums {
    packed: GemmI8,
    /// For weights with a zero point: a column of ones, and the zero points, one for all columns or one for each.
    rows: Option<(GemmI8, Vec<i32>)>,
    k: usize,
    n: usize,
    input_zero_point: i32,
    /// What a sum is worth, `input_scale * weight_scale`: one number, or one for each column.
    pub(super) scale: Vec<f32>,
    /// How many nodes of the unit it is: a MatMul and the Add of its bias are two.
    pub(super) n_nodes: usize,
}

pub(super) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let Some(output) = spec.output().filter(|_| spec.inputs.len() == 1) else {
        return Ok(None);
    };
    let Some(sums) = GemmSums::of(spec)? else {
        return Ok(None);
    };
    let Some((min, max)) = activation_range(spec, &spec.nodes[sums.n_nodes..], output) else {
        return Ok(None);
    };
    let (output_scale, zero_point) = output.as_per_tensor().expect("invariant: checked by output()");
    let multiplier = sums.scale.iter().map(|scale| scale / output_scale).collect();
    Ok(Some(Box::new(Gemm {
        sums,
        epilogue: Epilogue {
            multiplier,
            zero_point,
            min,
            max,
            policy: spec.requantize,
        },
        output: output.dtype(),
    })))
}

impl GemmSums {
    /// The sums of a unit that begins with a product; `None` where it does not, or where something is no 8-bit integer.
    pub(super) fn of(spec: &IntegerSpec<'_>) -> Result<Option<Self>, OpError> {
        let Some((node, rest)) = spec.nodes.split_first() else {
            return Ok(None);
        };
        let (Some((input_scale, input_zero_point)), Some(transposed)) =
            (spec.input_scale(0), weight_order(node))
        else {
            return Ok(None);
        };
        let Some((weight, weight_params)) = quantized_weight(spec, node.input(1), usize::from(!transposed))?
        else {
            return Ok(None);
        };
        let &[rows, columns] = weight.shape() else {
            return Ok(None);
        };
        let (k, n) = if transposed {
            (columns, rows)
        } else {
            (rows, columns)
        };
        let adds_bias = node.is_onnx("MatMul") && rest.first().is_some_and(|next| next.is_onnx("Add"));
        let has_bias = adds_bias || (node.is_onnx("Gemm") && node.input(2).is_some());
        let bias = spec.quantized_bias.filter(|b| b.len() == n);
        if spec.inputs.first().map(String::as_str) != node.input(0)
            || !spec.all_inputs_8_bit()
            || (has_bias && bias.is_none())
        {
            return Ok(None);
        }
        let order = if transposed {
            transpose(weight.require::<i8>()?, rows, columns)
        } else {
            weight.require::<i8>()?.to_vec()
        };
        let packed = GemmI8::new(&order, k, n, bias);
        let zero_point = weight_params.zero_point();
        let rows = zero_point.iter().any(|&z| z != 0).then(|| {
            let ones = vec![1; k];
            (GemmI8::new(&ones, k, 1, None), zero_point.to_vec())
        });
        let bound = rows.as_ref().map_or(0, |(ones, zero_point)| {
            let largest = zero_point.iter().map(|z| i64::from(z.unsigned_abs())).max();
            ones.max_abs_accumulator_bound() * largest.unwrap_or(0)
        });
        check_sums(packed.max_abs_accumulator_bound() + bound)?;
        Ok(Some(Self {
            packed,
            rows,
            k,
            n,
            input_zero_point,
            scale: weight_params.scale().iter().map(|w| input_scale * w).collect(),
            n_nodes: if adds_bias { 2 } else { 1 },
        }))
    }

    /// The rows of an input and the shape of the output.
    fn on(&self, x: &Tensor) -> Result<(usize, Vec<usize>), OpError> {
        if x.rank() == 0 || x.shape().last() != Some(&self.k) {
            let got = x.shape();
            return Err(OpError::input(
                0,
                format!(
                    "the last dimension does not fit, expected {}, got {got:?}",
                    self.k
                ),
            ));
        }
        let mut shape = x.shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = self.n;
        }
        Ok((x.len() / self.k.max(1), shape))
    }

    fn accumulate(&self, x: QuantizedSlice<'_>, rows: usize) -> Vec<i32> {
        let mut acc = self.packed.accumulate(x, rows, self.input_zero_point);
        if let Some((ones, zero_point)) = &self.rows {
            let sums = ones.accumulate(x, rows, self.input_zero_point);
            subtract_window_sums(&mut acc, &sums, zero_point, self.n);
        }
        acc
    }

    /// What the sums stand for.
    pub(super) fn run(&self, x: &Stored) -> Result<Stored, OpError> {
        let x = x.to_plain();
        let (rows, shape) = self.on(x)?;
        let acc = self.accumulate(quantized_slice(x)?, rows);
        let real = dequantize_accumulators(&acc, &self.scale, self.n);
        Ok(Stored::plain(Tensor::new(&shape, real)?))
    }
}

/// Whether the weight is stored `[N, K]`; `None` for a node that is not `x * weight (+ bias)`.
fn weight_order(node: &Node) -> Option<bool> {
    if node.is_onnx("MatMul") {
        return Some(false);
    }
    let is_one = |name: &str| node.float(name).is_none_or(|v| (v - 1.0).abs() < f32::EPSILON);
    let plain =
        node.is_onnx("Gemm") && is_one("alpha") && is_one("beta") && node.int("transA").unwrap_or(0) == 0;
    plain.then(|| node.int("transB").unwrap_or(0) != 0)
}

fn transpose(x: &[i8], rows: usize, columns: usize) -> Vec<i8> {
    (0..columns)
        .flat_map(|c| (0..rows).map(move |r| x[r * columns + c]))
        .collect()
}

impl IntegerKernel for Gemm {
    fn name(&self) -> &'static str {
        "gemm"
    }

    fn run(&self, inputs: &[&Stored]) -> Result<Vec<Stored>, OpError> {
        let x = inputs[0].to_plain();
        let (rows, shape) = self.sums.on(x)?;
        let y = write_quantized(self.output, &shape, |out| {
            let x = quantized_slice(x)?;
            if self.sums.rows.is_some() {
                let acc = self.sums.accumulate(x, rows);
                requantize_accumulators(&acc, self.sums.n, &self.epilogue, out);
            } else {
                let zero_point = self.sums.input_zero_point;
                self.sums.packed.run(x, rows, zero_point, &self.epilogue, out);
            }
            Ok(())
        })?;
        Ok(vec![Stored::plain(y)])
    }
}
