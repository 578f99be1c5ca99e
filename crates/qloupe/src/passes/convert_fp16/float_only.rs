//! The inputs and outputs that the ONNX specification does not allow in float16, by operator and version.

use qloupe_ir::Node;

/// Positions of inputs or outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Positions {
    /// These.
    Some(&'static [usize]),
    /// All of them: an operator outside ONNX, of which nothing is known.
    All,
}

impl Positions {
    pub(super) fn contain(self, idx: usize) -> bool {
        match self {
            Self::Some(idxs) => idxs.contains(&idx),
            Self::All => true,
        }
    }
}

/// Every operator set.
const ALWAYS: i64 = i64::MAX;

/// (operator, the first opset to which the line does not apply, inputs, outputs). The first line that applies counts.
///
/// From the type constraints in docs/Operators.md and docs/Changelog.md of ONNX, opset 7 and newer. `Resize` may read
/// its roi in float16 by the specification, but ONNX Runtime reads float32.
const FLOAT_ONLY: &[(&str, i64, &[usize], &[usize])] = &[
    ("Celu", 28, &[0], &[0]),
    ("CumSum", 14, &[0], &[0]),
    ("DequantizeLinear", 19, &[1], &[0]),
    ("DynamicQuantizeLinear", ALWAYS, &[0], &[1]),
    ("IsInf", 20, &[0], &[]),
    ("LayerNormalization", ALWAYS, &[], &[1, 2]),
    ("NonMaxSuppression", ALWAYS, &[0, 1, 3, 4], &[]),
    ("QLinearConv", ALWAYS, &[1, 4, 6], &[]),
    ("QLinearMatMul", 21, &[1, 4, 6], &[]),
    ("QuantizeLinear", 19, &[0, 1], &[]),
    ("Range", 27, &[0, 1, 2], &[0]),
    ("Resize", 11, &[1], &[]),
    ("Resize", ALWAYS, &[1, 2], &[]),
    ("TfIdfVectorizer", ALWAYS, &[], &[0]),
    ("Upsample", ALWAYS, &[1], &[]),
];

/// The inputs of a node that stay float32.
pub(super) fn float_inputs(node: &Node, opset: i64) -> Positions {
    line(node, opset).map_or(unlisted(node), |(_, _, inputs, _)| Positions::Some(inputs))
}

/// The outputs of a node that stay float32.
pub(super) fn float_outputs(node: &Node, opset: i64) -> Positions {
    line(node, opset).map_or(unlisted(node), |(_, _, _, outputs)| Positions::Some(outputs))
}

fn line(node: &Node, opset: i64) -> Option<&'static (&'static str, i64, &'static [usize], &'static [usize])> {
    FLOAT_ONLY
        .iter()
        .find(|(op_type, before, ..)| node.is_onnx(op_type) && opset < *before)
}

fn unlisted(node: &Node) -> Positions {
    if node.is_onnx(&node.op_type) {
        Positions::Some(&[])
    } else {
        Positions::All
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_decides() {
        struct Case {
            node: Node,
            opset: i64,
            inputs: Positions,
            outputs: Positions,
        }
        let onnx = |op_type| Node::new(op_type, "n", &[], &[]);
        let foreign = Node {
            domain: "com.example".to_owned(),
            ..onnx("Resize")
        };
        let cases = [
            Case {
                node: onnx("Resize"),
                opset: 10,
                inputs: Positions::Some(&[1]),
                outputs: Positions::Some(&[]),
            },
            Case {
                node: onnx("Resize"),
                opset: 13,
                inputs: Positions::Some(&[1, 2]),
                outputs: Positions::Some(&[]),
            },
            Case {
                node: onnx("CumSum"),
                opset: 13,
                inputs: Positions::Some(&[0]),
                outputs: Positions::Some(&[0]),
            },
            Case {
                node: onnx("CumSum"),
                opset: 14,
                inputs: Positions::Some(&[]),
                outputs: Positions::Some(&[]),
            },
            Case {
                node: onnx("Conv"),
                opset: 13,
                inputs: Positions::Some(&[]),
                outputs: Positions::Some(&[]),
            },
            Case {
                node: foreign,
                opset: 13,
                inputs: Positions::All,
                outputs: Positions::All,
            },
        ];
        for Case {
            node,
            opset,
            inputs,
            outputs,
        } in cases
        {
            assert_eq!(
                float_inputs(&node, opset),
                inputs,
                "{} of opset {opset}",
                node.op_type
            );
            assert_eq!(
                float_outputs(&node, opset),
                outputs,
                "{} of opset {opset}",
                node.op_type
            );
        }
    }
}
