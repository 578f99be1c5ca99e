//! What is known of a value before anything runs, and what an operator derives from it.

use qloupe_ir::{Graph, Node};
use qloupe_tensor::{DType, Tensor};

use crate::{OpError, SymDim};

/// What is known of a value: as much as could be derived, never a guess.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fact {
    /// The element type.
    pub dtype: Option<DType>,
    /// The dimensions; `None` when even the rank is unknown.
    pub shape: Option<Vec<SymDim>>,
    /// The elements of a small integer tensor (rank 0 or 1), as far as they are known: shapes that are computed.
    pub elements: Option<Vec<SymDim>>,
    /// The whole tensor, if it is a constant.
    pub constant: Option<Tensor>,
}

impl Fact {
    /// A value of known dtype and shape.
    pub fn new(dtype: Option<DType>, shape: Option<Vec<SymDim>>) -> Self {
        Self {
            dtype,
            shape,
            elements: None,
            constant: None,
        }
    }

    /// The fact of a constant. Elements are filled for int32 and int64 tensors of at most 64 elements and rank 0 or 1.
    pub fn of_constant(tensor: Tensor) -> Self {
        let small = tensor.rank() <= 1 && tensor.len() <= 64;
        let elements = match (tensor.as_slice::<i64>(), tensor.as_slice::<i32>()) {
            (Some(v), _) if small => Some(v.iter().map(|&x| SymDim::known(x)).collect()),
            (_, Some(v)) if small => Some(v.iter().map(|&x| SymDim::known(i64::from(x))).collect()),
            _ => None,
        };
        let shape = tensor.shape().iter().map(|&d| SymDim::from(d)).collect();
        Self {
            dtype: Some(tensor.dtype()),
            shape: Some(shape),
            elements,
            constant: Some(tensor),
        }
    }

    /// The shape, if every dimension is known.
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        self.shape.as_ref()?.iter().map(SymDim::as_size).collect()
    }
}

/// Inference of the subgraphs of a node: whoever walks the graph knows what they capture.
pub trait BodyInference: std::fmt::Debug {
    /// The facts of the outputs of a subgraph; `None` when it cannot be inferred.
    fn infer_body(&self, graph: &Graph, inputs: Vec<Fact>) -> Option<Vec<Fact>>;
}

/// What an operator may ask when it infers.
#[derive(Debug)]
pub struct InferContext<'a> {
    /// The node.
    pub node: &'a Node,
    /// The version of the operator set.
    pub opset: i64,
    /// The facts of the inputs; `None` for an absent optional input.
    pub inputs: &'a [Option<&'a Fact>],
    /// Inference of its subgraphs, where the caller has it.
    pub bodies: Option<&'a dyn BodyInference>,
}

impl InferContext<'_> {
    /// The fact of an input, if it is present.
    pub fn input(&self, idx: usize) -> Option<&Fact> {
        self.inputs.get(idx).copied().flatten()
    }

    /// The fact of a required input.
    ///
    /// # Errors
    /// [`OpError::MissingInput`].
    pub fn require(&self, idx: usize) -> Result<&Fact, OpError> {
        self.input(idx).ok_or(OpError::MissingInput { idx })
    }

    /// The dtype of an input, if it is known.
    pub fn dtype(&self, idx: usize) -> Option<DType> {
        self.input(idx)?.dtype
    }

    /// The shape of an input, if it is known.
    pub fn shape(&self, idx: usize) -> Option<&[SymDim]> {
        self.input(idx)?.shape.as_deref()
    }

    /// The elements of a small integer input, if they are known.
    pub fn elements(&self, idx: usize) -> Option<&[SymDim]> {
        self.input(idx)?.elements.as_deref()
    }

    /// The elements of an integer input, if all are known numbers.
    pub fn known_elements(&self, idx: usize) -> Option<Vec<i64>> {
        self.elements(idx)?.iter().map(SymDim::as_known).collect()
    }

    /// The facts of the outputs of a subgraph, given those of its formal inputs.
    pub fn infer_body(&self, attribute: &str, inputs: Vec<Fact>) -> Option<Vec<Fact>> {
        let (_, graph) = self.node.subgraphs().find(|(name, _)| *name == attribute)?;
        self.bodies?.infer_body(graph, inputs)
    }

    /// One output with the dtype and shape of input 0.
    ///
    /// # Errors
    /// [`OpError::MissingInput`].
    pub fn same_as_input(&self) -> Result<Vec<Fact>, OpError> {
        let x = self.require(0)?;
        Ok(vec![Fact::new(x.dtype, x.shape.clone())])
    }
}
