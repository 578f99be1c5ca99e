//! Conv with constant 8-bit weights, and the Relu or Clip that ends its unit.

use qloupe_kernels::{
    ConvGeometry, ConvI8, Epilogue, QuantizedSlice, QuantizedSliceMut, dequantize_accumulators,
    requantize_accumulators, subtract_window_sums, window_sums,
};
use qloupe_tensor::{DType, Granularity, QuantParams, Rounding, Tensor, quantize_linear};

use super::bands::{Band, bands};
use super::{IntegerKernel, IntegerSpec, activation_range, check_sums};
use crate::ops::Geometry2d;
use crate::{Layout, OpError, Stored};

#[derive(Debug)]
struct Conv {
    sums: ConvSums,
    epilogue: Epilogue,
    output: DType,
}

/// The exact sums of a convolution of 8-bit values.
#[derive(Debug)]
pub(super) struct ConvSums {
    packed: ConvI8,
    /// The zero points of weights that are not packed without them: one for all channels, or one for each.
    zero_point: Option<Vec<i32>>,
    geometry: Geometry2d,
    ic: usize,
    input_zero_point: i32,
    /// What a sum is worth, `input_scale * weight_scale`: one number, or one for each output channel.
    pub(super) scale: Vec<f32>,
}

pub(super) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let (Some(output), Some((_, rest))) = (spec.output(), spec.nodes.split_first()) else {
        return Ok(None);
    };
    let Some((min, max)) = activation_range(spec, rest, output) else {
        return Ok(None);
    };
    if spec.inputs.len() != 1 {
        return Ok(None);
    }
    let Some(sums) = ConvSums::of(spec)? else {
        return Ok(None);
    };
    let (output_scale, zero_point) = output.as_per_tensor().expect("invariant: checked by output()");
    let multiplier = sums.scale.iter().map(|scale| scale / output_scale).collect();
    Ok(Some(Box::new(Conv {
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

impl ConvSums {
    /// The sums of a unit that begins with a convolution; `None` where it does not, or where something is no 8-bit integer.
    pub(super) fn of(spec: &IntegerSpec<'_>) -> Result<Option<Self>, OpError> {
        let Some(node) = spec.nodes.first().filter(|node| node.is_onnx("Conv")) else {
            return Ok(None);
        };
        let Some((input_scale, input_zero_point)) = spec.input_scale(0).filter(|_| spec.all_inputs_8_bit())
        else {
            return Ok(None);
        };
        let Some((weight, weight_params)) = quantized_weight(spec, node.input(1), 0)? else {
            return Ok(None);
        };
        let &[oc, ic_per_group, kh, kw] = weight.shape() else {
            return Ok(None);
        };
        if spec.inputs.first().map(String::as_str) != node.input(0)
            || (node.input(2).is_some() && spec.quantized_bias.is_none())
        {
            return Ok(None);
        }
        let geometry = Geometry2d::new(node, oc, [kh, kw])?;
        let group = geometry.group();
        let (weight, bias) = (weight.require::<i8>()?, spec.quantized_bias);
        let zero_point = weight_params.zero_point();
        let is_depthwise = ic_per_group == 1 && oc == group;
        let has_zero_points = zero_point.iter().any(|&z| z != 0);
        let packed = if is_depthwise && has_zero_points {
            ConvI8::depthwise(weight, zero_point, bias, oc, kh, kw)
        } else {
            ConvI8::new(weight, bias, oc, ic_per_group, kh, kw, group)
        };
        let zero_point = (has_zero_points && !is_depthwise).then(|| zero_point.to_vec());
        let largest = zero_point
            .iter()
            .flatten()
            .map(|z| i64::from(z.unsigned_abs()))
            .max();
        // No sum under a window is larger in magnitude.
        let window = 255 * (ic_per_group * kh * kw) as i64;
        check_sums(packed.max_abs_accumulator_bound() + window * largest.unwrap_or(0))?;
        Ok(Some(Self {
            packed,
            zero_point,
            geometry,
            ic: ic_per_group * group,
            input_zero_point,
            scale: weight_params.scale().iter().map(|w| input_scale * w).collect(),
        }))
    }

    /// The geometry on an input in NHWC, and the shape of the output in it.
    pub(super) fn on(&self, x: &Tensor) -> Result<(ConvGeometry, [usize; 4]), OpError> {
        let &[n, ih, iw, ic] = x.shape() else {
            return Err(OpError::input(
                0,
                format!("wrong rank, expected 4, got {}", x.rank()),
            ));
        };
        if ic != self.ic {
            return Err(OpError::input(
                0,
                format!("wrong number of channels, expected {}, got {ic}", self.ic),
            ));
        }
        let geometry = self.geometry.on([n, ih, iw, ic])?;
        let shape = [n, geometry.oh(), geometry.ow(), geometry.oc];
        Ok((geometry, shape))
    }

    /// The sums of a band of the output of `x`.
    fn accumulate(&self, x: QuantizedSlice<'_>, band: &Band) -> Vec<i32> {
        let (x, geometry) = (x.part(band.inputs.start, band.inputs.len()), &band.geometry);
        let mut acc = self.packed.accumulate(x, geometry, self.input_zero_point);
        if let Some(zero_point) = &self.zero_point {
            let window = window_sums(x, geometry, self.input_zero_point);
            subtract_window_sums(&mut acc, &window, zero_point, geometry.oc);
        }
        acc
    }

    /// What the sums of a band stand for.
    pub(super) fn real(&self, x: QuantizedSlice<'_>, band: &Band) -> Result<Stored, OpError> {
        let acc = self.accumulate(x, band);
        let real = dequantize_accumulators(&acc, &self.scale, band.geometry.oc);
        Ok(Stored::of_call(Tensor::new(&band.shape(), real)?, Layout::Nhwc))
    }
}

/// The integers of a weight, if it is one that is quantized to int8, with one scale or one for each output channel, which
/// lie along `axis`: scales along another one cannot be taken out of sums of integers.
pub(super) fn quantized_weight(
    spec: &IntegerSpec<'_>,
    name: Option<&str>,
    axis: usize,
) -> Result<Option<(Tensor, QuantParams)>, OpError> {
    let Some((name, params)) = spec
        .weights
        .iter()
        .find(|(weight, _)| Some(weight.as_str()) == name)
    else {
        return Ok(None);
    };
    let Some(stored) = spec.constant(name) else {
        return Ok(None);
    };
    let is_of_outputs = match params.granularity() {
        Granularity::PerTensor => true,
        Granularity::PerChannel { axis: own } => own == axis,
        Granularity::PerBlock { .. } => false,
    };
    if params.dtype() != DType::Int8 || !is_of_outputs {
        return Ok(None);
    }
    // The constant is on its grid already: quantizing it again gives the integers exactly.
    Ok(Some((
        quantize_linear(stored, params, Rounding::TiesEven)?,
        params.clone(),
    )))
}

impl IntegerKernel for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn run(&self, inputs: &[&Stored]) -> Result<Vec<Stored>, OpError> {
        let x = inputs[0].to_nhwc();
        let (geometry, shape) = self.sums.on(x)?;
        let y = write_quantized(self.output, &shape, |mut out| {
            let x = quantized_slice(x)?;
            if self.sums.zero_point.is_some() {
                for band in bands(&geometry) {
                    let acc = self.sums.accumulate(x, &band);
                    requantize_accumulators(&acc, geometry.oc, &self.epilogue, out.part(band.outputs));
                }
            } else {
                let zero_point = self.sums.input_zero_point;
                self.sums
                    .packed
                    .run(x, &geometry, zero_point, &self.epilogue, out);
            }
            Ok(())
        })?;
        Ok(vec![Stored::of_call(y, Layout::Nhwc)])
    }
}

/// The 8-bit elements of a tensor.
pub(crate) fn quantized_slice(x: &Tensor) -> Result<QuantizedSlice<'_>, OpError> {
    match x.as_slice::<u8>() {
        Some(q) => Ok(QuantizedSlice::U8(q)),
        None => Ok(QuantizedSlice::I8(x.require::<i8>()?)),
    }
}

/// A tensor of an 8-bit dtype that `fill` writes.
pub(crate) fn write_quantized(
    dtype: DType,
    shape: &[usize],
    fill: impl FnOnce(QuantizedSliceMut<'_>) -> Result<(), OpError>,
) -> Result<Tensor, OpError> {
    let len = shape.iter().product();
    if dtype == DType::Int8 {
        let mut y = vec![0_i8; len];
        fill(QuantizedSliceMut::I8(&mut y))?;
        Ok(Tensor::new(shape, y)?)
    } else {
        let mut y = vec![0_u8; len];
        fill(QuantizedSliceMut::U8(&mut y))?;
        Ok(Tensor::new(shape, y)?)
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};
    use qloupe_tensor::{Requantize, dequantize_linear};

    use super::*;

    const SIZE: usize = 5;
    const C: usize = 4;

    fn int8(n: usize, salt: usize) -> Vec<i8> {
        (0..n).map(|i| ((i + salt) * 37 % 251) as u8 as i8).collect()
    }

    /// `requantize(sum((x - x_zero_point) * (w - w_zero_point)) + bias)` of a 3x3 convolution with padding, one by one in i64.
    fn expected(x: &[i8], w: &[i8], bias: &[i32], group: usize, params: [&QuantParams; 3]) -> Vec<i8> {
        let [(x_scale, x_zero), (y_scale, y_zero)] =
            [params[0], params[2]].map(|p| p.as_per_tensor().unwrap());
        let oc = bias.len();
        let (icg, ocg) = (C / group, oc / group);
        let mut y = Vec::new();
        for o in 0..oc {
            let idx = o % params[1].scale().len();
            for (row, column) in (0..SIZE * SIZE).map(|place| (place / SIZE, place % SIZE)) {
                let mut sum = i64::from(bias[o]);
                for tap in 0..icg * 9 {
                    let (c, kh, kw) = (o / ocg * icg + tap / 9, tap / 3 % 3, tap % 3);
                    let (Some(r), Some(s)) = ((row + kh).checked_sub(1), (column + kw).checked_sub(1)) else {
                        continue;
                    };
                    if r < SIZE && s < SIZE {
                        let a = i64::from(x[(c * SIZE + r) * SIZE + s]) - i64::from(x_zero);
                        let b = i64::from(w[o * icg * 9 + tap]) - i64::from(params[1].zero_point()[idx]);
                        sum += a * b;
                    }
                }
                let multiplier = x_scale * params[1].scale()[idx] / y_scale;
                let acc = i32::try_from(sum).unwrap();
                let q = Requantize::FloatScaleZeroPointAfter.apply(acc, multiplier, y_zero, (-128, 127));
                y.push(q as i8);
            }
        }
        y
    }

    #[test]
    fn weights_with_zero_points_are_multiplied_without_them() {
        // (output channels, groups): dense, grouped, depthwise, depthwise with two channels of each.
        for (oc, group) in [(6, 1), (6, 2), (C, C), (2 * C, C)] {
            for per_channel in [true, false] {
                let n = if per_channel { oc } else { 1 };
                let granularity = if per_channel {
                    Granularity::PerChannel { axis: 0 }
                } else {
                    Granularity::PerTensor
                };
                let scales = (0..n).map(|c| 0.01 + 0.003 * c as f32).collect();
                let zero_points = (0..n).map(|c| [90, -128, 0, 127, -5][c % 5]).collect();
                let per_tensor = |scale, zero| QuantParams::per_tensor(DType::Int8, scale, zero).unwrap();
                let (x_params, y_params) = (per_tensor(0.02, -31), per_tensor(0.9, 11));
                let w_params = QuantParams::new(DType::Int8, granularity, scales, zero_points).unwrap();
                let x = int8(C * SIZE * SIZE, 5);
                let w = int8(oc * C / group * 9, 2);
                let bias: Vec<i32> = (0..oc as i32).map(|c| c * 700 - 900).collect();
                let weight = Tensor::new(&[oc, C / group, 3, 3], w.clone()).unwrap();
                let constants = [
                    ("w".to_owned(), dequantize_linear(&weight, &w_params).unwrap()),
                    ("b".to_owned(), Tensor::vector(vec![0_f32; oc])),
                ];
                let nodes = [Node::new("Conv", "", &["x", "w", "b"], &["y"])
                    .with_attribute("group", AttributeValue::Int(group as i64))
                    .with_attribute("pads", AttributeValue::Ints(vec![1; 4]))];
                let spec = IntegerSpec {
                    nodes: &nodes,
                    inputs: &["x".to_owned()],
                    input_params: vec![Some(&x_params)],
                    output_params: vec![Some(&y_params)],
                    constants: &constants,
                    weights: &[("w".to_owned(), w_params.clone())],
                    quantized_bias: Some(&bias),
                    requantize: Requantize::FloatScaleZeroPointAfter,
                    opset: 13,
                };
                let kernel = compile(&spec).unwrap().expect("it has a kernel");
                let tensor = Tensor::new(&[1, C, SIZE, SIZE], x.clone()).unwrap();
                let got = kernel.run(&[&Stored::plain(tensor)]).unwrap();
                let expected = expected(&x, &w, &bias, group, [&x_params, &w_params, &y_params]);
                let place = format!("{oc} channels, {group} groups, {n} zero points");
                assert!(
                    expected.iter().any(|q| (-100..100).contains(q)),
                    "{place}: all clipped"
                );
                assert_eq!(got[0].to_plain().require::<i8>().unwrap(), expected, "{place}");
            }
        }
    }
}
