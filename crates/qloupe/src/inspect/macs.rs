//! Multiply-accumulates of a node, from the inferred shapes.

use std::collections::BTreeMap;

use qloupe_exec::Fact;
use qloupe_ir::Node;

/// What a node multiplies and accumulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Macs {
    /// The operator has none that count: element-wise, moving, pooling.
    None,
    /// So many.
    Counted(u64),
    /// The operator has some, but a shape is not known.
    Open,
}

impl Macs {
    /// The count; 0 where there is none or it is not known.
    pub(crate) fn known(self) -> u64 {
        match self {
            Self::Counted(n) => n,
            Self::None | Self::Open => 0,
        }
    }
}

/// Counts a node.
pub(crate) fn node_macs(node: &Node, facts: &BTreeMap<String, Fact>) -> Macs {
    let shape = |name: Option<&str>| name.and_then(|name| facts.get(name)?.fixed_shape());
    let input = |idx| shape(node.input(idx));
    let output = || shape(node.output(0));
    let counted = match node.op_type.as_str() {
        _ if !node.is_onnx(&node.op_type) => return Macs::None,
        "Conv" | "ConvInteger" => weighted(output(), input(1)),
        "QLinearConv" => weighted(output(), input(3)),
        // Every input element meets the whole kernel of its channel.
        "ConvTranspose" => weighted(input(0), input(1)),
        "Gemm" => gemm(node, input(0), output()),
        "MatMul" | "MatMulInteger" | "QLinearMatMul" => input(0)
            .zip(output())
            .and_then(|(a, y)| product(&y)?.checked_mul(u64::try_from(*a.last()?).ok()?)),
        "LSTM" => recurrent(input(0), input(1), 4, node),
        "GRU" => recurrent(input(0), input(1), 3, node),
        "RNN" => recurrent(input(0), input(1), 1, node),
        "Attention" | "DeformConv" | "Einsum" => None,
        _ => return Macs::None,
    };
    counted.map_or(Macs::Open, Macs::Counted)
}

/// The number of elements.
pub(super) fn product(shape: &[usize]) -> Option<u64> {
    shape
        .iter()
        .try_fold(1_u64, |n, &dim| n.checked_mul(u64::try_from(dim).ok()?))
}

fn weighted(elements: Option<Vec<usize>>, weight: Option<Vec<usize>>) -> Option<u64> {
    product(&elements?)?.checked_mul(product(weight?.get(1..)?)?)
}

fn gemm(node: &Node, a: Option<Vec<usize>>, y: Option<Vec<usize>>) -> Option<u64> {
    let is_transposed = node.int("transA").unwrap_or(0) != 0;
    let inner = *a?.get(if is_transposed { 0 } else { 1 })?;
    product(&y?)?.checked_mul(u64::try_from(inner).ok()?)
}

/// x: `[steps, batch, input]`, W: `[directions, gates * hidden, input]`; every step multiplies input and state.
fn recurrent(x: Option<Vec<usize>>, w: Option<Vec<usize>>, gates: usize, node: &Node) -> Option<u64> {
    let (x, w) = (x?, w?);
    let [directions, rows, columns] = w[..] else {
        return None;
    };
    let hidden = node
        .int("hidden_size")
        .and_then(|h| usize::try_from(h).ok())
        .unwrap_or(rows / gates);
    product(&[
        *x.first()?,
        *x.get(1)?,
        directions,
        rows,
        columns.checked_add(hidden)?,
    ])
}

#[cfg(test)]
mod tests {
    use qloupe_exec::SymDim;
    use qloupe_ir::AttributeValue;

    use super::*;

    #[test]
    fn counts_by_hand() {
        struct Case {
            node: Node,
            shapes: &'static [(&'static str, &'static [usize])],
            expected: Macs,
        }
        let cases = [
            Case {
                node: Node::new("Conv", "", &["x", "w"], &["y"]),
                shapes: &[
                    ("x", &[1, 8, 10, 10]),
                    ("w", &[16, 4, 3, 3]),
                    ("y", &[1, 16, 5, 5]),
                ],
                expected: Macs::Counted(16 * 25 * 4 * 9),
            },
            Case {
                node: Node::new("ConvTranspose", "", &["x", "w"], &["y"]),
                shapes: &[("x", &[1, 8, 5, 5]), ("w", &[8, 4, 2, 2]), ("y", &[1, 4, 10, 10])],
                expected: Macs::Counted(8 * 25 * 4 * 4),
            },
            Case {
                node: Node::new("Gemm", "", &["x", "w"], &["y"])
                    .with_attribute("transA", AttributeValue::Int(1)),
                shapes: &[("x", &[7, 2]), ("w", &[7, 3]), ("y", &[2, 3])],
                expected: Macs::Counted(7 * 2 * 3),
            },
            Case {
                node: Node::new("MatMul", "", &["x", "w"], &["y"]),
                shapes: &[("x", &[4, 5, 6]), ("w", &[6, 7]), ("y", &[4, 5, 7])],
                expected: Macs::Counted(4 * 5 * 6 * 7),
            },
            Case {
                node: Node::new("LSTM", "", &["x", "w"], &["y"]),
                shapes: &[("x", &[10, 1, 3]), ("w", &[1, 8, 3]), ("y", &[10, 1, 1, 2])],
                expected: Macs::Counted(10 * 8 * (3 + 2)),
            },
            Case {
                node: Node::new("Conv", "", &["x", "w"], &["y"]),
                shapes: &[],
                expected: Macs::Open,
            },
            Case {
                node: Node::new("Relu", "", &["x"], &["y"]),
                shapes: &[],
                expected: Macs::None,
            },
        ];
        for Case {
            node,
            shapes,
            expected,
        } in cases
        {
            let fact =
                |shape: &[usize]| Fact::new(None, Some(shape.iter().map(|&d| SymDim::from(d)).collect()));
            let facts = shapes
                .iter()
                .map(|(name, shape)| ((*name).to_owned(), fact(shape)))
                .collect();
            assert_eq!(node_macs(&node, &facts), expected, "{}", node.op_type);
        }
    }
}
