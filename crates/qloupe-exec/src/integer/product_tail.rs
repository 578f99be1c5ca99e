//! A product whose exact sums go through float nodes before anything is rounded: an activation, or the Add of another value.
//!
//! The sums are those of the kernels of products. What they stand for, `sum * input_scale * weight_scale`, goes through the
//! nodes behind as a float program computes them, and its result is quantized once.

use qloupe_ir::{Graph, Initializer, ValueInfo};
use qloupe_kernels::QuantizedSlice;
use qloupe_tensor::{QuantParams, Tensor};

use super::bands::{Band, bands};
use super::conv::{ConvSums, quantized_slice, write_quantized};
use super::gemm::GemmSums;
use super::{IntegerKernel, IntegerSpec};
use crate::quantized::{FloatUnit, Form, Mode, to_form, to_real};
use crate::{ExecError, Layout, OpError, Program, Stored, Value};

#[derive(Debug)]
struct ProductTail {
    sums: Sums,
    /// From the value that the product stands for, and the other inputs of the unit, to its output.
    tail: FloatUnit,
    /// Which inputs of the unit the nodes behind the product read, and their forms.
    others: Vec<(usize, Form)>,
    output: Form,
}

#[derive(Debug)]
enum Sums {
    Conv(Box<ConvSums>),
    Gemm(Box<GemmSums>),
}

pub(super) fn compile(spec: &IntegerSpec<'_>) -> Result<Option<Box<dyn IntegerKernel>>, OpError> {
    let Some(output) = spec.output() else {
        return Ok(None);
    };
    let (sums, n_nodes) = match (ConvSums::of(spec)?, GemmSums::of(spec)?) {
        (Some(conv), _) => (Sums::Conv(Box::new(conv)), 1),
        (None, Some(gemm)) => {
            let n_nodes = gemm.n_nodes;
            (Sums::Gemm(Box::new(gemm)), n_nodes)
        }
        (None, None) => return Ok(None),
    };
    let nodes = &spec.nodes[n_nodes..];
    let product = spec.nodes[n_nodes - 1].output(0);
    let (Some(product), Some(last)) = (product, nodes.last().and_then(|node| node.output(0))) else {
        return Ok(None);
    };
    let is_read = |name: &str| nodes.iter().any(|node| node.used_values().contains(&name));
    let quantized = |params: &QuantParams| Form::Quantized(params.clone());
    let read = (0..spec.inputs.len()).filter(|&idx| is_read(&spec.inputs[idx]));
    let others: Option<Vec<(usize, Form)>> = read
        .map(|idx| Some((idx, quantized(spec.input_params[idx]?))))
        .collect();
    let Some(others) = others else { return Ok(None) };
    let mut inputs = vec![product.to_owned()];
    inputs.extend(others.iter().map(|&(idx, _)| spec.inputs[idx].clone()));
    let constants = spec.constants.iter().filter(|(name, _)| is_read(name));
    let graph = Graph {
        nodes: nodes.to_vec(),
        inputs: inputs.iter().map(|name| ValueInfo::untyped(name)).collect(),
        outputs: vec![ValueInfo::untyped(last)],
        initializers: constants
            .map(|(name, tensor)| Initializer {
                name: name.clone(),
                value: tensor.clone().into(),
            })
            .collect(),
        ..Graph::default()
    };
    let unsupported = |e: ExecError| OpError::unsupported(e.to_string());
    let program = Program::from_graph(graph, &|_| spec.opset).map_err(unsupported)?;
    let tail = FloatUnit::new(program, &inputs, &[last.to_owned()]).map_err(unsupported)?;
    Ok(Some(Box::new(ProductTail {
        sums,
        tail,
        others,
        output: quantized(output),
    })))
}

impl IntegerKernel for ProductTail {
    fn name(&self) -> &'static str {
        match self.sums {
            Sums::Conv(_) => "conv_tail",
            Sums::Gemm(_) => "gemm_tail",
        }
    }

    fn run(&self, inputs: &[&Stored]) -> Result<Vec<Stored>, OpError> {
        let output = match &self.sums {
            Sums::Conv(conv) => self.run_conv(conv, inputs)?,
            Sums::Gemm(gemm) => {
                let others = self.others.iter().map(|(idx, _)| inputs[*idx].clone());
                self.finish(gemm.run(inputs[0])?, others)?
            }
        };
        Ok(vec![output])
    }
}

impl ProductTail {
    /// The output, a band of rows after the other where they are many.
    fn run_conv(&self, conv: &ConvSums, inputs: &[&Stored]) -> Result<Stored, OpError> {
        let nhwc = inputs[0].to_nhwc();
        let (geometry, shape) = conv.on(nhwc)?;
        let x = quantized_slice(nhwc)?;
        let whole = |others: &[Stored]| {
            let others = others.iter().cloned();
            let all = Band::whole(&geometry);
            self.finish(conv.real(x, &all)?, others)
        };
        let others: Vec<Stored> = self.others.iter().map(|(idx, _)| inputs[*idx].clone()).collect();
        let is_cut = |other: &Stored| other.to_nhwc().shape() == shape;
        let bands = bands(&geometry);
        if bands.len() == 1 || !others.iter().all(is_cut) {
            return whole(&others);
        }
        let Some(params) = self.output.params() else {
            return whole(&others);
        };
        let y = write_quantized(params.dtype(), &shape, |mut out| {
            for band in bands {
                let others: Result<Vec<Stored>, OpError> =
                    others.iter().map(|other| cut(other.to_nhwc(), &band)).collect();
                let part = self.finish(conv.real(x, &band)?, others?.into_iter())?;
                out.part(band.outputs).copy_from(quantized_slice(part.to_nhwc())?);
            }
            Ok(())
        })?;
        Ok(Stored::of_call(y, Layout::Nhwc))
    }

    /// From the value that the product stands for, and the other inputs, to the output.
    fn finish(&self, product: Stored, others: impl Iterator<Item = Stored>) -> Result<Stored, OpError> {
        let forms = self.others.iter().map(|(_, form)| form);
        let others = others.zip(forms).map(|(other, form)| to_real(&other, form));
        let given = std::iter::once(product).chain(others).map(Value::Tensor);
        let results = self.tail.run(given).map_err(|e| match e {
            ExecError::Node { source, .. } => source,
            other => OpError::unsupported(other.to_string()),
        })?;
        let result = results.first().and_then(Value::as_tensor);
        let result = result.expect("invariant: element-wise nodes give tensors");
        Ok(to_form(result, &self.output, Mode::Integer))
    }
}

/// The rows of a band, of a value that is as large as the output.
fn cut(value: &Tensor, band: &Band) -> Result<Stored, OpError> {
    let part = match quantized_slice(value)?.part(band.outputs.start, band.outputs.len()) {
        QuantizedSlice::U8(part) => Tensor::new(&band.shape(), part.to_vec()),
        QuantizedSlice::I8(part) => Tensor::new(&band.shape(), part.to_vec()),
    };
    Ok(Stored::of_call(part?, Layout::Nhwc))
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};
    use qloupe_tensor::{
        DType, Granularity, Requantize, Rounding, Tensor, dequantize_accumulator, dequantize_linear,
        quantize_linear,
    };

    use super::*;

    const N: usize = 8;
    const C: usize = 5;
    const OC: usize = 4;

    fn int8(n: usize, salt: usize) -> Vec<i8> {
        (0..n).map(|i| ((i + salt) * 37 % 251) as u8 as i8).collect()
    }

    /// What runs: the product, the nodes behind it, and the other value that they read.
    struct Case {
        what: &'static str,
        is_conv: bool,
        tail: Vec<Node>,
        has_other: bool,
        /// Of each output channel of the weight.
        zero_points: [i32; OC],
    }

    /// The sums, one by one in i64, as numbers; then the nodes behind in float, and one rounding.
    fn expected(case: &Case, x: &[i8], w: &[i8], bias: &[i32], other: &Tensor, p: &Params) -> Vec<i8> {
        let (x_scale, x_zero) = p.x.as_per_tensor().unwrap();
        let mut real = Vec::new();
        for row in 0..N {
            for oc in 0..OC {
                let products = (0..C).map(|c| {
                    let weight = if case.is_conv {
                        w[oc * C + c]
                    } else {
                        w[c * OC + oc]
                    };
                    (i64::from(x[row * C + c]) - i64::from(x_zero))
                        * (i64::from(weight) - i64::from(case.zero_points[oc]))
                });
                let sum = products.sum::<i64>() + i64::from(bias[oc]);
                let scale = x_scale * p.w.scale()[oc];
                real.push(dequantize_accumulator(i32::try_from(sum).unwrap(), scale));
            }
        }
        let shape = if case.is_conv {
            vec![N, OC, 1, 1]
        } else {
            vec![N, OC]
        };
        let mut given = vec![("c".to_owned(), Tensor::new(&shape, real).unwrap())];
        if case.has_other {
            given.push(("r".to_owned(), dequantize_linear(other, &p.other).unwrap()));
        }
        let graph = Graph {
            nodes: case.tail.clone(),
            inputs: given.iter().map(|(name, _)| ValueInfo::untyped(name)).collect(),
            outputs: vec![ValueInfo::untyped("y")],
            ..Graph::default()
        };
        let y = Program::from_graph(graph, &|_| 16).unwrap().run(given).unwrap();
        let y = quantize_linear(&y[0].1, &p.y, Rounding::TiesEven).unwrap();
        y.require::<i8>().unwrap().to_vec()
    }

    struct Params {
        x: QuantParams,
        w: QuantParams,
        other: QuantParams,
        y: QuantParams,
    }

    #[test]
    fn it_is_the_sums_then_the_float_nodes_then_one_rounding() {
        let swish = || {
            vec![
                Node::new("Sigmoid", "", &["c"], &["s"]),
                Node::new("Mul", "", &["c", "s"], &["y"]),
            ]
        };
        let add = || {
            vec![
                Node::new("Add", "", &["r", "c"], &["a"]),
                Node::new("Relu", "", &["a"], &["y"]),
            ]
        };
        let leaky =
            Node::new("LeakyRelu", "", &["c"], &["y"]).with_attribute("alpha", AttributeValue::Float(0.1));
        let case = |what, is_conv, tail, has_other| Case {
            what,
            is_conv,
            tail,
            has_other,
            zero_points: [0; OC],
        };
        let shifted = |case: Case| Case {
            zero_points: [3, -101, 0, 77],
            ..case
        };
        let cases = [
            shifted(case("Conv, Swish, zero points", true, swish(), false)),
            shifted(case("Conv, Add, Relu, zero points", true, add(), true)),
            shifted(case("MatMul, bias, Swish, zero points", false, swish(), false)),
            case("Conv, Swish", true, swish(), false),
            case("Conv, Add, Relu", true, add(), true),
            case("MatMul, bias, Swish", false, swish(), false),
            case("MatMul, bias, LeakyRelu", false, vec![leaky], false),
        ];
        for case in cases {
            let axis = if case.is_conv { 0 } else { 1 };
            let scales = vec![0.013, 0.02, 0.0071, 0.03];
            let per_tensor =
                |scale, zero_point| QuantParams::per_tensor(DType::Int8, scale, zero_point).unwrap();
            let p = Params {
                x: per_tensor(0.021, -17),
                w: QuantParams::new(
                    DType::Int8,
                    Granularity::PerChannel { axis },
                    scales,
                    case.zero_points.to_vec(),
                )
                .unwrap(),
                other: per_tensor(0.11, 9),
                y: per_tensor(0.07, -20),
            };
            let (x, w) = (int8(N * C, 3), int8(OC * C, 11));
            let bias = [500, -40, 0, 9000];
            let weight_shape: &[usize] = if case.is_conv { &[OC, C, 1, 1] } else { &[C, OC] };
            let weight = Tensor::new(weight_shape, w.clone()).unwrap();
            let constants = [
                ("w".to_owned(), dequantize_linear(&weight, &p.w).unwrap()),
                ("b".to_owned(), Tensor::vector(vec![0_f32; OC])),
            ];
            let mut nodes = if case.is_conv {
                vec![Node::new("Conv", "", &["x", "w", "b"], &["c"])]
            } else {
                vec![
                    Node::new("MatMul", "", &["x", "w"], &["m"]),
                    Node::new("Add", "", &["m", "b"], &["c"]),
                ]
            };
            nodes.extend(case.tail.clone());
            let mut inputs = vec!["x".to_owned()];
            let mut input_params = vec![Some(&p.x)];
            if case.has_other {
                inputs.push("r".to_owned());
                input_params.push(Some(&p.other));
            }
            let weights = [("w".to_owned(), p.w.clone())];
            let spec = IntegerSpec {
                nodes: &nodes,
                inputs: &inputs,
                input_params,
                output_params: vec![Some(&p.y)],
                constants: &constants,
                weights: &weights,
                quantized_bias: Some(&bias),
                requantize: Requantize::FloatScaleZeroPointAfter,
                opset: 16,
            };
            let kernel = super::super::compile(&spec).unwrap().expect("it has a kernel");
            let name = if case.is_conv { "conv_tail" } else { "gemm_tail" };
            assert_eq!(kernel.name(), name, "{}", case.what);
            let tail: &[usize] = if case.is_conv { &[1, 1] } else { &[] };
            let shape = |columns: usize| [&[N, columns][..], tail].concat();
            let tensor = Tensor::new(&shape(C), x.clone()).unwrap();
            let other = Tensor::new(&shape(OC), int8(N * OC, 29)).unwrap();
            let mut given = vec![Stored::plain(tensor)];
            if case.has_other {
                given.push(Stored::plain(other.clone()));
            }
            let got = kernel.run(&given.iter().collect::<Vec<_>>()).unwrap();
            let expected = expected(&case, &x, &w, &bias, &other, &p);
            assert!(
                expected.iter().collect::<std::collections::BTreeSet<_>>().len() > 5,
                "{}",
                case.what
            );
            assert_eq!(
                got[0].to_plain().require::<i8>().unwrap(),
                expected,
                "{}",
                case.what
            );
        }
    }

    /// Both kernels whose sums are of weights with zero points, on images that are larger than a band.
    #[test]
    fn bands_give_what_the_whole_gives() {
        const SIZE: usize = 140;
        let per_tensor = |scale, zero_point| QuantParams::per_tensor(DType::Int8, scale, zero_point).unwrap();
        let (x_params, r_params, y_params) =
            (per_tensor(0.02, -17), per_tensor(0.11, 9), per_tensor(0.3, -20));
        let granularity = Granularity::PerChannel { axis: 0 };
        let scales = vec![0.013, 0.02, 0.0071, 0.03];
        let w_params = QuantParams::new(DType::Int8, granularity, scales, vec![3, -101, 0, 77]).unwrap();
        let weight = Tensor::new(&[OC, C, 3, 3], int8(OC * C * 9, 11)).unwrap();
        let constants = [
            ("w".to_owned(), dequantize_linear(&weight, &w_params).unwrap()),
            ("b".to_owned(), Tensor::vector(vec![0_f32; OC])),
        ];
        let conv = Node::new("Conv", "", &["x", "w", "b"], &["c"])
            .with_attribute("pads", AttributeValue::Ints(vec![1; 4]));
        let add = Node::new("Add", "", &["c", "r"], &["y"]);
        let given = [(C, 5), (OC, 29)].map(|(channels, salt)| {
            let shape = [2, channels, SIZE, SIZE];
            Stored::plain(Tensor::new(&shape, int8(2 * channels * SIZE * SIZE, salt)).unwrap())
        });
        for (name, nodes, n_inputs) in [("conv", vec![conv.clone()], 1), ("conv_tail", vec![conv, add], 2)] {
            let inputs = ["x".to_owned(), "r".to_owned()];
            let spec = IntegerSpec {
                nodes: &nodes,
                inputs: &inputs[..n_inputs],
                input_params: [Some(&x_params), Some(&r_params)][..n_inputs].to_vec(),
                output_params: vec![Some(&y_params)],
                constants: &constants,
                weights: &[("w".to_owned(), w_params.clone())],
                quantized_bias: Some(&[500, -40, 0, 9000]),
                requantize: Requantize::FloatScaleZeroPointAfter,
                opset: 16,
            };
            let kernel = super::super::compile(&spec).unwrap().expect("it has a kernel");
            assert_eq!(kernel.name(), name);
            // So many threads share bands so large that there is one.
            let [banded, whole] = [1, 64].map(|n_threads| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(n_threads)
                    .build()
                    .unwrap();
                let given: Vec<&Stored> = given[..n_inputs].iter().collect();
                pool.install(|| kernel.run(&given).unwrap()[0].to_plain().clone())
            });
            let distinct: std::collections::BTreeSet<i8> =
                whole.require::<i8>().unwrap().iter().copied().collect();
            assert!(distinct.len() > 50, "{name}");
            assert!(banded == whole, "{name}");
        }
    }
}
