//! Element-wise functions of two operands that a target computes in float between dequantize and quantize, a constant or a
//! second value beside an 8-bit one: the same float arithmetic, in one pass.

use qloupe_ir::Node;
use qloupe_kernels::{BinaryKernel, ElementWise, Numbers, real_binary};
use qloupe_tensor::{QuantParams, Tensor};

use super::add_mul::operand;
use super::conv::{quantized_slice, write_quantized};
use super::pairing::Pairing;
use super::{IntegerKernel, IntegerSpec};
use crate::{ElementSource, OpError, PrepareContext, Stored, ops};

#[derive(Debug)]
struct RealPairs {
    kernel: BinaryKernel,
    operands: [Source; 2],
    output: QuantParams,
}

#[derive(Debug)]
enum Source {
    /// A computed input, with its scale and zero point.
    Input(usize, f32, i32),
    /// float32 numbers.
    Constant(Stored),
}

pub(super) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let ([node], Some(output)) = (spec.nodes, spec.output()) else {
        return Ok(None);
    };
    let (Some(kernel), true) = (function(spec, node), spec.all_inputs_8_bit()) else {
        return Ok(None);
    };
    let source = |idx: usize| match operand(spec, node, idx) {
        Some(input) => {
            let (scale, zero_point) = spec.input_scale(input)?;
            Some(Source::Input(input, scale, zero_point))
        }
        None => {
            let constant = spec.constant(node.input(idx)?)?;
            constant.as_slice::<f32>()?;
            Some(Source::Constant(Stored::plain(constant.clone())))
        }
    };
    let (Some(first), Some(second)) = (source(0), source(1)) else {
        return Ok(None);
    };
    Ok(Some(Box::new(RealPairs {
        kernel,
        operands: [first, second],
        output: output.clone(),
    })))
}

/// The function of inputs 0 and 1 that a node is.
fn function(spec: &IntegerSpec<'_>, node: &Node) -> Option<BinaryKernel> {
    let operator = ops::find(&node.op_type, &node.domain)?;
    let elements = operator.elements(&PrepareContext {
        node,
        opset: spec.opset,
        constants: &[],
    })?;
    match elements.0.as_slice() {
        [(ElementWise::Binary(kernel), [ElementSource::Input(0), ElementSource::Input(1)])] => Some(*kernel),
        _ => None,
    }
}

impl IntegerKernel for RealPairs {
    fn name(&self) -> &'static str {
        "real_pairs"
    }

    fn run(&self, inputs: &[&Stored]) -> Result<Vec<Stored>, OpError> {
        let [first, second] = &self.operands;
        let pairing = Pairing::new(first.stored(inputs), second.stored(inputs))?;
        let grid = self.output.as_per_tensor();
        let grid = grid.expect("invariant: checked at compile time");
        let result = write_quantized(self.output.dtype(), &pairing.shape, |out| {
            let operands = [first.numbers(&pairing.a)?, second.numbers(&pairing.b)?];
            real_binary(self.kernel, operands, pairing.inner, grid, out);
            Ok(())
        })?;
        Ok(vec![Stored::of_call(result, pairing.layout)])
    }
}

impl Source {
    fn stored<'v>(&'v self, inputs: &[&'v Stored]) -> &'v Stored {
        match self {
            Self::Input(idx, ..) => inputs[*idx],
            Self::Constant(constant) => constant,
        }
    }

    /// The numbers of the operand, in whichever shape it is.
    fn numbers<'t>(&self, tensor: &'t Tensor) -> Result<Numbers<'t>, OpError> {
        Ok(match *self {
            Self::Input(_, scale, zero_point) => Numbers::Quantized {
                q: quantized_slice(tensor)?,
                scale,
                zero_point,
            },
            Self::Constant(_) => Numbers::Real(tensor.require()?),
        })
    }
}
