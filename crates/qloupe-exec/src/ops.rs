//! The operators, one file each. A new one is a file and two lines here: its `mod` and its entry in `ALL`.

mod relu;

use crate::Operator;

/// Every operator, by name.
pub const ALL: &[&dyn Operator] = &[&relu::Relu];

/// The operator of a name and domain.
pub fn find(op_type: &str, domain: &str) -> Option<&'static dyn Operator> {
    let domain = if domain == "ai.onnx" { "" } else { domain };
    ALL.iter()
        .copied()
        .find(|op| op.op_type() == op_type && op.domain() == domain)
}
