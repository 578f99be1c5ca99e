//! The operator seam: what every operator declares, and what it may ask.

use std::fmt::Debug;

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use crate::chain::ChainHead;
use crate::element_wise::ElementSteps;
use crate::{BoundBody, Differentiable, Fact, InferContext, OpError, Value};

/// The physical order of 4-D tensors that are handed to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As ONNX says: `[N, C, H, W]` for images.
    Plain,
    /// Every rank-4 activation is stored `[N, H, W, C]`, and its shape says so.
    Nhwc,
}

/// Which physical orders an operator takes. Whatever it takes, the result is the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutRule {
    /// ONNX order only; the executor converts before.
    Plain,
    /// Rank-4 inputs listed by [`Operator::nhwc_inputs`] come as NHWC, rank-4 outputs go out as NHWC.
    Nhwc,
    /// Works on whatever order the inputs have (element-wise, Concat): NHWC if an input of rank 4 is stored so.
    /// All inputs of a call are in the same order; inputs of lower rank are padded to rank 4 before they are permuted.
    Follow,
}

/// What an operator may ask when it runs.
#[derive(Debug)]
pub struct EvalContext<'a> {
    /// The node: names and attributes.
    pub node: &'a Node,
    /// The version of the operator set.
    pub opset: i64,
    /// The order of rank-4 tensors in this call.
    pub layout: Layout,
    /// The inputs; `None` for an absent optional input.
    pub inputs: &'a [Option<&'a Tensor>],
}

impl<'a> EvalContext<'a> {
    /// An input that must be there.
    ///
    /// # Errors
    /// [`OpError::MissingInput`].
    pub fn require(&self, idx: usize) -> Result<&'a Tensor, OpError> {
        self.input(idx).ok_or(OpError::MissingInput { idx })
    }

    /// An optional input.
    pub fn input(&self, idx: usize) -> Option<&'a Tensor> {
        self.inputs.get(idx).copied().flatten()
    }

    /// An integer attribute, or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.node.int(name).unwrap_or(default)
    }

    /// A float attribute, or its default.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.node.float(name).unwrap_or(default)
    }

    /// A string attribute, or its default.
    pub fn string<'s>(&'s self, name: &str, default: &'s str) -> &'s str {
        self.node.string(name).unwrap_or(default)
    }

    /// An axis of the ONNX order, non-negative and mapped to the physical order of this call.
    ///
    /// # Errors
    /// An axis outside `[-rank, rank)`.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, OpError> {
        let resolved = resolve_axis(axis, rank)?;
        Ok(if self.layout == Layout::Nhwc && rank == 4 {
            [0, 3, 1, 2][resolved]
        } else {
            resolved
        })
    }
}

/// A non-negative axis.
///
/// # Errors
/// An axis outside `[-rank, rank)`.
pub(crate) fn resolve_axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let resolved = if axis < 0 { axis + signed } else { axis };
    usize::try_from(resolved)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| {
            OpError::attribute(
                "axis",
                format!("outside the rank, expected [-{rank}, {rank}), got {axis}"),
            )
        })
}

/// What an operator may ask when it prepares: the inputs that are constants.
#[derive(Debug)]
pub struct PrepareContext<'a> {
    /// The node.
    pub node: &'a Node,
    /// The version of the operator set.
    pub opset: i64,
    /// The constant inputs; `None` for a computed or absent input.
    pub constants: &'a [Option<Tensor>],
}

/// An operator with its constants packed.
pub trait Prepared: Debug + Send + Sync {
    /// Computes the outputs; constant inputs are in the context too.
    ///
    /// # Errors
    /// As [`Operator::eval`].
    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError>;

    /// True when [`Prepared::chain_head`] may have a kernel call.
    fn has_chain_head(&self) -> bool {
        false
    }

    /// The kernel call that computes the only output, if element-wise nodes may follow it.
    ///
    /// # Errors
    /// As [`Operator::eval`].
    fn chain_head<'a>(&'a self, _ctx: &EvalContext<'a>) -> Result<Option<ChainHead<'a>>, OpError> {
        Ok(None)
    }
}

/// One ONNX operator: one file in `ops/`, two lines in `ops.rs`.
pub trait Operator: Debug + Sync {
    /// The ONNX name.
    fn op_type(&self) -> &'static str;

    /// The operator set; empty is `ai.onnx`.
    fn domain(&self) -> &'static str {
        ""
    }

    /// The oldest version of the operator whose meaning is implemented. Newer versions up to the newest opset are too.
    fn since_version(&self) -> i64 {
        1
    }

    /// The physical orders it takes.
    fn layout(&self) -> LayoutRule {
        LayoutRule::Plain
    }

    /// For [`LayoutRule::Nhwc`]: how many leading inputs are activations (the others, weights, come as they are).
    fn nhwc_inputs(&self) -> usize {
        1
    }

    /// Types and shapes of the outputs, one for each output of the node (extra ones are ignored).
    ///
    /// # Errors
    /// Inputs that contradict the operator. What cannot be derived is `None`, not an error.
    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError>;

    /// Computes the outputs, one for each output of the node (extra ones are ignored). Every operator has this or
    /// [`Operator::on_values`].
    ///
    /// # Errors
    /// Inputs that do not fit the operator; a variant that is not supported. Never a panic, whatever the inputs.
    fn eval(&self, _ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        Err(OpError::unsupported(format!(
            "{} on tensors alone",
            self.op_type()
        )))
    }

    /// The operator on values that are no single tensors, or with subgraphs.
    fn on_values(&self) -> Option<&dyn ValueOperator> {
        None
    }

    /// What a node computes element by element on float32, given its constant inputs; `None` if it does not. The node
    /// then has one output.
    fn elements(&self, _ctx: &PrepareContext<'_>) -> Option<ElementSteps> {
        None
    }

    /// The vector-Jacobian product, for operators that have one.
    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        None
    }

    /// Packs constants once, if the operator gains from it.
    ///
    /// # Errors
    /// As [`Operator::eval`].
    fn prepare(&self, _ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        Ok(None)
    }
}

/// What an operator on values may ask when it runs.
#[derive(Debug)]
pub struct ValueContext<'a> {
    /// The node: names and attributes.
    pub node: &'a Node,
    /// The version of the operator set.
    pub opset: i64,
    /// The inputs; `None` for an absent optional input.
    pub inputs: &'a [Option<&'a Value>],
    /// The subgraphs.
    pub bodies: &'a [BoundBody<'a>],
}

impl<'a> ValueContext<'a> {
    /// An input that must be there.
    ///
    /// # Errors
    /// [`OpError::MissingInput`].
    pub fn require(&self, idx: usize) -> Result<&'a Value, OpError> {
        self.input(idx).ok_or(OpError::MissingInput { idx })
    }

    /// An optional input.
    pub fn input(&self, idx: usize) -> Option<&'a Value> {
        self.inputs.get(idx).copied().flatten()
    }

    /// An input that must be a tensor.
    ///
    /// # Errors
    /// It is absent, or another kind of value.
    pub fn tensor(&self, idx: usize) -> Result<&'a Tensor, OpError> {
        self.require(idx)?.require_tensor(idx)
    }

    /// An input that must be a sequence.
    ///
    /// # Errors
    /// It is absent, or another kind of value.
    pub fn sequence(&self, idx: usize) -> Result<&'a [Tensor], OpError> {
        Ok(self.require(idx)?.require_sequence(idx)?)
    }

    /// The subgraph of an attribute.
    ///
    /// # Errors
    /// The attribute is absent.
    pub fn body(&self, attribute: &'static str) -> Result<BoundBody<'a>, OpError> {
        let found = self.bodies.iter().find(|b| b.attribute() == attribute);
        found
            .copied()
            .ok_or_else(|| OpError::attribute(attribute, "is absent, expected a graph"))
    }
}

/// An operator on tensors, sequences and optionals, or with subgraphs.
pub trait ValueOperator: Debug + Sync {
    /// Computes the outputs, one for each output of the node.
    ///
    /// # Errors
    /// As [`Operator::eval`].
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError>;
}
