//! The form in which a value travels between units.

use qloupe_kernels::QuantizedSlice;
use qloupe_tensor::{DType, QuantParams, Rounding, fake_quantize_linear};

use crate::ops::dynamic_fake_quantize;
use crate::stored::with_values;
use crate::{ExecError, Stored};

/// How quantized values are computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Integers between units, integer kernels inside where the unit has one: what the hardware does.
    Integer,
    /// Real numbers on the quantization grid, float arithmetic inside: what a QDQ model says.
    FakeQuant,
}

/// How quantized consumers read a value that travels in float.
#[derive(Clone, Debug, PartialEq)]
pub enum Cast {
    /// With these parameters.
    Fixed(QuantParams),
    /// As uint8 with the range of the value at hand, as DynamicQuantizeLinear does.
    Dynamic,
}

/// How a value travels between units.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// float32. `cast`: how quantized consumers read it.
    Float {
        /// See above.
        cast: Option<Cast>,
    },
    /// float16 (computed with as f32 values that float16 holds). `cast` as above.
    Fp16 {
        /// See above.
        cast: Option<Cast>,
    },
    /// Integers with these parameters.
    Quantized(QuantParams),
}

impl Form {
    /// float32 that is never cast: what integer and shape values are, too.
    pub const FLOAT: Self = Self::Float { cast: None };

    /// The parameters of a quantized value.
    pub fn params(&self) -> Option<&QuantParams> {
        if let Self::Quantized(params) = self {
            Some(params)
        } else {
            None
        }
    }

    /// The same form for a consumer that takes real numbers.
    pub(crate) fn without_cast(self) -> Self {
        match self {
            Self::Float { .. } => Self::FLOAT,
            Self::Fp16 { .. } => Self::Fp16 { cast: None },
            quantized @ Self::Quantized(_) => quantized,
        }
    }

    /// The parameters with which a quantized consumer reads it, where they are fixed.
    pub fn read_params(&self) -> Option<&QuantParams> {
        match self {
            Self::Quantized(params) => Some(params),
            Self::Float { cast } | Self::Fp16 { cast } => match cast {
                Some(Cast::Fixed(params)) => Some(params),
                Some(Cast::Dynamic) | None => None,
            },
        }
    }

    /// How a quantized consumer reads it when it travels in float.
    pub fn cast(&self) -> Option<&Cast> {
        match self {
            Self::Quantized(_) => None,
            Self::Float { cast } | Self::Fp16 { cast } => cast.as_ref(),
        }
    }
}

/// Checks that the scales of a form fit a value.
///
/// # Errors
/// A number of scales that the shape does not have.
pub(crate) fn check_scales(name: &str, value: &Stored, form: &Form) -> Result<(), ExecError> {
    let Some(params) = form.params().filter(|_| value.dtype() == DType::Float32) else {
        return Ok(());
    };
    params.check_shape(&value.shape()).map_err(|e| ExecError::Node {
        node: name.to_owned(),
        op_type: "value".to_owned(),
        source: e.into(),
    })
}

/// Brings real numbers into a form; values that are not float32 pass, and those whose shape does not fit its scales (see
/// [`check_scales`]). With several scales they stay real numbers on the grid in either mode: no kernel reads them.
pub fn to_form(value: &Stored, form: &Form, mode: Mode) -> Stored {
    let Some(x) = value.physical().as_slice::<f32>() else {
        return value.clone();
    };
    match form {
        Form::Float { .. } => value.clone(),
        Form::Fp16 { .. } => {
            let mut rounded = x.to_vec();
            qloupe_kernels::round_to_fp16(&mut rounded);
            with_values(value, rounded)
        }
        Form::Quantized(params) if params.as_per_tensor().is_none() => {
            fake_quantize_linear(value.to_plain(), params, Rounding::TiesEven)
                .map_or_else(|_| value.clone(), Stored::plain)
        }
        Form::Quantized(params) => match (mode, params.dtype()) {
            (Mode::Integer, DType::UInt8) => {
                let (scale, zero_point) = per_tensor(params);
                with_values(value, qloupe_kernels::quantize_to_u8(x, scale, zero_point))
            }
            (Mode::Integer, DType::Int8) => {
                let (scale, zero_point) = per_tensor(params);
                with_values(value, qloupe_kernels::quantize_to_i8(x, scale, zero_point))
            }
            (Mode::Integer, _) => {
                let q = qloupe_tensor::quantize_linear(value.physical(), params, Rounding::TiesEven);
                Stored::of_call(
                    q.expect("invariant: activations are quantized per tensor"),
                    value.layout(),
                )
            }
            (Mode::FakeQuant, _) => {
                let mut y = vec![0_f32; x.len()];
                let (scale, zero_point) = per_tensor(params);
                qloupe_kernels::fake_quantize(x, scale, zero_point, params.quant_range(), &mut y);
                with_values(value, y)
            }
        },
    }
}

/// Real numbers as a quantized consumer reads them; values that are not float32 pass.
pub(crate) fn fake_cast(value: &Stored, cast: &Cast) -> Stored {
    match (cast, value.physical().as_slice::<f32>()) {
        (Cast::Fixed(params), _) => to_form(value, &Form::Quantized(params.clone()), Mode::FakeQuant),
        (Cast::Dynamic, Some(x)) => with_values(value, dynamic_fake_quantize(x)),
        (Cast::Dynamic, None) => value.clone(),
    }
}

/// The real numbers of a value in a form; values that are not quantized pass.
pub fn to_float(value: &Stored, form: &Form) -> Stored {
    let Form::Quantized(params) = form else {
        return value.clone();
    };
    if value.dtype() != params.dtype() {
        return value.clone();
    }
    let (scale, zero_point) = per_tensor(params);
    let stored = value.physical();
    let q = match (stored.as_slice::<u8>(), stored.as_slice::<i8>()) {
        (Some(q), _) => QuantizedSlice::U8(q),
        (None, Some(q)) => QuantizedSlice::I8(q),
        (None, None) => {
            let x = qloupe_tensor::dequantize_linear(stored, params);
            let x = x.expect("invariant: activations are quantized per tensor");
            return Stored::of_call(x, value.layout());
        }
    };
    with_values(value, qloupe_kernels::dequantize_to_vec(q, scale, zero_point))
}

fn per_tensor(params: &QuantParams) -> (f32, i32) {
    params
        .as_per_tensor()
        .expect("invariant: activations are quantized per tensor")
}
