//! Constant: a stored value.

use qloupe_ir::{AttributeValue, Node};
use qloupe_tensor::Tensor;

use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// The value of its only attribute.
#[derive(Debug)]
pub(super) struct Constant;

fn value(node: &Node) -> Result<Tensor, OpError> {
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    for attribute in &node.attributes {
        return Ok(match (attribute.name.as_str(), &attribute.value) {
            ("value", AttributeValue::Tensor(stored)) => stored
                .tensor()
                .map_err(|error| OpError::attribute("value", error.to_string()))?,
            ("value_float", AttributeValue::Float(v)) => Tensor::scalar(*v),
            ("value_floats", AttributeValue::Floats(v)) => Tensor::vector(v.clone()),
            ("value_int", AttributeValue::Int(v)) => Tensor::scalar(*v),
            ("value_ints", AttributeValue::Ints(v)) => Tensor::vector(v.clone()),
            ("value_string", AttributeValue::String(v)) => Tensor::from_strings(&[], vec![text(v)])?,
            ("value_strings", AttributeValue::Strings(v)) => {
                Tensor::from_strings(&[v.len()], v.iter().map(text).collect())?
            }
            ("sparse_value", _) => {
                return Err(OpError::Unsupported {
                    what: "a sparse constant".to_owned(),
                    remedy: ": store it dense, in the attribute \"value\"".to_owned(),
                });
            }
            _ => continue,
        });
    }
    Err(OpError::attribute(
        "value",
        "absent, expected a tensor or a number",
    ))
}

impl Operator for Constant {
    fn op_type(&self) -> &'static str {
        "Constant"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::of_constant(value(ctx.node)?)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![value(ctx.node)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_value() {
        let node = |name: &str, v: AttributeValue| Node::default().with_attribute(name, v);
        let v = value(&node("value_ints", AttributeValue::Ints(vec![1, 2]))).unwrap();
        assert_eq!(v, Tensor::vector(vec![1_i64, 2]));
        let v = value(&node("value_float", AttributeValue::Float(0.5))).unwrap();
        assert_eq!(v, Tensor::scalar(0.5_f32));
        let cases = [
            (
                node("sparse_value", AttributeValue::Encoded(Vec::new())),
                "a sparse constant is not supported: store it dense, in the attribute \"value\"",
            ),
            (
                Node::default(),
                "attribute \"value\": absent, expected a tensor or a number",
            ),
        ];
        for (node, message) in cases {
            assert_eq!(value(&node).unwrap_err().to_string(), message);
        }
    }
}
