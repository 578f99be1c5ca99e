//! MatMul of two computed 8-bit values: the products of attention.

use qloupe_kernels::{Epilogue, MatMulQuantized};
use qloupe_tensor::{DType, Tensor};

use super::conv::{quantized_slice, write_quantized};
use super::{IntegerKernel, IntegerSpec};
use crate::ops::{IntegerMatrix, MatrixProduct};
use crate::{OpError, Stored};

#[derive(Debug)]
struct MatMul {
    a_zero_point: i32,
    b_zero_point: i32,
    b_dtype: DType,
    epilogue: Epilogue,
    output: DType,
}

pub(super) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let (Some(output), [node]) = (spec.output(), spec.nodes) else {
        return Ok(None);
    };
    let operands = matches!(spec.inputs, [a, b] if node.input(0) == Some(a) && node.input(1) == Some(b));
    let (Some((a_scale, a_zero_point)), Some((b_scale, b_zero_point))) =
        (spec.input_scale(0), spec.input_scale(1))
    else {
        return Ok(None);
    };
    if !node.is_onnx("MatMul") || !operands || !spec.all_inputs_8_bit() {
        return Ok(None);
    }
    let b_dtype = spec.input_params[1].map_or(DType::UInt8, qloupe_tensor::QuantParams::dtype);
    let (scale, zero_point) = output.as_per_tensor().expect("invariant: checked by output()");
    let (min, max) = output.quant_range();
    Ok(Some(Box::new(MatMul {
        a_zero_point,
        b_zero_point,
        b_dtype,
        epilogue: Epilogue {
            multiplier: vec![a_scale * b_scale / scale],
            zero_point,
            min,
            max,
            policy: spec.requantize,
        },
        output: output.dtype(),
    })))
}

impl IntegerKernel for MatMul {
    fn name(&self) -> &'static str {
        "mat_mul"
    }

    fn run(&self, inputs: &[&Stored]) -> Result<Vec<Stored>, OpError> {
        let (a, b) = (inputs[0].to_plain(), inputs[1].to_plain());
        let product = MatrixProduct::new(a.shape(), b.shape(), 1)?;
        if product.k > MatMulQuantized::MAX_K {
            return self.run_checked(a, b);
        }
        let matrices = MatMulQuantized {
            a: quantized_slice(a)?,
            b: quantized_slice(b)?,
            m: product.m,
            k: product.k,
            n: product.n,
            a_zero_point: self.a_zero_point,
            b_zero_point: self.b_zero_point,
            epilogue: &self.epilogue,
        };
        let y = write_quantized(self.output, &product.output, |out| {
            matrices.run(&product.offsets, out);
            Ok(())
        })?;
        Ok(vec![Stored::plain(y)])
    }
}

impl MatMul {
    /// Sums that int32 may not hold.
    fn run_checked(&self, a: &Tensor, b: &Tensor) -> Result<Vec<Stored>, OpError> {
        let zero_point = super::quantized_tensor(self.b_dtype, &[], std::iter::once(self.b_zero_point))?;
        let matrix = IntegerMatrix::new(1, b, (1, Some(&zero_point)), None)?;
        let product = matrix.requantized(a, self.a_zero_point, &self.epilogue, self.output)?;
        Ok(vec![Stored::plain(product)])
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;
    use qloupe_tensor::{QuantParams, Requantize};

    use super::*;

    /// Against the real numbers that the integers stand for, over batches and both signs.
    #[test]
    fn products_are_those_of_the_real_numbers() {
        let names = ["a".to_owned(), "b".to_owned()];
        let nodes = [Node::new("MatMul", "", &["a", "b"], &["y"])];
        let params = |dtype, scale, zero_point| QuantParams::per_tensor(dtype, scale, zero_point).unwrap();
        let (a, y) = (params(DType::UInt8, 0.5, 130), params(DType::UInt8, 8.0, 100));
        let unsigned = vec![0_u8, 21, 42, 63, 84, 105, 126, 147, 168, 189, 210, 255];
        let signed = vec![-128_i8, -105, -84, -63, -42, -21, 0, 21, 42, 63, 84, 127];
        for (b, right) in [
            (
                params(DType::UInt8, 0.25, 3),
                Tensor::new(&[2, 3, 2], unsigned).unwrap(),
            ),
            (
                params(DType::Int8, 0.25, -7),
                Tensor::new(&[2, 3, 2], signed).unwrap(),
            ),
        ] {
            let spec = IntegerSpec {
                nodes: &nodes,
                inputs: &names,
                input_params: vec![Some(&a), Some(&b)],
                output_params: vec![Some(&y)],
                constants: &[],
                weights: &[],
                quantized_bias: None,
                requantize: Requantize::FloatScaleZeroPointAfter,
                opset: 13,
            };
            let kernel = compile(&spec).unwrap().unwrap();
            let left = Tensor::new(&[2, 1, 3], vec![0_u8, 255, 131, 7, 130, 200]).unwrap();
            let got = kernel
                .run(&[&Stored::plain(left.clone()), &Stored::plain(right.clone())])
                .unwrap();
            let (l, r) = (left.to_f64_vec().unwrap(), right.to_f64_vec().unwrap());
            let (_, zero_point) = b.as_per_tensor().unwrap();
            let expected = (0..4).map(|i| {
                let (batch, column) = (i / 2, i % 2);
                let term = |k: usize| {
                    (l[batch * 3 + k] - 130.0)
                        * 0.5
                        * (r[batch * 6 + k * 2 + column] - f64::from(zero_point))
                        * 0.25
                };
                ((0..3).map(term).sum::<f64>() / 8.0).round_ties_even() + 100.0
            });
            let expected: Vec<f64> = expected.map(|v| v.clamp(0.0, 255.0)).collect();
            assert_eq!(got[0].to_plain().shape(), [2, 1, 2]);
            assert_eq!(got[0].to_plain().to_f64_vec().unwrap(), expected);
        }
    }
}
