//! Operators on integers, rewritten as QuantizeLinear, DequantizeLinear and their float operators.
//!
//! `QLinearConv(x, .., y_scale, ..)` becomes DequantizeLinear of each operand, Conv, and QuantizeLinear of the result. An
//! operator, or a variant of one, that is not listed here stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_ir::{Attribute, AttributeValue, Model, Node, Topology};
use qloupe_tensor::Tensor;

use super::integer_products::{Scaled, find_scaled};
use super::names::{Names, original_name};
use crate::Error;

/// The domain of ONNX Runtime's own operators.
pub(super) const CONTRIB: &str = "com.microsoft";

/// The first version whose ReduceMean takes its axes as an input.
const REDUCE_AXES_INPUT: i64 = 18;

/// The first version whose Softmax works along one axis.
const SOFTMAX_ONE_AXIS: i64 = 13;

/// Where a quantized operand stands among the inputs: integers, scale, zero point.
#[derive(Clone, Copy)]
struct Operand {
    integers: usize,
    scale: usize,
    zero_point: usize,
    /// The axis of several scales.
    axis: i64,
}

/// Three inputs in a row.
const fn operand(integers: usize, axis: i64) -> Operand {
    Operand {
        integers,
        scale: integers + 1,
        zero_point: integers + 2,
        axis,
    }
}

/// An operator whose operands and result are integers.
struct Rule {
    op_type: &'static str,
    domain: &'static str,
    float: &'static str,
    /// Inputs before the operands, as they are.
    passed: usize,
    operands: &'static [Operand],
    /// Scale and zero point of the result.
    output: (usize, usize),
    /// An int32 bias with the scale of both operands.
    bias: Option<usize>,
}

const ONE: &[Operand] = &[operand(0, 1)];
const TWO: &[Operand] = &[operand(0, -2), operand(3, -1)];

/// From `[N, H, W, C]` to `[N, C, H, W]`, and back.
const CHANNELS_FIRST: [i64; 4] = [0, 3, 1, 2];
const CHANNELS_LAST: [i64; 4] = [0, 2, 3, 1];

const fn unary(op_type: &'static str, float: &'static str) -> Rule {
    Rule {
        op_type,
        domain: CONTRIB,
        float,
        passed: 0,
        operands: ONE,
        output: (3, 4),
        bias: None,
    }
}

const fn binary(op_type: &'static str, domain: &'static str, float: &'static str) -> Rule {
    Rule {
        op_type,
        domain,
        float,
        passed: 0,
        operands: TWO,
        output: (6, 7),
        bias: None,
    }
}

const CONV: Rule = Rule {
    operands: &[operand(0, 1), operand(3, 0)],
    bias: Some(8),
    ..binary("QLinearConv", CONTRIB, "Conv")
};

const RULES: &[Rule] = &[
    Rule {
        bias: Some(6),
        output: (7, 8),
        ..binary("QGemm", CONTRIB, "Gemm")
    },
    binary("QLinearAdd", CONTRIB, "Add"),
    unary("QLinearAveragePool", "AveragePool"),
    CONV,
    Rule { domain: "", ..CONV },
    unary("QLinearGlobalAveragePool", "GlobalAveragePool"),
    unary("QLinearLeakyRelu", "LeakyRelu"),
    binary("QLinearMatMul", "", "MatMul"),
    binary("QLinearMul", CONTRIB, "Mul"),
    unary("QLinearReduceMean", "ReduceMean"),
    unary("QLinearSigmoid", "Sigmoid"),
    unary("QLinearSoftmax", "Softmax"),
    Rule {
        passed: 1,
        operands: &[operand(1, 1), operand(4, 1)],
        output: (7, 8),
        ..binary("QLinearWhere", CONTRIB, "Where")
    },
];

/// The model with its operators on integers rewritten.
///
/// # Errors
/// A malformed graph.
pub(super) fn lower(file: &str, model: &Model) -> Result<Model, Error> {
    let in_graph = |source| Error::Graph {
        file: file.to_owned(),
        source,
    };
    let topology = Topology::new(&model.graph).map_err(in_graph)?;
    let scaled = find_scaled(&model.graph, &topology);
    let replaced: BTreeSet<usize> = scaled.values().flat_map(|s| s.replaced.iter().copied()).collect();
    let mut lowering = Lowering {
        opset: model.opset(),
        names: Names::of(&model.graph),
        nodes: Vec::with_capacity(model.graph.nodes.len()),
        constants: BTreeMap::new(),
    };
    for (idx, node) in model.graph.nodes.iter().enumerate() {
        match scaled.get(&idx) {
            Some(scaled) => lowering.scaled(scaled),
            None if replaced.contains(&idx) => {}
            None => lowering.node(node),
        }
    }
    let mut lowered = model.clone();
    lowered.graph.nodes = lowering.nodes;
    for (name, tensor) in lowering.constants {
        lowered.graph.set_initializer(&name, tensor);
    }
    Ok(lowered)
}

struct Lowering {
    opset: i64,
    names: Names,
    nodes: Vec<Node>,
    constants: BTreeMap<String, Tensor>,
}

impl Lowering {
    fn node(&mut self, node: &Node) {
        let rule = RULES.iter().find(|rule| is(node, rule.domain, rule.op_type));
        match rule {
            Some(rule) if self.fits(node) && node.output(0).is_some() && node.input(0).is_some() => {
                self.rule(node, rule);
            }
            None if is(node, CONTRIB, "QLinearConcat") && node.inputs.len() >= 5 => self.concat(node),
            None if is(node, CONTRIB, "NhwcMaxPool") => self.nhwc_max_pool(node),
            None if is(node, CONTRIB, "DynamicQuantizeMatMul") => self.dynamic_mat_mul(node),
            None if is(node, CONTRIB, "MatMulIntegerToFloat") => self.mat_mul_to_float(node),
            None if is(node, CONTRIB, "QuantizeLinear") || is(node, CONTRIB, "DequantizeLinear") => {
                self.nodes.push(Node {
                    domain: String::new(),
                    ..node.clone()
                });
            }
            _ => self.nodes.push(node.clone()),
        }
    }

    /// NhwcMaxPool: the float operator between two Transposes, all on integers.
    fn nhwc_max_pool(&mut self, node: &Node) {
        let x = self.transpose(node, node.input(0).unwrap_or_default(), &CHANNELS_FIRST);
        let y = node.output(0).unwrap_or_default();
        let pooled = self.names.take(&format!("{y}_channels_first"));
        self.nodes.push(Node {
            op_type: "MaxPool".to_owned(),
            domain: String::new(),
            inputs: vec![x],
            outputs: vec![pooled.clone()],
            ..node.clone()
        });
        self.transpose_to(node, &pooled, y, &CHANNELS_LAST);
    }

    fn transpose(&mut self, node: &Node, name: &str, perm: &[i64]) -> String {
        let moved = self.names.take(&format!("{name}_channels_first"));
        self.transpose_to(node, name, &moved, perm);
        moved
    }

    fn transpose_to(&mut self, node: &Node, from: &str, to: &str, perm: &[i64]) {
        let transpose = Node::new("Transpose", node.label(), &[from], &[to]);
        let perm = AttributeValue::Ints(perm.to_vec());
        self.nodes.push(transpose.with_attribute("perm", perm));
    }

    /// True for the variants that a float operator has.
    fn fits(&self, node: &Node) -> bool {
        let last_axis = matches!(node.int("axis"), None | Some(-1));
        let old_softmax = node.int("opset").is_some_and(|opset| opset < SOFTMAX_ONE_AXIS);
        !old_softmax || last_axis || self.opset < SOFTMAX_ONE_AXIS
    }

    fn rule(&mut self, node: &Node, rule: &Rule) {
        let channels_last = node.int("channels_last").unwrap_or(0) != 0;
        let mut node = node.clone();
        let result = node.output(0).unwrap_or_default().to_owned();
        if channels_last {
            let x = node.input(0).unwrap_or_default().to_owned();
            node.inputs[0] = self.transpose(&node, &x, &CHANNELS_FIRST);
            node.outputs[0] = self.names.take(&format!("{result}_channels_first"));
        }
        self.channels_first(&node, rule);
        if channels_last {
            self.transpose_to(&node, &node.outputs[0], &result, &CHANNELS_LAST);
        }
    }

    fn channels_first(&mut self, node: &Node, rule: &Rule) {
        let mut inputs: Vec<String> = node.inputs.iter().take(rule.passed).cloned().collect();
        for operand in rule.operands {
            let axis = match rule.op_type {
                "QGemm" if operand.integers > 0 && node.int("transB").unwrap_or(0) != 0 => 0,
                _ => operand.axis,
            };
            inputs.push(self.dequantize(node, *operand, axis));
        }
        if let Some(bias) = rule.bias.and_then(|idx| node.input(idx)) {
            let scales: Vec<&str> = rule.operands.iter().filter_map(|o| node.input(o.scale)).collect();
            inputs.push(self.bias(node, bias, &scales));
        }
        let mut float = Node {
            op_type: rule.float.to_owned(),
            domain: String::new(),
            name: float_name(node),
            inputs,
            outputs: Vec::new(),
            ..node.clone()
        };
        float
            .attributes
            .retain(|a| !matches!(a.name.as_str(), "channels_last" | "opset"));
        if rule.float == "Softmax" && node.int("axis").is_none() {
            float
                .attributes
                .push(Attribute::new("axis", AttributeValue::Int(-1)));
        }
        if rule.float == "ReduceMean"
            && self.opset >= REDUCE_AXES_INPUT
            && let Some(axes) = node.ints("axes")
        {
            let name = self.names.take(&format!("{}_axes", node.label()));
            self.constants.insert(name.clone(), Tensor::vector(axes.to_vec()));
            float.inputs.push(name);
            float.attributes.retain(|a| a.name != "axes");
        }
        match node.input(rule.output.0) {
            Some(scale) => self.quantize(node, float, scale, node.input(rule.output.1)),
            None => {
                float.outputs = node.outputs.clone();
                self.nodes.push(float);
            }
        }
    }

    fn concat(&mut self, node: &Node) {
        let inputs = (2..node.inputs.len())
            .step_by(3)
            .map(|at| self.dequantize(node, operand(at, 1), 1))
            .collect();
        let float = Node {
            op_type: "Concat".to_owned(),
            domain: String::new(),
            name: float_name(node),
            inputs,
            outputs: Vec::new(),
            ..node.clone()
        };
        self.quantize(node, float, &node.inputs[0], node.input(1));
    }

    fn dynamic_mat_mul(&mut self, node: &Node) {
        let Some(x) = node.input(0) else {
            return self.nodes.push(node.clone());
        };
        let parts = ["quantized", "scale", "zero_point"].map(|part| self.names.take(&format!("{x}_{part}")));
        let outputs = parts.each_ref().map(String::as_str);
        let label = node.label();
        self.nodes
            .push(Node::new("DynamicQuantizeLinear", label, &[x], &outputs));
        let a = self.dequantize_names(label, &parts[0], &parts[1], Some(&parts[2]), 1);
        let b = self.dequantize(
            node,
            Operand {
                integers: 1,
                scale: 2,
                zero_point: 3,
                axis: -1,
            },
            -1,
        );
        self.mat_mul(node, &a, &b, node.input(4));
    }

    fn mat_mul_to_float(&mut self, node: &Node) {
        let operand = |integers: usize, axis| Operand {
            integers,
            scale: integers + 2,
            zero_point: integers + 4,
            axis,
        };
        let a = self.dequantize(node, operand(0, -2), -2);
        let b = self.dequantize(node, operand(1, -1), -1);
        self.mat_mul(node, &a, &b, node.input(6));
    }

    fn mat_mul(&mut self, node: &Node, a: &str, b: &str, bias: Option<&str>) {
        let y = node.output(0).unwrap_or_default();
        let name = float_name(node);
        let Some(bias) = bias else {
            return self.nodes.push(Node::new("MatMul", &name, &[a, b], &[y]));
        };
        let product = self.names.take(&format!("{y}_without_bias"));
        self.nodes.push(Node::new("MatMul", &name, &[a, b], &[&product]));
        self.nodes.push(Node::new("Add", &name, &[&product, bias], &[y]));
    }

    fn scaled(&mut self, scaled: &Scaled) {
        let label = float_name(&scaled.product);
        let a = self.dequantize_names(
            &label,
            scaled.integers(0),
            &scaled.scales[0],
            scaled.zero_point(0),
            1,
        );
        // The scale of a convolution's weight may be shaped for its output.
        let flat = self.names.take(&format!("{}_flat", scaled.scales[1]));
        let shape = self.names.take(&format!("{}_shape", scaled.scales[1]));
        self.constants.insert(shape.clone(), Tensor::vector(vec![-1_i64]));
        self.nodes.push(Node::new(
            "Reshape",
            &label,
            &[&scaled.scales[1], &shape],
            &[&flat],
        ));
        let axis = if scaled.product.op_type == "ConvInteger" {
            0
        } else {
            -1
        };
        let b = self.dequantize_names(&label, scaled.integers(1), &flat, scaled.zero_point(1), axis);
        let float = if scaled.product.op_type == "ConvInteger" {
            "Conv"
        } else {
            "MatMul"
        };
        self.nodes.push(Node {
            op_type: float.to_owned(),
            name: label,
            inputs: vec![a, b],
            outputs: vec![scaled.output.clone()],
            ..scaled.product.clone()
        });
    }

    fn dequantize(&mut self, node: &Node, operand: Operand, axis: i64) -> String {
        let name = |idx: usize| node.input(idx).unwrap_or_default();
        let zero_point = node.input(operand.zero_point);
        self.dequantize_names(
            node.label(),
            name(operand.integers),
            name(operand.scale),
            zero_point,
            axis,
        )
    }

    fn dequantize_names(
        &mut self,
        label: &str,
        integers: &str,
        scale: &str,
        zero_point: Option<&str>,
        axis: i64,
    ) -> String {
        let real = self.names.take(&format!(
            "{}_dequantized",
            original_name(integers).unwrap_or(integers)
        ));
        let mut inputs = vec![integers, scale];
        inputs.extend(zero_point);
        let node = Node::new("DequantizeLinear", label, &inputs, &[&real]);
        self.nodes
            .push(node.with_attribute("axis", AttributeValue::Int(axis)));
        real
    }

    /// The int32 bias, whose scale is the product of both scales (and of alpha).
    fn bias(&mut self, node: &Node, bias: &str, scales: &[&str]) -> String {
        let base = original_name(bias).unwrap_or(bias).to_owned();
        let label = node.label();
        let mut scale = self.names.take(&format!("{base}_scale"));
        self.nodes.push(Node::new("Mul", label, scales, &[&scale]));
        if let Some(alpha) = node.float("alpha") {
            let factor = self.names.take(&format!("{label}_alpha"));
            let product = self.names.take(&format!("{base}_scale"));
            self.constants.insert(factor.clone(), Tensor::scalar(alpha));
            self.nodes
                .push(Node::new("Mul", label, &[&scale, &factor], &[&product]));
            scale = product;
        }
        self.dequantize_names(label, bias, &scale, None, -1)
    }

    /// Writes the float node and the QuantizeLinear of its result.
    fn quantize(&mut self, node: &Node, mut float: Node, scale: &str, zero_point: Option<&str>) {
        let integers = node.output(0).unwrap_or_default();
        let real = format!("{integers}_real");
        let base = integers.strip_suffix("_channels_first").unwrap_or(integers);
        let wanted = [original_name(base).unwrap_or(&real), &real];
        let value = self.names.take_first(&wanted);
        float.outputs = vec![value.clone()];
        self.nodes.push(float);
        let mut inputs = vec![value.as_str(), scale];
        inputs.extend(zero_point);
        self.nodes
            .push(Node::new("QuantizeLinear", node.label(), &inputs, &[integers]));
    }
}

/// True for an operator of a domain; the default domain has two names.
fn is(node: &Node, domain: &str, op_type: &str) -> bool {
    if domain.is_empty() {
        node.is_onnx(op_type)
    } else {
        node.domain == domain && node.op_type == op_type
    }
}

/// The name of the float node: quantizers of ONNX Runtime append `_quant`.
fn float_name(node: &Node) -> String {
    node.name.strip_suffix("_quant").unwrap_or(&node.name).to_owned()
}
