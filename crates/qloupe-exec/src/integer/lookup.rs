//! Units of one 8-bit input that work element by element: a table of 256 results.

use qloupe_ir::{Extra, Graph, Initializer, ValueInfo};
use qloupe_tensor::{DType, QuantParams, Rounding, Tensor, dequantize_linear, quantize_linear};

use super::conv::{quantized_slice, write_quantized};
use super::{IntegerKernel, IntegerSpec};
use crate::{OpError, Program, Stored};

/// Operators that map each element on its own, given constants of one element.
const ELEMENT_WISE: &[&str] = &[
    "Abs",
    "Add",
    "Clip",
    "Div",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Log",
    "Max",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "Pow",
    "Reciprocal",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Tanh",
];

#[derive(Debug)]
struct Lookup {
    /// Result for each input byte.
    table: [u8; 256],
    output: DType,
}

/// The table of a unit, if it is one of these operators.
pub(crate) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let (Some(output), [Some(input)]) = (spec.output(), spec.input_params.as_slice()) else {
        return Ok(None);
    };
    let element_wise = spec.all_inputs_8_bit()
        && spec
            .nodes
            .iter()
            .all(|n| n.domain.is_empty() && ELEMENT_WISE.contains(&n.op_type.as_str()))
        && spec.constants.iter().all(|(_, tensor)| tensor.len() == 1);
    if !element_wise {
        return Ok(None);
    }
    element_wise_kernel(input, output, |real| run_float(spec, real)).map(Some)
}

/// The kernel of a function of real numbers between two scales.
pub(crate) fn element_wise_kernel(
    input: &QuantParams,
    output: &QuantParams,
    f: impl FnOnce(Tensor) -> Result<Tensor, OpError>,
) -> Result<Box<dyn IntegerKernel>, OpError> {
    let real = dequantize_linear(&every_byte(input.dtype())?, input)?;
    let quantized = quantize_linear(&f(real)?.reshape(&[256])?, output, Rounding::TiesEven)?;
    Ok(Box::new(Lookup {
        table: table(&quantized)?,
        output: output.dtype(),
    }))
}

/// All values of an 8-bit type, ordered by their byte.
fn every_byte(dtype: DType) -> Result<Tensor, OpError> {
    Ok(if dtype == DType::Int8 {
        Tensor::new(&[256], (0..=255_u8).map(|b| b as i8).collect())?
    } else {
        Tensor::new(&[256], (0..=255_u8).collect())?
    })
}

/// The table that takes 8-bit values from one scale to another.
pub(crate) fn requantize_table(from: &QuantParams, to: &QuantParams) -> Result<[u8; 256], OpError> {
    let real = dequantize_linear(&every_byte(from.dtype())?, from)?;
    table(&quantize_linear(&real, to, Rounding::TiesEven)?)
}

fn table(tensor: &Tensor) -> Result<[u8; 256], OpError> {
    let bytes = match tensor.as_slice::<i8>() {
        Some(values) => values.iter().map(|&v| v as u8).collect(),
        None => tensor.require::<u8>()?.to_vec(),
    };
    Ok(bytes.try_into().expect("invariant: one result for each byte"))
}

/// Maps every element of an 8-bit value through a table.
pub(crate) fn apply(table: &[u8; 256], value: &Stored, output: DType) -> Result<Stored, OpError> {
    let x = value.physical();
    let y = write_quantized(output, x.shape(), |out| {
        qloupe_kernels::lookup_quantized(quantized_slice(x)?, table, out);
        Ok(())
    })?;
    Ok(Stored::of_call(y, value.layout()))
}

fn run_float(spec: &IntegerSpec<'_>, x: Tensor) -> Result<Tensor, OpError> {
    let value = |name: &str| ValueInfo {
        name: name.to_owned(),
        ty: None,
        doc_string: String::new(),
        extra: Extra::default(),
    };
    let last = spec.nodes.last().and_then(|n| n.output(0)).unwrap_or_default();
    let graph = Graph {
        nodes: spec.nodes.to_vec(),
        inputs: vec![value(&spec.inputs[0])],
        outputs: vec![value(last)],
        initializers: spec
            .constants
            .iter()
            .map(|(name, tensor)| Initializer {
                name: name.clone(),
                value: tensor.clone().into(),
            })
            .collect(),
        ..Graph::default()
    };
    let unsupported = |e: crate::ExecError| OpError::unsupported(e.to_string());
    let program = Program::from_graph(graph, &|_| spec.opset).map_err(unsupported)?;
    let mut outputs = program
        .run(vec![(spec.inputs[0].clone(), x)])
        .map_err(unsupported)?;
    outputs
        .pop()
        .map(|(_, tensor)| tensor)
        .ok_or(OpError::MissingInput { idx: 0 })
}

impl IntegerKernel for Lookup {
    fn name(&self) -> &'static str {
        "lookup"
    }

    fn run(&self, inputs: &[&Stored]) -> Result<Vec<Stored>, OpError> {
        Ok(vec![apply(&self.table, inputs[0], self.output)?])
    }
}
