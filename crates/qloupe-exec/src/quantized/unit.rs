//! A unit: what the target executes as one, a node or a fused group.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use qloupe_ir::{Graph, Initializer, Node, Topology, ValueInfo};
use qloupe_tensor::{
    QuantParams, Requantize, Rounding, Tensor, fake_quantize_linear, quantize_bias, round_to_fp16_in_place,
};

use super::float_unit::FloatUnit;
use super::form::{Form, Mode, check_scales, fake_cast, to_float, to_form};
use crate::integer::{self, IntegerKernel, IntegerSpec};
use crate::{ExecError, Few, OpError, Program, Stored, Value, interrupt};

/// What a unit computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitCompute {
    /// float32 on the stored weights.
    Float,
    /// float32 on weights rounded to float16, those with parameters on their grid before; the form of the output rounds the
    /// result.
    Fp16,
    /// Quantized weights and inputs.
    Quantized,
}

/// What a plan says about a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitSpec {
    /// Indices of its nodes, in order.
    pub node_idxs: Vec<usize>,
    /// What it computes with.
    pub compute: UnitCompute,
    /// The requantization of its integer kernel.
    pub requantize: Requantize,
    /// Inputs that are taken as real numbers though the unit is quantized: the states of a recurrent network.
    pub float_inputs: Vec<String>,
    /// Constants that are quantized, with their parameters; none where the unit computes in float32.
    pub weights: Vec<(String, QuantParams)>,
    /// A constant that is quantized to int32.
    pub bias: Option<Bias>,
}

/// How the bias of a unit became int32.
#[derive(Clone, Debug, PartialEq)]
pub enum Bias {
    /// By the scale of the input times the scale of the weight.
    Derived(String),
    /// It was stored so: the constant is what the integers stand for, by whatever scale.
    Stored(String, Vec<i32>),
}

/// A unit, compiled for its forms.
#[derive(Debug)]
pub struct Unit {
    node_idxs: Vec<usize>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    input_forms: Vec<Form>,
    output_forms: Vec<Form>,
    compute: UnitCompute,
    mode: Mode,
    kernel: Option<Box<dyn IntegerKernel>>,
    only_moves: bool,
    only_permutes: bool,
    graph: Graph,
    opsets: Vec<(String, i64)>,
    float: OnceLock<Result<FloatUnit, ExecError>>,
}

impl Unit {
    pub(super) fn new(
        program: &Program,
        topology: &Topology,
        spec: &UnitSpec,
        forms: &BTreeMap<String, Form>,
        mode: Mode,
    ) -> Result<Self, ExecError> {
        let nodes: Vec<Node> = spec
            .node_idxs
            .iter()
            .map(|&idx| program.graph().nodes[idx].clone())
            .collect();
        let (inputs, constants, outputs) = boundary(program, topology, &spec.node_idxs, &nodes);
        let form = |name: &String| forms.get(name).cloned().unwrap_or(Form::FLOAT);
        let input_forms: Vec<Form> = inputs
            .iter()
            .map(|name| match form(name) {
                read if spec.float_inputs.contains(name) => read.without_cast(),
                read => read,
            })
            .collect();
        let output_forms: Vec<Form> = outputs.iter().map(form).collect();
        let stored = prepare_constants(program, spec, &nodes, &constants, forms)?;
        let compile = match (mode, spec.compute) {
            (Mode::Integer, UnitCompute::Quantized) => Some(integer::compile as integer::Compile),
            (Mode::Integer, UnitCompute::Float) => Some(integer::compile_float as integer::Compile),
            _ => None,
        };
        let read_params = match spec.compute {
            UnitCompute::Quantized => Form::read_params,
            UnitCompute::Float | UnitCompute::Fp16 => Form::params,
        };
        let integer_spec = IntegerSpec {
            nodes: &nodes,
            inputs: &inputs,
            input_params: input_forms.iter().map(read_params).collect(),
            output_params: output_forms.iter().map(Form::params).collect(),
            constants: &stored.float,
            weights: &spec.weights,
            quantized_bias: stored.bias.as_deref(),
            requantize: spec.requantize,
            opset: program.opset_of(""),
        };
        let kernel = compile.map_or(Ok(None), |compile| compile(&integer_spec));
        let kernel = kernel.map_err(|source| locate(&nodes[0], source))?;
        let graph = Graph {
            nodes,
            inputs: inputs.iter().map(|name| ValueInfo::untyped(name)).collect(),
            outputs: outputs.iter().map(|name| ValueInfo::untyped(name)).collect(),
            initializers: stored
                .float
                .into_iter()
                .map(|(name, tensor)| Initializer {
                    name,
                    value: tensor.into(),
                })
                .collect(),
            ..Graph::default()
        };
        let opsets = graph
            .nodes
            .iter()
            .map(|n| (n.domain.clone(), program.opset_of(&n.domain)))
            .collect();
        Ok(Self {
            node_idxs: spec.node_idxs.clone(),
            inputs,
            outputs,
            input_forms,
            output_forms,
            compute: spec.compute,
            mode,
            only_permutes: kernel.as_ref().is_some_and(|kernel| kernel.only_permutes()),
            only_moves: kernel.as_ref().is_some_and(|kernel| kernel.only_moves()),
            kernel,
            graph,
            opsets,
            float: OnceLock::new(),
        })
    }

    /// Indices of its nodes in the graph.
    pub fn node_idxs(&self) -> &[usize] {
        &self.node_idxs
    }

    /// The computed values that it reads.
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// The values that it produces for others.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// What it computes with.
    pub fn compute(&self) -> UnitCompute {
        self.compute
    }

    /// The name of the integer kernel; `None` where it runs in float between dequantize and quantize.
    pub fn integer_kernel(&self) -> Option<&'static str> {
        self.kernel.as_ref().map(|k| k.name())
    }

    /// True where the outputs are elements of an input, whatever they stand for: values that are brought into their forms
    /// and then moved are those that are moved and then brought into their forms, bit for bit.
    pub fn only_moves(&self) -> bool {
        self.only_moves
    }

    /// True where the output is all elements of the first input, in whatever order and shape.
    pub fn only_permutes(&self) -> bool {
        self.only_permutes
    }

    /// Runs the unit on inputs in their forms; the outputs come in their forms.
    ///
    /// # Errors
    /// A node that fails.
    pub fn run(&self, inputs: &[&Value]) -> Result<Vec<Value>, ExecError> {
        interrupt::check()?;
        if let Some(kernel) = &self.kernel {
            let integers: Few<Cow<'_, Stored>> = inputs
                .iter()
                .zip(&self.input_forms)
                .map(|(x, form)| Some(read_integer(x.as_tensor()?, form)))
                .collect::<Option<_>>()
                .expect("invariant: the inputs of an integer kernel are quantized, thus tensors");
            let integers: Few<&Stored> = integers.iter().map(AsRef::as_ref).collect();
            let results = kernel.run(&integers);
            let results = results.map_err(|source| locate(&self.graph.nodes[0], source))?;
            return Ok(results.into_iter().map(Value::Tensor).collect());
        }
        let float = self
            .float
            .get_or_init(|| self.compile_float())
            .as_ref()
            .map_err(Clone::clone)?;
        let read = inputs
            .iter()
            .zip(&self.input_forms)
            .map(|(value, form)| map_tensor(value, |x| self.read_float(x, form)));
        let results = float.run(read)?;
        for ((name, form), value) in self.outputs.iter().zip(&self.output_forms).zip(&results) {
            if let Some(tensor) = value.as_tensor() {
                check_scales(name, tensor, form)?;
            }
        }
        let in_form = |(value, form): (&Value, &Form)| map_tensor(value, |x| to_form(x, form, self.mode));
        Ok(results.iter().zip(&self.output_forms).map(in_form).collect())
    }

    /// Runs the unit on float inputs, each first brought into its form: the `local` view. Outputs in their forms.
    ///
    /// # Errors
    /// A node that fails.
    pub fn run_on_float(&self, inputs: &[Value]) -> Result<Vec<Value>, ExecError> {
        let in_form: Vec<Value> = inputs
            .iter()
            .zip(&self.input_forms)
            .map(|(x, form)| map_tensor(x, |x| to_form(x, form, self.mode)))
            .collect();
        self.run(&in_form.iter().collect::<Few<&Value>>())
    }

    fn compile_float(&self) -> Result<FloatUnit, ExecError> {
        let opset_of = |domain: &str| {
            self.opsets
                .iter()
                .find(|(d, _)| d == domain)
                .map_or(1, |(_, version)| *version)
        };
        let program = Program::from_graph(self.graph.clone(), &opset_of)?;
        FloatUnit::new(program, &self.inputs, &self.outputs)
    }

    /// An input as real numbers; a quantized unit reads float and fp16 values through their cast.
    fn read_float(&self, value: &Stored, form: &Form) -> Stored {
        match (self.compute, form.cast()) {
            (UnitCompute::Quantized, Some(cast)) => fake_cast(value, cast),
            (UnitCompute::Fp16, _) => to_form(&to_float(value, form), &Form::Fp16 { cast: None }, self.mode),
            _ => to_float(value, form),
        }
    }
}

fn map_tensor(value: &Value, change: impl FnOnce(&Stored) -> Stored) -> Value {
    match value {
        Value::Tensor(stored) => Value::Tensor(change(stored)),
        other => other.clone(),
    }
}

fn locate(node: &Node, source: OpError) -> ExecError {
    ExecError::Node {
        node: node.label().to_owned(),
        op_type: node.op_type.clone(),
        source,
    }
}

fn read_integer<'v>(value: &'v Stored, form: &Form) -> Cow<'v, Stored> {
    match form.cast().and(form.read_params()) {
        Some(params) => Cow::Owned(to_form(value, &Form::Quantized(params.clone()), Mode::Integer)),
        None => Cow::Borrowed(value),
    }
}

/// (computed inputs, constant inputs, outputs that something outside the group uses).
fn boundary(
    program: &Program,
    topology: &Topology,
    idxs: &[usize],
    nodes: &[Node],
) -> (Vec<String>, Vec<String>, Vec<String>) {
    let graph = program.graph();
    let inner: BTreeSet<&str> = nodes
        .iter()
        .flat_map(|n| n.outputs.iter().map(String::as_str))
        .collect();
    let mut inputs: Vec<String> = Vec::new();
    let mut constants: Vec<String> = Vec::new();
    for name in nodes
        .iter()
        .flat_map(Node::used_values)
        .filter(|name| !inner.contains(name))
    {
        let list = if program.constant(name).is_some() {
            &mut constants
        } else {
            &mut inputs
        };
        if !list.iter().any(|n| n == name) {
            list.push(name.to_owned());
        }
    }
    let own: BTreeSet<usize> = idxs.iter().copied().collect();
    let used_outside =
        |name: &str| graph.is_output(name) || topology.consumers(name).iter().any(|idx| !own.contains(idx));
    let outputs = nodes
        .iter()
        .flat_map(|n| &n.outputs)
        .filter(|name| !name.is_empty() && used_outside(name))
        .cloned()
        .collect();
    (inputs, constants, outputs)
}

struct Constants {
    /// Constants as the float arithmetic of the unit sees them.
    float: Vec<(String, Tensor)>,
    /// The int32 bias.
    bias: Option<Vec<i32>>,
}

fn prepare_constants(
    program: &Program,
    spec: &UnitSpec,
    nodes: &[Node],
    names: &[String],
    forms: &BTreeMap<String, Form>,
) -> Result<Constants, ExecError> {
    let mut constants = Constants {
        float: Vec::with_capacity(names.len()),
        bias: None,
    };
    for name in names {
        let stored = program.constant(name).expect("invariant: listed as a constant");
        let is_float = stored.as_slice::<f32>().is_some();
        let weight = spec.weights.iter().find(|(weight, _)| weight == name);
        let on_grid = |params| {
            fake_quantize_linear(stored, params, Rounding::TiesEven)
                .map_err(|e| locate(&nodes[0], OpError::input(1, format!("weight \"{name}\": {e}"))))
        };
        let seen = match (spec.compute, weight) {
            (UnitCompute::Quantized, Some((_, params))) => on_grid(params)?,
            (UnitCompute::Fp16, Some((_, params))) => in_float16(&on_grid(params)?),
            (UnitCompute::Quantized, None) => match &spec.bias {
                Some(Bias::Derived(bias)) if bias == name => {
                    let (quantized, real) = quantized_bias(stored, spec, nodes, forms)?;
                    constants.bias = Some(quantized);
                    real
                }
                Some(Bias::Stored(bias, integers)) if bias == name => {
                    constants.bias = Some(integers.clone());
                    stored.clone()
                }
                _ => stored.clone(),
            },
            (UnitCompute::Fp16, None) if is_float => in_float16(stored),
            _ => stored.clone(),
        };
        constants.float.push((name.clone(), seen));
    }
    Ok(constants)
}

/// The numbers of a float32 tensor that float16 has.
fn in_float16(tensor: &Tensor) -> Tensor {
    let mut values = tensor
        .require::<f32>()
        .expect("invariant: checked by the caller")
        .to_vec();
    round_to_fp16_in_place(&mut values);
    Tensor::new(tensor.shape(), values).expect("invariant: the same length")
}

/// The int32 bias and the real numbers it stands for.
fn quantized_bias(
    stored: &Tensor,
    spec: &UnitSpec,
    nodes: &[Node],
    forms: &BTreeMap<String, Form>,
) -> Result<(Vec<i32>, Tensor), ExecError> {
    let input = nodes[0].input(0).unwrap_or_default();
    let scale = forms
        .get(input)
        .and_then(Form::read_params)
        .and_then(QuantParams::as_per_tensor);
    let (Some((input_scale, _)), Some((_, weight))) = (scale, spec.weights.first()) else {
        return Ok((Vec::new(), stored.clone()));
    };
    let values = stored.require::<f32>().map_err(|e| locate(&nodes[0], e.into()))?;
    let (quantized, _) = quantize_bias(values, input_scale, weight.scale());
    let scale_of = |c: usize| {
        input_scale
            * if weight.scale().len() == 1 {
                weight.scale()[0]
            } else {
                weight.scale()[c]
            }
    };
    let real: Vec<f32> = quantized
        .iter()
        .enumerate()
        .map(|(c, &q)| q as f32 * scale_of(c))
        .collect();
    let real = Tensor::new(stored.shape(), real).map_err(|e| locate(&nodes[0], e.into()))?;
    Ok((quantized, real))
}
