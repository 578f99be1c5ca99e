//! Gemm and MatMul with constant 8-bit weights, the bias Add and the activation that end their unit.

use qloupe_ir::Node;
use qloupe_kernels::{Epilogue, GemmI8};
use qloupe_tensor::{DType, Tensor};

use super::conv::{quantized_slice, quantized_weight, write_quantized};
use super::{IntegerKernel, IntegerSpec, activation_range, check_sums};
use crate::{OpError, Stored};

#[derive(Debug)]
struct Gemm {
    packed: GemmI8,
    k: usize,
    n: usize,
    input_zero_point: i32,
    epilogue: Epilogue,
    output: DType,
}

pub(super) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let (Some(output), Some((node, mut rest))) = (spec.output(), spec.nodes.split_first()) else {
        return Ok(None);
    };
    let (Some((input_scale, input_zero_point)), Some(transposed)) = (spec.input_scale(0), weight_order(node))
    else {
        return Ok(None);
    };
    let Some((weight, weight_params)) = quantized_weight(spec, node.input(1))? else {
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
    let mut has_bias = node.is_onnx("Gemm") && node.input(2).is_some();
    if node.is_onnx("MatMul")
        && let Some((bias, after)) = rest.split_first()
        && bias.is_onnx("Add")
    {
        has_bias = true;
        rest = after;
    }
    let Some((min, max)) = activation_range(spec, rest, output) else {
        return Ok(None);
    };
    let bias = spec.quantized_bias.filter(|b| b.len() == n);
    if spec.inputs.len() != 1 || !spec.all_inputs_8_bit() || (has_bias && bias.is_none()) {
        return Ok(None);
    }
    let order = if transposed {
        transpose(weight.require::<i8>()?, rows, columns)
    } else {
        weight.require::<i8>()?.to_vec()
    };
    let packed = GemmI8::new(&order, k, n, bias);
    check_sums(packed.max_abs_accumulator_bound())?;
    let (output_scale, zero_point) = output.as_per_tensor().expect("invariant: checked by output()");
    let multiplier = weight_params
        .scale()
        .iter()
        .map(|w| input_scale * w / output_scale)
        .collect();
    Ok(Some(Box::new(Gemm {
        packed,
        k,
        n,
        input_zero_point,
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

    fn run(&self, inputs: &[Stored]) -> Result<Vec<Stored>, OpError> {
        let x: &Tensor = inputs[0].to_plain();
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
        let rows = x.len() / self.k.max(1);
        if let Some(last) = shape.last_mut() {
            *last = self.n;
        }
        let y = write_quantized(self.output, &shape, |out| {
            self.packed.run(
                quantized_slice(x)?,
                rows,
                self.input_zero_point,
                &self.epilogue,
                out,
            );
            Ok(())
        })?;
        Ok(vec![Stored::plain(y)])
    }
}
