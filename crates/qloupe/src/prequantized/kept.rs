//! Nodes on the integers of quantization, and those of them that a twin keeps.

use std::collections::BTreeMap;

use qloupe_ir::{Graph, Node};

/// A node on integers that the twin could not do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The node.
    pub(super) node: String,
    /// Its operator.
    pub(super) op_type: String,
    /// Why.
    pub(super) reason: String,
}

/// True for an operator that makes, reads or computes with the integers of quantization.
pub(super) fn works_on_integers(node: &Node) -> bool {
    let op = node.op_type.as_str();
    matches!(
        op,
        "QuantizeLinear"
            | "DequantizeLinear"
            | "DynamicQuantizeLinear"
            | "ConvInteger"
            | "MatMulInteger"
            | "DynamicQuantizeMatMul"
            | "DynamicQuantizeLSTM"
            | "MatMulIntegerToFloat"
            | "MatMulNBits"
            | "QGemm"
            | "QAttention"
            | "QEmbedLayerNormalization"
    ) || op.starts_with("QLinear")
}

/// The nodes on integers of a twin; `reasons` are by the label of the node.
pub(super) fn kept_nodes(graph: &Graph, reasons: &BTreeMap<String, String>) -> Vec<Kept> {
    let nodes = graph.nodes.iter().filter(|node| works_on_integers(node));
    nodes
        .map(|node| Kept {
            node: node.label().to_owned(),
            op_type: node.op_type.clone(),
            reason: reasons
                .get(node.label())
                .cloned()
                .unwrap_or_else(|| "a plan has no form for it".to_owned()),
        })
        .collect()
}
