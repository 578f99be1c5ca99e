//! Integer kernels of units. A new one is a file and two lines here: its `mod` and its entry in `ALL`.

mod add_mul;
mod average_pool;
mod bands;
mod concat;
mod conv;
mod gemm;
mod global_average_pool;
mod lookup;
mod mat_mul;
mod movement;
mod pairing;
mod product_tail;
mod real_pairs;
mod softmax;

pub(crate) use add_mul::{qlinear_add, qlinear_mul};
pub(crate) use average_pool::qlinear_average_pool;
pub(crate) use conv::{quantized_slice, write_quantized};
pub(crate) use global_average_pool::qlinear_global_average_pool;
pub(crate) use lookup::{apply, element_wise_kernel, requantize_table};
pub use movement::MOVING_OPERATORS;
pub(crate) use softmax::qlinear_softmax;

use std::fmt::Debug;

use qloupe_ir::Node;
use qloupe_tensor::{DType, QuantParams, Requantize, Tensor};

use crate::{OpError, Stored};

/// A compiled integer kernel of one unit.
pub(crate) trait IntegerKernel: Debug + Send + Sync {
    /// The name that reports print.
    fn name(&self) -> &'static str;

    /// True where the outputs are elements of an input, whatever they stand for.
    fn only_moves(&self) -> bool {
        false
    }

    /// True where the output is all elements of the first input, in whatever order and shape.
    fn only_permutes(&self) -> bool {
        false
    }

    /// Inputs and outputs are integers with the parameters that the kernel was compiled for.
    fn run(&self, inputs: &[&Stored]) -> Result<Vec<Stored>, OpError>;
}

/// What a kernel is compiled from.
#[derive(Debug)]
pub(crate) struct IntegerSpec<'a> {
    pub(crate) nodes: &'a [Node],
    /// Names of the computed inputs.
    pub(crate) inputs: &'a [String],
    /// Their parameters; `None` for values that are not quantized (shapes, indices).
    pub(crate) input_params: Vec<Option<&'a QuantParams>>,
    pub(crate) output_params: Vec<Option<&'a QuantParams>>,
    /// Constants as the float arithmetic sees them: quantized weights are on their grid.
    pub(crate) constants: &'a [(String, Tensor)],
    pub(crate) weights: &'a [(String, QuantParams)],
    pub(crate) quantized_bias: Option<&'a [i32]>,
    pub(crate) requantize: Requantize,
    pub(crate) opset: i64,
}

impl IntegerSpec<'_> {
    pub(crate) fn constant(&self, name: &str) -> Option<&Tensor> {
        self.constants
            .iter()
            .find(|(constant, _)| constant == name)
            .map(|(_, tensor)| tensor)
    }

    /// Scale and zero point of an input that is quantized per tensor.
    pub(crate) fn input_scale(&self, idx: usize) -> Option<(f32, i32)> {
        self.input_params.get(idx).copied().flatten()?.as_per_tensor()
    }

    /// The only output, if it is quantized per tensor to 8 bits.
    pub(crate) fn output(&self) -> Option<&QuantParams> {
        match self.output_params.as_slice() {
            [Some(params)] if params.as_per_tensor().is_some() && params.dtype().size_bits() == 8 => {
                Some(params)
            }
            _ => None,
        }
    }

    /// True when every computed input is quantized per tensor to 8 bits.
    pub(crate) fn all_inputs_8_bit(&self) -> bool {
        !self.input_params.is_empty()
            && self
                .input_params
                .iter()
                .all(|p| p.is_some_and(|p| p.as_per_tensor().is_some() && p.dtype().size_bits() == 8))
    }
}

/// What compiles a unit to a kernel; `None` for a unit that the kernel is not for.
pub(crate) type Compile = fn(&IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError>;

/// Every kernel, by name. Each refuses units that are not its own with `None`; the first that accepts wins.
const ALL: &[(&str, Compile)] = &[
    ("add_mul", add_mul::compile),
    ("average_pool", average_pool::compile),
    ("concat", concat::compile),
    ("conv", conv::compile),
    ("gemm", gemm::compile),
    ("global_average_pool", global_average_pool::compile),
    ("lookup", lookup::compile),
    ("mat_mul", mat_mul::compile),
    ("movement", movement::compile),
    ("product_tail", product_tail::compile),
    ("real_pairs", real_pairs::compile),
    ("softmax", softmax::compile),
];

/// The integer kernel of a unit; `None` when it has none and runs in float between dequantize and quantize.
pub(crate) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    for (_, compile) in ALL {
        if let Some(kernel) = compile(spec)? {
            return Ok(Some(kernel));
        }
    }
    Ok(None)
}

/// The kernel of a unit that computes in float between grids, with the bits of its float arithmetic; `None` when it has none.
pub(crate) fn compile_float(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    match lookup::compile(spec)? {
        None => real_pairs::compile(spec),
        table => Ok(table),
    }
}

/// Refuses a unit whose sums could leave int32 for some input; `bound` is how large they can be.
fn check_sums(bound: i64) -> Result<(), OpError> {
    if bound <= i64::from(i32::MAX) {
        return Ok(());
    }
    Err(OpError::Unsupported {
        what: format!("a sum of up to {bound} in int32, which holds {},", i32::MAX),
        remedy: ": give the output float16 or float32 in the plan".to_owned(),
    })
}

/// A tensor of an 8-bit dtype from integers of that dtype, or from their bytes.
fn quantized_tensor(dtype: DType, shape: &[usize], q: impl Iterator<Item = i32>) -> Result<Tensor, OpError> {
    Ok(if dtype == DType::Int8 {
        Tensor::new(shape, q.map(|v| v as i8).collect())?
    } else {
        Tensor::new(shape, q.map(|v| v as u8).collect())?
    })
}

/// The range of output integers after an activation that ends the unit (`[lo, hi]` in real numbers), or `None` when
/// `nodes` are not an activation this can express.
pub(crate) fn activation_range(
    spec: &IntegerSpec<'_>,
    nodes: &[Node],
    output: &QuantParams,
) -> Option<(i32, i32)> {
    let (scale, zero_point) = output.as_per_tensor()?;
    let (mut min, mut max) = output.quant_range();
    let quantize = |x: f32| {
        let q = qloupe_tensor::quantize_linear(
            &Tensor::scalar(x),
            &QuantParams::per_tensor(output.dtype(), scale, zero_point).ok()?,
            qloupe_tensor::Rounding::TiesEven,
        )
        .ok()?;
        q.to_f64_vec().ok().map(|v| v[0] as i32)
    };
    for node in nodes {
        if node.is_onnx("Relu") {
            min = min.max(zero_point);
        } else if node.is_onnx("Clip") {
            let bound = |idx: usize, attribute: &str| {
                let constant = node.input(idx).map(|name| {
                    spec.constant(name)
                        .and_then(|t| t.as_slice::<f32>()?.first().copied())
                });
                // A bound that is present but not a constant cannot be fused.
                match constant {
                    Some(None) => None,
                    Some(Some(value)) => Some(Some(value)),
                    None => Some(node.float(attribute)),
                }
            };
            if let Some(lo) = bound(1, "min")?.filter(|v| v.is_finite()) {
                min = min.max(quantize(lo)?);
            }
            if let Some(hi) = bound(2, "max")?.filter(|v| v.is_finite()) {
                max = max.min(quantize(hi)?);
            }
        } else {
            return None;
        }
    }
    Some((min, max.max(min)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_could_leave_int32_are_refused() {
        assert_eq!(check_sums(i64::from(i32::MAX)), Ok(()));
        let error = check_sums(1 << 31).unwrap_err().to_string();
        assert!(
            error.starts_with("a sum of up to 2147483648 in int32, which holds 2147483647,"),
            "{error}"
        );
        assert!(
            error.ends_with(": give the output float16 or float32 in the plan"),
            "{error}"
        );
    }
}
