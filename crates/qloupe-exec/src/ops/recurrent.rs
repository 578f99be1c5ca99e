//! What LSTM, GRU and RNN share: directions, sequence lengths, layouts, activations, the walk over time.

use qloupe_ir::{AttributeValue, Node};
use qloupe_kernels::{GemmF32, UnaryKernel, unary_in_place};
use qloupe_tensor::Tensor;

use super::dynamic_product::DynamicProduct;
use super::float_tensor::{from_float32, to_float32};
use super::movement::View;
use super::parameters::{integers, require_rank, size};
use crate::{EvalContext, Fact, InferContext, OpError, SymDim};

/// The state of one direction, advanced one step at a time.
pub(super) trait Cell {
    /// One step of sequence `b`: `x` holds `W x + Wb`, `h_product` holds `R h + Rb`, each for every gate; `h` is
    /// replaced.
    fn step(&mut self, b: usize, x: &[f32], h_product: &[f32], h: &mut [f32]);
}

/// The activations of a direction, and the clip before them.
#[derive(Clone, Debug)]
pub(super) struct Activations {
    kernels: Vec<UnaryKernel>,
    clip: f32,
}

impl Activations {
    /// Applies activation `idx` to the values of a gate.
    pub(super) fn apply(&self, idx: usize, values: &mut [f32]) {
        if self.clip > 0.0 {
            for value in values.iter_mut() {
                *value = value.clamp(-self.clip, self.clip);
            }
        }
        unary_in_place(self.kernels[idx], values);
    }

    /// Applies activation `idx` to values that are not clipped: the cell of an LSTM.
    pub(super) fn apply_unclipped(&self, idx: usize, values: &mut [f32]) {
        unary_in_place(self.kernels[idx], values);
    }
}

fn activation_kernel(
    name: &str,
    alpha: &mut impl Iterator<Item = f32>,
    beta: &mut impl Iterator<Item = f32>,
) -> Result<UnaryKernel, OpError> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "sigmoid" => UnaryKernel::Sigmoid,
        "tanh" => UnaryKernel::Tanh,
        "relu" => UnaryKernel::Relu,
        "softplus" => UnaryKernel::Softplus,
        "leakyrelu" => UnaryKernel::LeakyRelu {
            alpha: alpha.next().unwrap_or(0.01),
        },
        "elu" => UnaryKernel::Elu {
            alpha: alpha.next().unwrap_or(1.0),
        },
        "hardsigmoid" => UnaryKernel::HardSigmoid {
            alpha: alpha.next().unwrap_or(0.2),
            beta: beta.next().unwrap_or(0.5),
        },
        _ => return Err(OpError::unsupported(format!("the activation {name}"))),
    })
}

/// The activations of every direction.
fn activations_of(node: &Node, n_directions: usize, default: &[&str]) -> Result<Vec<Activations>, OpError> {
    let declared: Vec<String> = match node.attribute("activations") {
        Some(AttributeValue::Strings(names)) => names
            .iter()
            .map(|n| String::from_utf8_lossy(n).into_owned())
            .collect(),
        _ => default
            .repeat(n_directions)
            .into_iter()
            .map(str::to_owned)
            .collect(),
    };
    if declared.len() != n_directions * default.len() {
        return Err(OpError::attribute(
            "activations",
            format!(
                "wrong length, expected {}, got {}",
                n_directions * default.len(),
                declared.len()
            ),
        ));
    }
    let mut alpha = node
        .floats("activation_alpha")
        .unwrap_or_default()
        .iter()
        .copied();
    let mut beta = node.floats("activation_beta").unwrap_or_default().iter().copied();
    let kernels = declared
        .iter()
        .map(|name| activation_kernel(name, &mut alpha, &mut beta))
        .collect::<Result<Vec<_>, _>>()?;
    let clip = node.float("clip").unwrap_or(0.0);
    let of = |kernels: &[UnaryKernel]| Activations {
        kernels: kernels.to_vec(),
        clip,
    };
    Ok(kernels.chunks(default.len()).map(of).collect())
}

fn directions_of(node: &Node) -> Result<&'static [bool], OpError> {
    match node.string("direction").unwrap_or("forward") {
        "forward" => Ok(&[false]),
        "reverse" => Ok(&[true]),
        "bidirectional" => Ok(&[false, true]),
        other => Err(OpError::attribute(
            "direction",
            format!("unknown, expected forward, reverse or bidirectional, got {other}"),
        )),
    }
}

/// A recurrent layer with its inputs read.
#[derive(Debug)]
pub(super) struct Recurrent {
    pub(super) steps: usize,
    pub(super) batch: usize,
    pub(super) hidden: usize,
    n_gates: usize,
    reversed: &'static [bool],
    batch_first: bool,
    lengths: Vec<usize>,
    activations: Vec<Activations>,
    /// `W x + Wb` of each direction: `[steps, batch, gates * hidden]`.
    products: Vec<Vec<f32>>,
    recurrences: Recurrences,
}

/// `R` of each direction.
#[derive(Debug)]
pub(super) enum Recurrences {
    /// `[gates * hidden, hidden]`, and `Rb`.
    Float(Vec<(Vec<f32>, Vec<f32>)>),
    /// With the state quantized by its range at every step.
    Quantized(Vec<DynamicProduct>),
}

/// `R h + Rb` of all gates of a direction.
enum StepProduct<'a> {
    Float(GemmF32),
    Quantized(&'a DynamicProduct),
}

/// The inputs of a recurrent layer but for its weights.
pub(super) struct Sequences {
    /// `[steps, batch, input]`.
    pub(super) x: Tensor,
    /// For each direction, whether it runs backwards.
    pub(super) reversed: &'static [bool],
    bias: Vec<f32>,
    lengths: Vec<usize>,
    /// Gates times hidden.
    pub(super) rows: usize,
}

impl Sequences {
    /// Reads the inputs of a layer of `rows` rows.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub(super) fn read(ctx: &EvalContext<'_>, rows: usize) -> Result<Self, OpError> {
        let x = ctx.require(0)?;
        require_rank(x, 0, 3)?;
        let batch_first = ctx.int("layout", 0) == 1;
        let x = if batch_first { swap_leading(x)? } else { x.clone() };
        let (steps, batch) = (x.shape()[0], x.shape()[1]);
        let reversed = directions_of(ctx.node)?;
        let bias = match ctx.input(3) {
            Some(bias) => {
                require_shape(3, bias, &[reversed.len(), 2 * rows])?;
                to_float32(bias, 3)?.into_owned()
            }
            None => vec![0.0; reversed.len() * 2 * rows],
        };
        let lengths = match ctx.input(4) {
            Some(lengths) => {
                require_shape(4, lengths, &[batch])?;
                let lengths = integers(lengths, 4)?;
                lengths
                    .iter()
                    .map(|&l| Ok(size(l, 4)?.min(steps)))
                    .collect::<Result<Vec<_>, OpError>>()?
            }
            None => vec![steps; batch],
        };
        Ok(Self {
            x,
            reversed,
            bias,
            lengths,
            rows,
        })
    }

    /// `Wb` of a direction.
    pub(super) fn input_bias(&self, direction: usize) -> &[f32] {
        &self.bias[direction * 2 * self.rows..][..self.rows]
    }

    /// `Rb` of a direction.
    pub(super) fn recurrence_bias(&self, direction: usize) -> &[f32] {
        &self.bias[(direction * 2 + 1) * self.rows..][..self.rows]
    }
}

/// Refuses a tensor of another shape.
///
/// # Errors
/// See above.
pub(super) fn require_shape(idx: usize, tensor: &Tensor, expected: &[usize]) -> Result<(), OpError> {
    if tensor.shape() == expected {
        return Ok(());
    }
    Err(OpError::input(
        idx,
        format!("wrong shape, expected {expected:?}, got {:?}", tensor.shape()),
    ))
}

impl Recurrent {
    pub(super) fn new(ctx: &EvalContext<'_>, n_gates: usize, default: &[&str]) -> Result<Self, OpError> {
        let (weight, recurrence) = (ctx.require(1)?, ctx.require(2)?);
        let hidden = recurrence.shape().last().copied().unwrap_or(0);
        let sequences = Sequences::read(ctx, n_gates.saturating_mul(hidden))?;
        let (rows, directions) = (sequences.rows, sequences.reversed.len());
        let [steps, batch, input] = [0, 1, 2].map(|axis| sequences.x.shape()[axis]);
        require_shape(1, weight, &[directions, rows, input])?;
        require_shape(2, recurrence, &[directions, rows, hidden])?;
        let (values, weights, recurrences) = (
            to_float32(&sequences.x, 0)?,
            to_float32(weight, 1)?,
            to_float32(recurrence, 2)?,
        );
        let product = |direction: usize| {
            let matrix = transposed(&weights[direction * rows * input..][..rows * input], rows, input);
            let gemm = GemmF32::new(&matrix, input, rows, Some(sequences.input_bias(direction)));
            let mut out = vec![0.0; steps * batch * rows];
            gemm.run(&values, steps * batch, &mut out);
            out
        };
        let recurrence_of = |direction: usize| {
            let matrix = recurrences[direction * rows * hidden..][..rows * hidden].to_vec();
            (matrix, sequences.recurrence_bias(direction).to_vec())
        };
        let products = (0..directions).map(product).collect();
        let recurrences = Recurrences::Float((0..directions).map(recurrence_of).collect());
        Self::of_products(ctx, n_gates, default, &sequences, products, recurrences)
    }

    /// A layer whose products with the input are known.
    ///
    /// # Errors
    /// Activations that do not exist.
    pub(super) fn of_products(
        ctx: &EvalContext<'_>,
        n_gates: usize,
        default: &[&str],
        sequences: &Sequences,
        products: Vec<Vec<f32>>,
        recurrences: Recurrences,
    ) -> Result<Self, OpError> {
        Ok(Self {
            steps: sequences.x.shape()[0],
            batch: sequences.x.shape()[1],
            hidden: sequences.rows / n_gates.max(1),
            n_gates,
            reversed: sequences.reversed,
            batch_first: ctx.int("layout", 0) == 1,
            lengths: sequences.lengths.clone(),
            activations: activations_of(ctx.node, sequences.reversed.len(), default)?,
            products,
            recurrences,
        })
    }

    /// The activations of a direction.
    pub(super) fn activations(&self, direction: usize) -> &Activations {
        &self.activations[direction]
    }

    /// The recurrence of some gates of a direction, packed; `None` where it is quantized.
    pub(super) fn recurrence(&self, direction: usize, gates: std::ops::Range<usize>) -> Option<GemmF32> {
        match &self.recurrences {
            Recurrences::Float(recurrences) => Some(self.packed(&recurrences[direction], gates)),
            Recurrences::Quantized(_) => None,
        }
    }

    fn packed(&self, (matrix, bias): &(Vec<f32>, Vec<f32>), gates: std::ops::Range<usize>) -> GemmF32 {
        let rows = gates.start * self.hidden..gates.end * self.hidden;
        let part = &matrix[rows.start * self.hidden..rows.end * self.hidden];
        let matrix = transposed(part, rows.len(), self.hidden);
        GemmF32::new(&matrix, self.hidden, rows.len(), Some(&bias[rows]))
    }

    fn step_product(&self, direction: usize) -> StepProduct<'_> {
        match &self.recurrences {
            Recurrences::Float(recurrences) => {
                StepProduct::Float(self.packed(&recurrences[direction], 0..self.n_gates))
            }
            Recurrences::Quantized(products) => StepProduct::Quantized(&products[direction]),
        }
    }

    /// An optional state `[directions, batch, hidden]`; zeros where it is absent.
    pub(super) fn state(&self, ctx: &EvalContext<'_>, idx: usize) -> Result<Vec<f32>, OpError> {
        let shape = [self.reversed.len(), self.batch, self.hidden];
        let Some(tensor) = ctx.input(idx) else {
            return Ok(vec![0.0; shape.iter().product()]);
        };
        let tensor = if self.batch_first && tensor.rank() == 3 {
            swap_leading(tensor)?
        } else {
            tensor.clone()
        };
        if tensor.shape() != shape {
            return Err(OpError::input(
                idx,
                format!("wrong shape, expected {shape:?}, got {:?}", tensor.shape()),
            ));
        }
        Ok(to_float32(&tensor, idx)?.into_owned())
    }

    /// Walks over time: `Y` and `Y_h`, in the layout of the node. `cell_of` makes the cell of a direction.
    pub(super) fn run<C: Cell>(
        &self,
        ctx: &EvalContext<'_>,
        mut cell_of: impl FnMut(usize) -> Result<C, OpError>,
        mut finish: impl FnMut(C),
    ) -> Result<Vec<Tensor>, OpError> {
        let (batch, hidden, rows) = (self.batch, self.hidden, self.n_gates * self.hidden);
        let n_directions = self.reversed.len();
        let mut last = self.state(ctx, 5)?;
        let mut y = vec![0.0; self.steps * n_directions * batch * hidden];
        for (direction, &reversed) in self.reversed.iter().enumerate() {
            let mut cell = cell_of(direction)?;
            let recurrence = self.step_product(direction);
            let h = &mut last[direction * batch * hidden..][..batch * hidden];
            let mut products = vec![0.0; batch * rows];
            for step in 0..self.steps {
                match &recurrence {
                    StepProduct::Float(gemm) => gemm.run(h, batch, &mut products),
                    StepProduct::Quantized(product) => products = product.run(h, batch)?,
                }
                for b in (0..batch).filter(|&b| step < self.lengths[b]) {
                    let time = if reversed {
                        self.lengths[b] - 1 - step
                    } else {
                        step
                    };
                    let x = &self.products[direction][(time * batch + b) * rows..][..rows];
                    let h = &mut h[b * hidden..][..hidden];
                    cell.step(b, x, &products[b * rows..][..rows], h);
                    y[((time * n_directions + direction) * batch + b) * hidden..][..hidden]
                        .copy_from_slice(h);
                }
            }
            finish(cell);
        }
        let dtype = ctx.require(0)?.dtype();
        let y = from_float32(dtype, &[self.steps, n_directions, batch, hidden], y)?;
        let y = if self.batch_first {
            let shape = [batch, self.steps, n_directions, hidden];
            View::transposed(y.shape(), &[2, 0, 1, 3]).copy(&y, &shape)?
        } else {
            y
        };
        Ok(vec![y, self.state_tensor(ctx, last)?])
    }

    /// A state as an output, in the layout of the node.
    pub(super) fn state_tensor(&self, ctx: &EvalContext<'_>, state: Vec<f32>) -> Result<Tensor, OpError> {
        let shape = [self.reversed.len(), self.batch, self.hidden];
        let state = from_float32(ctx.require(0)?.dtype(), &shape, state)?;
        if self.batch_first {
            swap_leading(&state)
        } else {
            Ok(state)
        }
    }
}

/// `[a, b, c]` as `[b, a, c]`.
fn swap_leading(x: &Tensor) -> Result<Tensor, OpError> {
    let shape = [x.shape()[1], x.shape()[0], x.shape()[2]];
    View::transposed(x.shape(), &[1, 0, 2]).copy(x, &shape)
}

/// `[rows, columns]` as `[columns, rows]`.
fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let at = |i: usize| matrix[i % rows * columns + i / rows];
    (0..rows * columns).map(at).collect()
}

/// `Y` and the final states, of which there are `n_states`.
pub(super) fn infer_recurrent(ctx: &InferContext<'_>, n_states: usize) -> Result<Vec<Fact>, OpError> {
    let x = ctx.require(0)?;
    let directions = SymDim::from(directions_of(ctx.node)?.len());
    let declared = ctx.node.int("hidden_size").map(SymDim::known);
    let hidden = declared.or_else(|| ctx.shape(2)?.last().cloned());
    let (Some([first, second, _]), Some(hidden)) = (x.shape.as_deref(), hidden) else {
        return Ok(vec![Fact::new(x.dtype, None); 1 + n_states]);
    };
    let batch_first = ctx.node.int("layout") == Some(1);
    let (y, state) = if batch_first {
        (
            vec![first.clone(), second.clone(), directions.clone(), hidden.clone()],
            [first.clone(), directions, hidden],
        )
    } else {
        (
            vec![first.clone(), directions.clone(), second.clone(), hidden.clone()],
            [directions, second.clone(), hidden],
        )
    };
    let mut facts = vec![Fact::new(x.dtype, Some(y))];
    facts.extend(vec![Fact::new(x.dtype, Some(state.to_vec())); n_states]);
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_take_their_parameters_in_order() {
        let names = ["HardSigmoid", "Tanh"].map(|n| n.as_bytes().to_vec()).to_vec();
        let node = Node::default()
            .with_attribute("activations", AttributeValue::Strings(names))
            .with_attribute("activation_alpha", AttributeValue::Floats(vec![0.5]));
        let activations = activations_of(&node, 1, &["Sigmoid", "Tanh"]).unwrap();
        let expected = UnaryKernel::HardSigmoid {
            alpha: 0.5,
            beta: 0.5,
        };
        assert_eq!(activations[0].kernels, [expected, UnaryKernel::Tanh]);
        assert_eq!(
            activations_of(&node, 2, &["Sigmoid", "Tanh"])
                .unwrap_err()
                .to_string(),
            "attribute \"activations\": wrong length, expected 4, got 2"
        );
    }
}
