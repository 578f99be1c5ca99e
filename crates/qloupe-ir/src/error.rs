//! What can be wrong with a graph.

use qloupe_tensor::TensorError;

/// An error of the graph, of its edits, or of a stored tensor.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IrError {
    /// A name that is no value of the graph.
    #[error("value \"{name}\" does not exist in the graph{help}")]
    UnknownValue {
        /// The name.
        name: String,
        /// `, did you mean "x"?` or nothing.
        help: String,
    },
    /// A node uses a value that nothing produces before it.
    #[error(
        "node \"{node}\" ({op_type}), input {input_idx} \"{name}\": no earlier node, input or initializer produces this value{help}"
    )]
    Unordered {
        /// The node.
        node: String,
        /// Its operator.
        op_type: String,
        /// Which input.
        input_idx: usize,
        /// The value.
        name: String,
        /// `, the later node "x" does: ...` or nothing.
        help: String,
    },
    /// A subgraph uses a value that nothing produces before its node.
    #[error(
        "node \"{node}\" ({op_type}): its subgraph uses \"{name}\", which no earlier node, input or initializer produces"
    )]
    UnknownCapture {
        /// The node.
        node: String,
        /// Its operator.
        op_type: String,
        /// The value.
        name: String,
    },
    /// A function imports another version of an operator set than the model.
    #[error("function \"{function}\" imports version {got} of operator set \"{}\", expected {expected} as the model does", if domain.is_empty() { "ai.onnx" } else { domain })]
    FunctionOpset {
        /// The function.
        function: String,
        /// The operator set.
        domain: String,
        /// The version that the model imports.
        expected: i64,
        /// The version that the function imports.
        got: i64,
    },
    /// A function that cannot be put in the place of the nodes that use it.
    #[error(
        "function \"{function}\" uses itself or grows to more than 1048576 nodes, expected functions of functions 64 deep at most"
    )]
    FunctionRecursion {
        /// The function.
        function: String,
    },
    /// Two nodes produce the same value.
    #[error("node \"{node}\" ({op_type}): output \"{name}\" is produced a second time")]
    Duplicate {
        /// The second producer.
        node: String,
        /// Its operator.
        op_type: String,
        /// The value.
        name: String,
    },
    /// Two initializers of one name that are not the same tensor.
    #[error(
        "initializer \"{name}\" is stored twice with different values, expected one (ONNX Runtime takes the last)"
    )]
    DuplicateInitializer {
        /// The name.
        name: String,
    },
    /// Two inputs of one name.
    #[error("input \"{name}\" is declared twice, expected each name once")]
    DuplicateInput {
        /// The name.
        name: String,
    },
    /// An output of the graph that nothing produces.
    #[error("graph output \"{name}\" is produced by no node, input or initializer")]
    MissingOutput {
        /// The value.
        name: String,
    },
    /// A crop leaves an output that needs an input which was cut away.
    #[error(
        "the cropped outputs {outputs:?} still need input \"{input}\", expected it among the cropped inputs"
    )]
    CutInput {
        /// The input.
        input: String,
        /// The outputs.
        outputs: Vec<String>,
    },
    /// A stored tensor cannot be decoded.
    #[error("tensor \"{name}\": {what}")]
    Decode {
        /// The tensor.
        name: String,
        /// What is wrong with its bytes.
        what: String,
    },
    /// A stored tensor is malformed.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}
