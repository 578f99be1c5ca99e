//! Conv with constant 8-bit weights, and the Relu or Clip that ends its unit.

use qloupe_kernels::{ConvI8, Epilogue, QuantizedSlice, QuantizedSliceMut};
use qloupe_tensor::{DType, QuantParams, Rounding, Tensor, quantize_linear};

use super::{IntegerKernel, IntegerSpec, activation_range, check_sums};
use crate::ops::Geometry2d;
use crate::{Layout, OpError, Stored};

#[derive(Debug)]
struct Conv {
    packed: ConvI8,
    geometry: Geometry2d,
    ic: usize,
    input_zero_point: i32,
    epilogue: Epilogue,
    output: DType,
}

pub(super) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let (Some(output), Some((node, rest))) = (spec.output(), spec.nodes.split_first()) else {
        return Ok(None);
    };
    let (Some((input_scale, input_zero_point)), true) = (spec.input_scale(0), node.is_onnx("Conv")) else {
        return Ok(None);
    };
    let Some((weight, weight_params)) = quantized_weight(spec, node.input(1))? else {
        return Ok(None);
    };
    let Some((min, max)) = activation_range(spec, rest, output) else {
        return Ok(None);
    };
    let &[oc, ic_per_group, kh, kw] = weight.shape() else {
        return Ok(None);
    };
    if spec.inputs.len() != 1
        || !spec.all_inputs_8_bit()
        || (node.input(2).is_some() && spec.quantized_bias.is_none())
    {
        return Ok(None);
    }
    let geometry = Geometry2d::new(node, oc, [kh, kw])?;
    let group = geometry.group();
    let packed = ConvI8::new(
        weight.require::<i8>()?,
        spec.quantized_bias,
        oc,
        ic_per_group,
        kh,
        kw,
        group,
    );
    check_sums(packed.max_abs_accumulator_bound())?;
    let (output_scale, zero_point) = output.as_per_tensor().expect("invariant: checked by output()");
    let multiplier = weight_params
        .scale()
        .iter()
        .map(|w| input_scale * w / output_scale)
        .collect();
    Ok(Some(Box::new(Conv {
        packed,
        geometry,
        ic: ic_per_group * group,
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

/// The integers of a weight, if it is one that is quantized to symmetric int8.
pub(super) fn quantized_weight(
    spec: &IntegerSpec<'_>,
    name: Option<&str>,
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
    if params.dtype() != DType::Int8 || params.zero_point().iter().any(|&z| z != 0) {
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

    fn run(&self, inputs: &[Stored]) -> Result<Vec<Stored>, OpError> {
        let x = inputs[0].to_nhwc();
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
        let y = write_quantized(self.output, &shape, |out| {
            self.packed.run(
                quantized_slice(x)?,
                &geometry,
                self.input_zero_point,
                &self.epilogue,
                out,
            );
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
