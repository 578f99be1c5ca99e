//! Errors of operators and of runs. The operator says what, the executor says where.

use qloupe_ir::IrError;
use qloupe_tensor::{DType, TensorError};

/// What an operator finds wrong; the executor adds the node.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// A required input is absent.
    #[error("input {idx} is absent, expected a value")]
    MissingInput {
        /// Which input.
        idx: usize,
    },
    /// An input has a shape, dtype or value that does not fit.
    #[error("input {idx}: {what}")]
    Input {
        /// Which input.
        idx: usize,
        /// `<what is wrong>, expected <X>, got <Y>`.
        what: String,
    },
    /// An attribute is absent or has a value that does not fit.
    #[error("attribute \"{name}\": {what}")]
    Attribute {
        /// The attribute.
        name: &'static str,
        /// `<what is wrong>, expected <X>, got <Y>`.
        what: String,
    },
    /// The operator exists, this variant of it does not.
    #[error("{what} is not supported{remedy}")]
    Unsupported {
        /// What is not supported.
        what: String,
        /// `: do this instead`, or nothing.
        remedy: String,
    },
    /// A node of a subgraph failed.
    #[error("in {attribute}: {source}")]
    Body {
        /// The attribute that holds the subgraph.
        attribute: String,
        /// What failed in it.
        source: Box<ExecError>,
    },
    /// An output that this machine cannot hold.
    #[error(
        "output {output_idx} is too large, expected at most {limit_bytes} bytes, got {dtype} of shape {shape:?}"
    )]
    TooLarge {
        /// Which output.
        output_idx: usize,
        /// Its element type.
        dtype: DType,
        /// Its shape.
        shape: Vec<usize>,
        /// The memory of the machine, or what [`crate::set_size_limit`] says.
        limit_bytes: usize,
    },
    /// The tensor layer refuses.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl OpError {
    /// An input that does not fit.
    pub fn input(idx: usize, what: impl Into<String>) -> Self {
        Self::Input {
            idx,
            what: what.into(),
        }
    }

    /// An attribute that does not fit.
    pub fn attribute(name: &'static str, what: impl Into<String>) -> Self {
        Self::Attribute {
            name,
            what: what.into(),
        }
    }

    /// An unsupported variant, without a remedy.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported {
            what: what.into(),
            remedy: String::new(),
        }
    }
}

/// An error of a run, with its place.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// A node failed.
    #[error("node \"{node}\" ({op_type}), {source}")]
    Node {
        /// The node.
        node: String,
        /// Its operator.
        op_type: String,
        /// What is wrong.
        source: OpError,
    },
    /// Operators that do not exist here: all of them.
    #[error("{} unsupported operator{}: {}", .0.len(), if .0.len() == 1 { "" } else { "s" }, .0.join(", "))]
    UnsupportedOperators(Vec<String>),
    /// A value that was asked for or fed does not exist.
    #[error("value \"{name}\" does not exist in the graph{help}")]
    UnknownValue {
        /// The name.
        name: String,
        /// `, did you mean "x"?` or nothing.
        help: String,
    },
    /// A tensor was asked for and the value is none.
    #[error("value \"{name}\" is {kind}, expected a tensor")]
    NotATensor {
        /// The name.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// A network input was not fed.
    #[error("input \"{name}\" is not fed")]
    MissingInput {
        /// The input.
        name: String,
    },
    /// Stored tensors, and those that nodes make of them, that this machine cannot hold together.
    #[error(
        "constants are too large, expected at most {limit_bytes} bytes, got {size_bytes} with \"{name}\""
    )]
    ConstantsTooLarge {
        /// The constant that is one too many.
        name: String,
        /// What they take with it.
        size_bytes: usize,
        /// The memory of the machine, or what [`crate::set_size_limit`] says.
        limit_bytes: usize,
    },
    /// A fed tensor does not fit the declared input.
    #[error("input \"{name}\": wrong {what}, expected {expected}, got {got}")]
    WrongInput {
        /// The input.
        name: String,
        /// `dtype` or `shape`.
        what: &'static str,
        /// The declaration.
        expected: String,
        /// The tensor.
        got: String,
    },
    /// A gradient does not fit its value.
    #[error(
        "gradient of value \"{name}\" does not fit, expected float32 of shape {expected:?}, got {dtype} of shape {got:?}"
    )]
    WrongGradient {
        /// The value.
        name: String,
        /// Its shape.
        expected: Vec<usize>,
        /// The shape of the gradient.
        got: Vec<usize>,
        /// The element type of the gradient.
        dtype: DType,
    },
    /// Somebody ended it: see [`crate::Interruption`].
    #[error("the run was interrupted")]
    Interrupted,
    /// The graph is malformed.
    #[error(transparent)]
    Ir(#[from] IrError),
}
