//! What an operator does with scaled channels, and which of its constants take the scales in.

use std::collections::BTreeMap;

use qloupe_exec::Program;
use qloupe_ir::Node;
use qloupe_tensor::Tensor;

/// Operators whose output is scaled as their first input is: they commute with a positive factor for each channel. With a
/// constant that is taken from each channel they commute, too, where neither side is below 0 or above the bound of a Clip.
pub(crate) const CHANNELWISE: &[&str] = &[
    "AveragePool",
    "Clip",
    "Flatten",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Identity",
    "LeakyRelu",
    "MaxPool",
    "PRelu",
    "Relu",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
];

/// Further operators that commute with a positive factor for each channel.
const SCALED: &[&str] = &["Pad", "Resize"];

/// The constants of a program, some of them changed.
pub(crate) struct Constants<'p> {
    program: &'p Program,
    pub(crate) changed: BTreeMap<String, Tensor>,
}

impl<'p> Constants<'p> {
    pub(crate) fn new(program: &'p Program) -> Self {
        Self {
            program,
            changed: BTreeMap::new(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Tensor> {
        self.changed.get(name).or_else(|| self.program.constant(name))
    }

    /// A float constant.
    pub(crate) fn floats(&self, name: &str) -> Option<&Tensor> {
        self.get(name).filter(|tensor| tensor.as_slice::<f32>().is_some())
    }

    /// A float constant of a node.
    fn of(&self, node: &Node, input_idx: usize) -> Option<&Tensor> {
        self.floats(node.input(input_idx)?)
    }

    /// The upper bound of a Clip from 0.
    pub(crate) fn limit(&self, node: &Node) -> Option<f32> {
        let scalar = |idx: usize| self.of(node, idx)?.as_slice::<f32>()?.first().copied();
        (node.is_onnx("Clip") && scalar(1)? == 0.0)
            .then(|| scalar(2))
            .flatten()
            .filter(|high| *high > 0.0 && high.is_finite())
    }

    /// True for a constant, or an input that is not there.
    fn is_computed(&self, node: &Node, input_idx: usize) -> bool {
        node.input(input_idx).is_some_and(|name| self.get(name).is_none())
    }

    /// A constant that takes scales in.
    pub(super) fn scaled(&self, name: &str, tie: &Tie, scale: &[f32]) -> Result<Tensor, String> {
        let wrong = || format!("\"{name}\" is no constant");
        let tensor = self.get(name).ok_or_else(wrong)?;
        let values = tensor.as_slice::<f32>().ok_or_else(wrong)?;
        let scaled = values.iter().enumerate().map(|(idx, &value)| {
            let s = f64::from(scale[tie.place.channel(idx, tensor.shape())]);
            let factor = if tie.role == Role::Consumes { s } else { 1.0 / s };
            (f64::from(value) * factor) as f32
        });
        let scaled: Vec<f32> = scaled.collect();
        if values
            .iter()
            .zip(&scaled)
            .any(|(a, b)| a.is_finite() != b.is_finite())
        {
            return Err(format!("\"{name}\" leaves the range of float32"));
        }
        Tensor::new(tensor.shape(), scaled).map_err(|e| e.to_string())
    }
}

/// What a node does with scaled channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It writes them: its constants are divided.
    Produces,
    /// It reads them: its constants are multiplied.
    Consumes,
    /// It reads and writes them: constants that are added are divided.
    Passes,
}

/// Where an element of a constant has its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// All axes but one have length 1.
    Flat,
    /// The index along an axis.
    Axis(usize),
    /// The input channels of a convolution with groups, whose weight is `[O, I / groups, ..]`.
    Grouped(usize),
}

impl Place {
    /// How many channels a constant has.
    pub(crate) fn n_channels(self, shape: &[usize]) -> usize {
        match self {
            Self::Flat => shape.iter().product(),
            Self::Axis(axis) => shape.get(axis).copied().unwrap_or(0),
            Self::Grouped(groups) => shape.get(1).map_or(0, |n| n * groups),
        }
    }

    /// The channel of an element.
    pub(crate) fn channel(self, idx: usize, shape: &[usize]) -> usize {
        let inner = |axis: usize| shape[axis + 1..].iter().product::<usize>();
        match self {
            Self::Flat => idx,
            Self::Axis(axis) => idx / inner(axis) % shape[axis],
            Self::Grouped(groups) => {
                let group = idx / inner(0) / (shape[0] / groups).max(1);
                group * shape[1] + idx / inner(1) % shape[1]
            }
        }
    }
}

/// A constant of a node that takes scales in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tie {
    pub(crate) input_idx: usize,
    pub(crate) place: Place,
    pub(crate) role: Role,
    /// True for what is multiplied with values, false for what is added.
    pub(crate) is_weight: bool,
}

/// The inputs of a node that are scaled where its output is.
pub(super) fn passed_inputs<'n>(node: &'n Node, constants: &Constants<'_>) -> Vec<&'n str> {
    let inputs: Vec<&str> = node.inputs.iter().map(String::as_str).collect();
    if node.is_onnx("Add") {
        let computed = inputs.into_iter().filter(|name| constants.get(name).is_none());
        return computed.collect();
    }
    inputs.into_iter().take(1).collect()
}

/// The constants of a node that scales change; `None` for a node that cannot take them. `n_of` tells how many channels a value
/// that is scaled has. Whether scales fit those of other values at the node is not looked at.
pub(super) fn ties(
    node: &Node,
    constants: &Constants<'_>,
    n_of: &dyn Fn(&str) -> Option<usize>,
) -> Option<Vec<Tie>> {
    let reads = node.used_values().iter().any(|name| n_of(name).is_some());
    let written = node.outputs.iter().find_map(|name| n_of(name));
    if !reads && written.is_none() {
        return Some(Vec::new());
    }
    if node.outputs.len() > 1 {
        return None;
    }
    let mut found = Vec::new();
    if let Some(n) = written {
        if multiplies_values(node, constants) {
            // One factor is scaled, the other stays.
            let scaled = node.inputs.iter().filter(|name| n_of(name).is_some());
            return (scaled.count() == 1).then(Vec::new);
        }
        if let Some(ties) = passes(node, constants, n) {
            let inputs = passed_inputs(node, constants);
            return inputs.iter().all(|name| n_of(name) == written).then_some(ties);
        }
        found.extend(produces(node, constants, n)?);
    }
    if reads {
        let others = node.inputs.iter().skip(1);
        let only_first = others.filter(|name| n_of(name).is_some()).count() == 0;
        let n = n_of(node.input(0)?)?;
        found.push(consumes(node, constants, n).filter(|_| only_first)?);
    }
    Some(found)
}

/// The inputs of a node that have to be scaled as its output is, where that is scaled and the node can take it (`ties`).
pub(super) fn alike_inputs<'n>(
    node: &'n Node,
    constants: &Constants<'_>,
    ties: &[Tie],
    n_of: &dyn Fn(&str) -> Option<usize>,
) -> Vec<&'n str> {
    let is_scaled = |name: &&str| n_of(name).is_some();
    let is_passing = ties.iter().all(|tie| tie.role == Role::Passes);
    if !is_passing || !node.outputs.iter().any(|name| is_scaled(&name.as_str())) {
        return Vec::new();
    }
    if multiplies_values(node, constants) {
        return node.inputs.iter().map(String::as_str).filter(is_scaled).collect();
    }
    passed_inputs(node, constants)
}

/// True for a Mul of two values.
pub(super) fn multiplies_values(node: &Node, constants: &Constants<'_>) -> bool {
    node.is_onnx("Mul") && (0..2).all(|idx| constants.is_computed(node, idx))
}

/// True for a Mul with one constant number for each of `n` channels.
pub(super) fn multiplies_channels(node: &Node, constants: &Constants<'_>, n: usize) -> bool {
    node.is_onnx("Mul") && output_weight(node, constants, n).is_some()
}

fn passes(node: &Node, constants: &Constants<'_>, n: usize) -> Option<Vec<Tie>> {
    if node.is_onnx("Add") && node.inputs.len() == 2 {
        let added = (0..2).filter(|&idx| !constants.is_computed(node, idx));
        let tie = |idx| fitting(node, constants, idx, Place::Flat, Role::Passes, n);
        let ties: Option<Vec<Tie>> = added.map(tie).collect();
        return ties.filter(|ties| ties.len() < 2);
    }
    let is_passing =
        CHANNELWISE.iter().chain(SCALED).any(|op| node.is_onnx(op)) && constants.is_computed(node, 0);
    let commutes = match node.op_type.as_str() {
        "Clip" => constants.limit(node).is_some(),
        "Pad" => pads_zeros(node, constants),
        "Resize" => node.string("coordinate_transformation_mode") != Some("tf_crop_and_resize"),
        _ => true,
    };
    (is_passing && commutes).then(Vec::new)
}

/// True for a Pad that adds zeros, or elements that are there.
fn pads_zeros(node: &Node, constants: &Constants<'_>) -> bool {
    let value = node.input(2);
    let is_zero = || {
        constants
            .of(node, 2)?
            .as_slice::<f32>()?
            .first()
            .map(|value| *value == 0.0)
    };
    node.attribute("value").is_none() && (value.is_none() || is_zero() == Some(true))
}

fn produces(node: &Node, constants: &Constants<'_>, n: usize) -> Option<Vec<Tie>> {
    let mut ties = vec![output_weight(node, constants, n)?];
    let takes_bias = !node.is_onnx("MatMul") && !node.is_onnx("Mul");
    if takes_bias && node.input(2).is_some() {
        let bias = fitting(node, constants, 2, Place::Flat, Role::Produces, n)?;
        ties.push(Tie {
            is_weight: false,
            ..bias
        });
    }
    Some(ties)
}

/// The constant that multiplies the output channels of a node.
fn output_weight(node: &Node, constants: &Constants<'_>, n: usize) -> Option<Tie> {
    let (input_idx, place) = match node.op_type.as_str() {
        "Conv" => (1, Place::Axis(0)),
        "ConvTranspose" if node.int("group").unwrap_or(1) == 1 => (1, Place::Axis(1)),
        "Gemm" => (1, Place::Axis(usize::from(!is_turned(node, "transB")))),
        "LayerNormalization" => (1, Place::Flat),
        "MatMul" if constants.of(node, 1)?.rank() == 2 => (1, Place::Axis(1)),
        "Mul" if constants.is_computed(node, 0) => (1, Place::Flat),
        "Mul" if constants.is_computed(node, 1) => (0, Place::Flat),
        _ => return None,
    };
    let computed = usize::from(input_idx == 0);
    let is_own = node.domain.is_empty() && constants.is_computed(node, computed);
    fitting(node, constants, input_idx, place, Role::Produces, n).filter(|_| is_own)
}

fn consumes(node: &Node, constants: &Constants<'_>, n: usize) -> Option<Tie> {
    let place = match node.op_type.as_str() {
        "Conv" => Place::Grouped(usize::try_from(node.int("group").unwrap_or(1)).ok()?),
        "ConvTranspose" => Place::Axis(0),
        "Gemm" if !is_turned(node, "transA") => Place::Axis(usize::from(is_turned(node, "transB"))),
        "MatMul" if constants.of(node, 1)?.rank() == 2 => Place::Axis(0),
        _ => return None,
    };
    let is_own = node.domain.is_empty() && constants.is_computed(node, 0);
    fitting(node, constants, 1, place, Role::Consumes, n).filter(|_| is_own)
}

fn is_turned(node: &Node, attribute: &str) -> bool {
    node.int(attribute).unwrap_or(0) != 0
}

/// A constant that has the channels.
fn fitting(
    node: &Node,
    constants: &Constants<'_>,
    input_idx: usize,
    place: Place,
    role: Role,
    n: usize,
) -> Option<Tie> {
    let tensor = constants.of(node, input_idx)?;
    let shape = tensor.shape();
    let fits = match place {
        Place::Flat => shape.contains(&n),
        Place::Grouped(groups) => groups > 0 && shape.first()? % groups == 0,
        Place::Axis(_) => true,
    };
    (fits && !tensor.is_empty() && place.n_channels(shape) == n).then_some(Tie {
        input_idx,
        place,
        role,
        is_weight: role != Role::Passes,
    })
}
