//! The activation of a fused operator: its name and parameters as a kernel.

use qloupe_kernels::{UnaryKernel, unary_in_place};
use qloupe_tensor::{DType, Tensor};

use super::cast::cast;
use crate::OpError;

/// The kernel of an activation; `parameter(i, default)` gives its parameters in the order of ONNX Runtime.
///
/// # Errors
/// A name that is not known.
pub(super) fn kernel_of(name: &str, parameter: impl Fn(usize, f32) -> f32) -> Result<UnaryKernel, OpError> {
    Ok(match name {
        "Relu" => UnaryKernel::Relu,
        "Sigmoid" => UnaryKernel::Sigmoid,
        "Tanh" => UnaryKernel::Tanh,
        "LeakyRelu" => UnaryKernel::LeakyRelu {
            alpha: parameter(0, 0.01),
        },
        "Elu" => UnaryKernel::Elu {
            alpha: parameter(0, 1.0),
        },
        "Softplus" => UnaryKernel::Softplus,
        "HardSigmoid" => UnaryKernel::HardSigmoid {
            alpha: parameter(0, 0.2),
            beta: parameter(1, 0.5),
        },
        "HardSwish" => UnaryKernel::HardSwish,
        "Clip" => UnaryKernel::Clip {
            min: parameter(0, f32::MIN),
            max: parameter(1, f32::MAX),
        },
        other => {
            return Err(OpError::attribute(
                "activation",
                format!(
                    "unknown value, expected Relu, Sigmoid, Tanh, LeakyRelu, Elu, Softplus, HardSigmoid, HardSwish or \
                     Clip, got \"{other}\""
                ),
            ));
        }
    })
}

/// A float32 result, activated and rounded to `dtype`.
///
/// # Errors
/// Another type of the result.
pub(super) fn activated(y: Tensor, kernel: Option<UnaryKernel>, dtype: DType) -> Result<Tensor, OpError> {
    let Some(kernel) = kernel else {
        return cast(&y, dtype);
    };
    let shape = y.shape().to_vec();
    let mut values = y.into_vec::<f32>()?;
    unary_in_place(kernel, &mut values);
    cast(&Tensor::new(&shape, values)?, dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_come_by_position() {
        let kernel = kernel_of("Clip", |i, _| [0.0, 6.0][i]).unwrap();
        assert_eq!(kernel, UnaryKernel::Clip { min: 0.0, max: 6.0 });
        let y = activated(Tensor::vector(vec![-1_f32, 7.0]), Some(kernel), DType::Float32).unwrap();
        assert_eq!(y, Tensor::vector(vec![0_f32, 6.0]));
        assert_eq!(
            kernel_of("Cube", |_, default| default).unwrap_err().to_string(),
            "attribute \"activation\": unknown value, expected Relu, Sigmoid, Tanh, LeakyRelu, Elu, Softplus, \
             HardSigmoid, HardSwish or Clip, got \"Cube\""
        );
    }
}
