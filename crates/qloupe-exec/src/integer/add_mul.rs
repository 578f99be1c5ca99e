//! Add and Mul of two 8-bit values: a table of all 65536 pairs, looked up with broadcasting.

use qloupe_ir::Node;
use qloupe_tensor::{DType, QuantParams, Requantize, Rounding, Tensor, quantize_linear};

use super::lookup::bytes;
use super::{IntegerKernel, IntegerSpec, activation_range, quantized_tensor};
use crate::ops::Broadcast;
use crate::stored::broadcast_nhwc;
use crate::{Layout, OpError, Stored};

#[derive(Debug)]
struct Pairs {
    name: &'static str,
    /// Result byte for `[first byte][second byte]`.
    table: Vec<u8>,
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
    qlinear("qlinear_add", [a, b, c], add)
}

/// Mul of two quantized values, by the policy of ONNX Runtime's kernel QLinearMul.
pub(crate) fn qlinear_mul(
    a: &QuantParams,
    b: &QuantParams,
    c: &QuantParams,
) -> Result<Box<dyn IntegerKernel>, OpError> {
    qlinear("qlinear_mul", [a, b, c], mul)
}

fn qlinear(
    name: &'static str,
    [a, b, c]: [&QuantParams; 3],
    formula: Formula,
) -> Result<Box<dyn IntegerKernel>, OpError> {
    let policy = Requantize::FloatScaleZeroPointBefore;
    Ok(Box::new(Pairs {
        name,
        table: build_table(a, b, c, formula, policy, c.quant_range())?,
        operands: (0, 1),
        output: c.dtype(),
    }))
}

/// How a pair of quantized values becomes a real number on the output grid.
type Formula = fn(&Operand, i32, &Operand, i32, &Operand, Requantize) -> f32;

struct Operand {
    scale: f32,
    zero_point: i32,
}

pub(super) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let (Some(output), Some((node, rest))) = (spec.output(), spec.nodes.split_first()) else {
        return Ok(None);
    };
    let (name, formula): (_, Formula) = match node.op_type.as_str() {
        "Add" if node.domain.is_empty() => ("add", add),
        "Mul" if node.domain.is_empty() => ("mul", mul),
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
    let table = build_table(
        params(first),
        params(second),
        output,
        formula,
        spec.requantize,
        range,
    )?;
    Ok(Some(Box::new(Pairs {
        name,
        table,
        operands: (first, second),
        output: output.dtype(),
    })))
}

fn operand(spec: &IntegerSpec<'_>, node: &Node, idx: usize) -> Option<usize> {
    spec.inputs
        .iter()
        .position(|name| Some(name.as_str()) == node.input(idx))
}

fn build_table(
    first: &QuantParams,
    second: &QuantParams,
    output: &QuantParams,
    formula: Formula,
    policy: Requantize,
    (min, max): (i32, i32),
) -> Result<Vec<u8>, OpError> {
    let operand = |p: &QuantParams| {
        let (scale, zero_point) = p
            .as_per_tensor()
            .expect("invariant: activations are quantized per tensor");
        Operand { scale, zero_point }
    };
    let (a, b, c) = (operand(first), operand(second), operand(output));
    let value = |byte: usize, dtype: DType| {
        if dtype == DType::Int8 {
            i32::from(byte as u8 as i8)
        } else {
            byte as i32
        }
    };
    let on_grid: Vec<f32> = (0..65_536)
        .map(|pair| {
            formula(
                &a,
                value(pair >> 8, first.dtype()),
                &b,
                value(pair & 255, second.dtype()),
                &c,
                policy,
            )
        })
        .collect();
    // `on_grid` is in output steps with the zero point added: scale 1, zero point 0 rounds and clips it.
    let steps = QuantParams::per_tensor(DType::Int32, 1.0, 0)?;
    let rounded = quantize_linear(&Tensor::vector(on_grid), &steps, Rounding::TiesEven)?;
    Ok(rounded
        .require::<i32>()?
        .iter()
        .map(|&q| q.max(min).min(max) as u8)
        .collect())
}

fn add(a: &Operand, qa: i32, b: &Operand, qb: i32, c: &Operand, policy: Requantize) -> f32 {
    let (ratio_a, ratio_b) = (a.scale / c.scale, b.scale / c.scale);
    if policy == Requantize::FloatScaleZeroPointBefore {
        let fixed = c.zero_point as f32 - (ratio_a * a.zero_point as f32 + ratio_b * b.zero_point as f32);
        return ratio_b.mul_add(qb as f32, ratio_a.mul_add(qa as f32, fixed));
    }
    let sum = (qa - a.zero_point) as f32 * a.scale + (qb - b.zero_point) as f32 * b.scale;
    Rounding::TiesEven.round(sum / c.scale) + c.zero_point as f32
}

fn mul(a: &Operand, qa: i32, b: &Operand, qb: i32, c: &Operand, policy: Requantize) -> f32 {
    let product = ((qa - a.zero_point) * (qb - b.zero_point)) as f32;
    let multiplier = a.scale * b.scale / c.scale;
    if policy == Requantize::FloatScaleZeroPointBefore {
        return product.mul_add(multiplier, c.zero_point as f32);
    }
    Rounding::TiesEven.round(product * multiplier) + c.zero_point as f32
}

impl IntegerKernel for Pairs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, inputs: &[Stored]) -> Result<Vec<Stored>, OpError> {
        let (a, b) = (&inputs[self.operands.0], &inputs[self.operands.1]);
        let nhwc = (a.layout() == Layout::Nhwc || b.layout() == Layout::Nhwc) && a.rank().max(b.rank()) == 4;
        let layout = if nhwc { Layout::Nhwc } else { Layout::Plain };
        let view = |x: &Stored| match (nhwc, x.rank()) {
            (true, 1..=3) => broadcast_nhwc(x.to_plain()),
            _ => x.in_layout(layout).clone(),
        };
        let (a, b) = (view(a), view(b));
        let walk = Broadcast::new([a.shape(), b.shape()])?;
        let (x, y) = (bytes(&a)?, bytes(&b)?);
        let mapped = walk.fill(|out, [i, j], steps| look_up(&self.table, &x[i..], &y[j..], steps, out));
        let bytes = mapped.into_iter().map(|byte: u8| i32::from(byte));
        let tensor = quantized_tensor(self.output, walk.shape(), bytes)?;
        Ok(vec![Stored::of_call(tensor, layout)])
    }
}

/// One run of a broadcast walk: an operand advances or stays.
fn look_up(table: &[u8], x: &[u8], y: &[u8], steps: [bool; 2], out: &mut [u8]) {
    let row = |first: u8| &table[usize::from(first) << 8..][..256];
    match steps {
        [true, true] => out
            .iter_mut()
            .zip(x)
            .zip(y)
            .for_each(|((q, &a), &b)| *q = row(a)[usize::from(b)]),
        [true, false] => out
            .iter_mut()
            .zip(x)
            .for_each(|(q, &a)| *q = row(a)[usize::from(y[0])]),
        [false, true] => {
            let row = row(x[0]);
            out.iter_mut().zip(y).for_each(|(q, &b)| *q = row[usize::from(b)]);
        }
        [false, false] => out.fill(row(x[0])[usize::from(y[0])]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(formula: Formula, policy: Requantize) -> Vec<u8> {
        let params = |scale, zero_point| QuantParams::per_tensor(DType::UInt8, scale, zero_point).unwrap();
        build_table(
            &params(0.5, 0),
            &params(0.5, 0),
            &params(1.0, 1),
            formula,
            policy,
            (0, 255),
        )
        .unwrap()
    }

    #[test]
    fn policies_differ_at_ties_only() {
        let before = table(add, Requantize::FloatScaleZeroPointBefore);
        let after = table(add, Requantize::FloatScaleZeroPointAfter);
        // (3 + 2) * 0.5 = 2.5: 2.5 + 1 rounds to 4, 2.5 rounds to 2 and becomes 3.
        assert_eq!((before[3 << 8 | 2], after[3 << 8 | 2]), (4, 3));
        assert_eq!((before[4 << 8 | 2], after[4 << 8 | 2]), (4, 4));
        let product = table(mul, Requantize::FloatScaleZeroPointAfter);
        assert_eq!(product[8 << 8 | 6], 13);
    }
}
