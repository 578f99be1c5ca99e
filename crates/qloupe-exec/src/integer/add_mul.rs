//! Add and Mul of two 8-bit values, with broadcasting.

use qloupe_ir::Node;
use qloupe_kernels::{QuantizedBinary, QuantizedBinaryKernel};
use qloupe_tensor::{DType, QuantParams, Requantize};

use super::conv::{quantized_slice, write_quantized};
use super::pairing::Pairing;
use super::{IntegerKernel, IntegerSpec, activation_range};
use crate::{OpError, Stored};

#[derive(Debug)]
struct Pairs {
    name: &'static str,
    kernel: QuantizedBinary,
    /// Which computed input is the first and the second operand.
    operands: (usize, usize),
    output: DType,
}

/// Add of two quantized values, by the policy of ONNX Runtime's kernel QLinearAdd.
pub(crate) fn qlinear_add(
    a: &QuantParams,
    b: &QuantParams,
    c: &QuantParams,
) -> Result<Box<dyn IntegerKernel>, OpError> {
    qlinear("qlinear_add", [a, b, c], QuantizedBinaryKernel::Add)
}

/// Mul of two quantized values, by the policy of ONNX Runtime's kernel QLinearMul.
pub(crate) fn qlinear_mul(
    a: &QuantParams,
    b: &QuantParams,
    c: &QuantParams,
) -> Result<Box<dyn IntegerKernel>, OpError> {
    qlinear("qlinear_mul", [a, b, c], QuantizedBinaryKernel::Mul)
}

fn qlinear(
    name: &'static str,
    [a, b, c]: [&QuantParams; 3],
    kernel: QuantizedBinaryKernel,
) -> Result<Box<dyn IntegerKernel>, OpError> {
    let policy = Requantize::FloatScaleZeroPointBefore;
    Ok(Box::new(Pairs {
        name,
        kernel: between_grids(kernel, [a, b, c], policy, c.quant_range()),
        operands: (0, 1),
        output: c.dtype(),
    }))
}

pub(super) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let (Some(output), Some((node, rest))) = (spec.output(), spec.nodes.split_first()) else {
        return Ok(None);
    };
    let (name, kernel) = match node.op_type.as_str() {
        "Add" if node.domain.is_empty() => ("add", QuantizedBinaryKernel::Add),
        "Mul" if node.domain.is_empty() => ("mul", QuantizedBinaryKernel::Mul),
        _ => return Ok(None),
    };
    let (Some(first), Some(second)) = (operand(spec, node, 0), operand(spec, node, 1)) else {
        return Ok(None);
    };
    let Some(range) = activation_range(spec, rest, output) else {
        return Ok(None);
    };
    if !spec.all_inputs_8_bit() {
        return Ok(None);
    }
    let params = |idx: usize| spec.input_params[idx].expect("invariant: all inputs are quantized");
    let grids = [params(first), params(second), output];
    Ok(Some(Box::new(Pairs {
        name,
        kernel: between_grids(kernel, grids, spec.requantize, range),
        operands: (first, second),
        output: output.dtype(),
    })))
}

/// Which computed input an input of a node is.
pub(super) fn operand(spec: &IntegerSpec<'_>, node: &Node, idx: usize) -> Option<usize> {
    spec.inputs
        .iter()
        .position(|name| Some(name.as_str()) == node.input(idx))
}

fn between_grids(
    kernel: QuantizedBinaryKernel,
    grids: [&QuantParams; 3],
    policy: Requantize,
    range: (i32, i32),
) -> QuantizedBinary {
    let [a, b, out] = grids.map(|params| {
        params
            .as_per_tensor()
            .expect("invariant: activations are quantized per tensor")
    });
    QuantizedBinary {
        kernel,
        a,
        b,
        out,
        zero_point_before: policy == Requantize::FloatScaleZeroPointBefore,
        range,
    }
}

impl IntegerKernel for Pairs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, inputs: &[&Stored]) -> Result<Vec<Stored>, OpError> {
        let pairing = Pairing::new(inputs[self.operands.0], inputs[self.operands.1])?;
        let result = write_quantized(self.output, &pairing.shape, |out| {
            let (a, b) = (quantized_slice(&pairing.a)?, quantized_slice(&pairing.b)?);
            self.kernel.run(a, b, pairing.inner, out);
            Ok(())
        })?;
        Ok(vec![Stored::of_call(result, pairing.layout)])
    }
}

#[cfg(test)]
mod tests {
    use qloupe_tensor::{Rounding, Tensor, quantize_linear};

    use super::super::pairing::spread;
    use super::*;
    use crate::ops::Broadcast;

    fn kernel(kernel: QuantizedBinaryKernel, policy: Requantize) -> QuantizedBinary {
        let params = |scale, zero_point| QuantParams::per_tensor(DType::UInt8, scale, zero_point).unwrap();
        let grids = [&params(0.5, 0), &params(0.5, 0), &params(1.0, 1)];
        between_grids(kernel, grids, policy, (0, 255))
    }

    #[test]
    fn policies_differ_at_ties_only() {
        let before = kernel(QuantizedBinaryKernel::Add, Requantize::FloatScaleZeroPointBefore);
        let after = kernel(QuantizedBinaryKernel::Add, Requantize::FloatScaleZeroPointAfter);
        // (3 + 2) * 0.5 = 2.5: 2.5 + 1 rounds to 4, 2.5 rounds to 2 and becomes 3.
        assert_eq!((before.apply(3, 2), after.apply(3, 2)), (4, 3));
        assert_eq!((before.apply(4, 2), after.apply(4, 2)), (4, 4));
        let product = kernel(QuantizedBinaryKernel::Mul, Requantize::FloatScaleZeroPointAfter);
        assert_eq!(product.apply(8, 6), 13);
    }

    /// The formulas of docs/NUMERICS.md, rounded and clipped by `quantize_linear`, for every pair.
    #[test]
    fn every_pair_is_that_of_the_formula() {
        let params = |dtype, scale, zero_point| QuantParams::per_tensor(dtype, scale, zero_point).unwrap();
        let (u8_, i8_) = (DType::UInt8, DType::Int8);
        let cases = [
            [
                params(u8_, 0.021, 3),
                params(u8_, 0.0173, 130),
                params(u8_, 0.033, 77),
            ],
            [
                params(i8_, 0.5, -4),
                params(i8_, 0.25, 100),
                params(i8_, 0.5, -128),
            ],
            [params(u8_, 1e-3, 255), params(i8_, 7.5, 0), params(u8_, 0.1, 0)],
        ];
        let value = |byte: usize, dtype| {
            if dtype == i8_ {
                byte as i32 - 128
            } else {
                byte as i32
            }
        };
        for grids in &cases {
            let [(sa, za), (sb, zb), (sc, zc)] = [0, 1, 2].map(|i| grids[i].as_per_tensor().unwrap());
            let (min, max) = grids[2].quant_range();
            let range = (min + 3, max - 9);
            for policy in [
                Requantize::FloatScaleZeroPointBefore,
                Requantize::FloatScaleZeroPointAfter,
            ] {
                let before = policy == Requantize::FloatScaleZeroPointBefore;
                for operation in [QuantizedBinaryKernel::Add, QuantizedBinaryKernel::Mul] {
                    let real = |qa: i32, qb: i32| match (operation, before) {
                        (QuantizedBinaryKernel::Add, true) => {
                            let (ra, rb) = (sa / sc, sb / sc);
                            let fixed = zc as f32 - (ra * za as f32 + rb * zb as f32);
                            rb.mul_add(qb as f32, ra.mul_add(qa as f32, fixed))
                        }
                        (QuantizedBinaryKernel::Add, false) => {
                            let sum = (qa - za) as f32 * sa + (qb - zb) as f32 * sb;
                            Rounding::TiesEven.round(sum / sc) + zc as f32
                        }
                        (QuantizedBinaryKernel::Mul, true) => {
                            (((qa - za) * (qb - zb)) as f32).mul_add(sa * sb / sc, zc as f32)
                        }
                        (QuantizedBinaryKernel::Mul, false) => {
                            let product = ((qa - za) * (qb - zb)) as f32 * (sa * sb / sc);
                            Rounding::TiesEven.round(product) + zc as f32
                        }
                    };
                    let pairs: Vec<(i32, i32)> = (0..1 << 16)
                        .map(|p| (value(p >> 8, grids[0].dtype()), value(p & 255, grids[1].dtype())))
                        .collect();
                    let steps = QuantParams::per_tensor(DType::Int32, 1.0, 0).unwrap();
                    let on_grid = Tensor::vector(pairs.iter().map(|&(a, b)| real(a, b)).collect());
                    let rounded = quantize_linear(&on_grid, &steps, Rounding::TiesEven).unwrap();
                    let kernel = between_grids(operation, [0, 1, 2].map(|i| &grids[i]), policy, range);
                    for (&(a, b), &q) in pairs.iter().zip(rounded.as_slice::<i32>().unwrap()) {
                        let expected = q.max(range.0).min(range.1);
                        assert_eq!(kernel.apply(a, b), expected, "{operation:?} {policy:?} {a} {b}");
                    }
                }
            }
        }
    }

    #[test]
    fn operands_of_every_shape_are_broadcast() {
        let shapes: [&[usize]; 9] = [
            &[2, 3, 4, 5],
            &[1, 1, 1, 1],
            &[2, 1, 1, 5],
            &[1, 1, 1, 5],
            &[2, 3, 1, 1],
            &[1, 3, 1, 5],
            &[2, 1, 4, 1],
            &[5],
            &[],
        ];
        let op = kernel(QuantizedBinaryKernel::Add, Requantize::FloatScaleZeroPointAfter);
        for a in shapes {
            for b in shapes {
                let tensor = |shape: &[usize], salt: usize| {
                    let n: usize = shape.iter().product();
                    Tensor::new(shape, (0..n).map(|i| ((i + salt) * 37 % 256) as u8).collect()).unwrap()
                };
                let (a, b) = (tensor(a, 1), tensor(b, 9));
                let walk = Broadcast::new([a.shape(), b.shape()]).unwrap();
                let (x, y) = (spread(&a, &walk, 0).unwrap(), spread(&b, &walk, 1).unwrap());
                let pairs = x
                    .as_slice::<u8>()
                    .unwrap()
                    .iter()
                    .zip(y.as_slice::<u8>().unwrap());
                let expected: Vec<u8> = pairs
                    .map(|(&a, &b)| op.apply(i32::from(a), i32::from(b)) as u8)
                    .collect();
                let unit = Pairs {
                    name: "add",
                    kernel: op.clone(),
                    operands: (0, 1),
                    output: DType::UInt8,
                };
                let place = format!("{:?} {:?}", a.shape(), b.shape());
                let got = unit.run(&[&Stored::plain(a), &Stored::plain(b)]).unwrap();
                assert_eq!(got[0].to_plain().as_slice::<u8>().unwrap(), expected, "{place}");
            }
        }
    }
}
