//! LabelEncoder: a dictionary from keys to values.

use std::collections::BTreeMap;

use qloupe_ir::{AttributeValue, Node};
use qloupe_tensor::{DType, Tensor};

use super::movement::{Run, copy_runs, number};
use super::parameters::integers;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// `y = values[i]` where `x = keys[i]`, else the default of the dtype of the values.
///
/// # Edge cases
/// Of equal keys the last one counts. NaN equals NaN.
#[derive(Debug)]
pub(super) struct LabelEncoder;

/// A key that has an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(i64),
    /// The bits of a float, the same for all NaN and for both zeros.
    Float(u64),
    Text(String),
}

fn keys_of(tensor: &Tensor, idx: usize) -> Result<Vec<Key>, OpError> {
    if let Some(texts) = tensor.as_strings() {
        return Ok(texts.iter().cloned().map(Key::Text).collect());
    }
    if tensor.dtype().is_float() {
        let bits = |v: f64| if v.is_nan() { f64::NAN } else { v + 0.0 }.to_bits();
        return Ok(tensor
            .to_f64_vec()?
            .into_iter()
            .map(|v| Key::Float(bits(v)))
            .collect());
    }
    Ok(integers(tensor, idx)?.into_iter().map(Key::Number).collect())
}

/// A list attribute in one of its forms: strings, integers, floats or a tensor.
fn list(node: &Node, names: [&'static str; 4]) -> Result<Tensor, OpError> {
    let [strings, ints, floats, tensor] = names;
    if let Some(AttributeValue::Strings(texts)) = node.attribute(strings) {
        let text = |text: &Vec<u8>| String::from_utf8_lossy(text).into_owned();
        return Ok(Tensor::from_strings(
            &[texts.len()],
            texts.iter().map(text).collect(),
        )?);
    }
    if let Some(numbers) = node.ints(ints) {
        return Ok(Tensor::vector(numbers.to_vec()));
    }
    if let Some(numbers) = node.floats(floats) {
        return Ok(Tensor::vector(numbers.to_vec()));
    }
    stored(node, tensor)?
        .ok_or_else(|| OpError::attribute(strings, "absent, expected a list in one of its forms"))
}

fn stored(node: &Node, name: &'static str) -> Result<Option<Tensor>, OpError> {
    node.tensor(name)
        .map(|constant| {
            constant
                .tensor()
                .map_err(|error| OpError::attribute(name, error.to_string()))
        })
        .transpose()
}

fn keys(node: &Node) -> Result<Tensor, OpError> {
    list(
        node,
        ["keys_strings", "keys_int64s", "keys_floats", "keys_tensor"],
    )
}

fn values(node: &Node) -> Result<Tensor, OpError> {
    list(
        node,
        [
            "values_strings",
            "values_int64s",
            "values_floats",
            "values_tensor",
        ],
    )
}

/// What unknown keys become.
fn default_value(node: &Node, dtype: DType) -> Result<Tensor, OpError> {
    if let Some(default) = stored(node, "default_tensor")? {
        return Ok(default);
    }
    match dtype {
        DType::String => {
            let text = node.string("default_string").unwrap_or("_Unused");
            Ok(Tensor::from_strings(&[], vec![text.to_owned()])?)
        }
        DType::Int64 => Ok(Tensor::scalar(node.int("default_int64").unwrap_or(-1))),
        DType::Float32 => Ok(Tensor::scalar(node.float("default_float").unwrap_or(-0.0))),
        DType::Float64 => Ok(Tensor::scalar(-0.0_f64)),
        other => number(other, 0),
    }
}

impl Operator for LabelEncoder {
    fn op_type(&self) -> &'static str {
        "LabelEncoder"
    }

    fn domain(&self) -> &'static str {
        "ai.onnx.ml"
    }

    fn since_version(&self) -> i64 {
        2
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        Ok(vec![Fact::new(Some(values(ctx.node)?.dtype()), x.shape.clone())])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let (keys, values) = (keys(ctx.node)?, values(ctx.node)?);
        if keys.len() != values.len() {
            return Err(OpError::attribute(
                "keys_strings",
                format!(
                    "as many keys as values are needed, expected {}, got {}",
                    values.len(),
                    keys.len()
                ),
            ));
        }
        let default = default_value(ctx.node, values.dtype())?;
        let places: BTreeMap<Key, usize> = keys_of(&keys, 0)?.into_iter().zip(0..).collect();
        let runs = keys_of(x, 0)?.into_iter().map(|key| match places.get(&key) {
            Some(&place) => Run::contiguous(place, 1),
            None => Run {
                source: 1,
                ..Run::contiguous(0, 1)
            },
        });
        Ok(vec![copy_runs(&[&values, &default], x.shape(), runs)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;

    #[test]
    fn known_keys_become_their_values_and_others_the_default() {
        let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let bytes = |list: &[&str]| list.iter().map(|t| t.as_bytes().to_vec()).collect();
        let node = Node::default()
            .with_attribute("keys_strings", AttributeValue::Strings(bytes(&["a", "b", "a"])))
            .with_attribute("values_int64s", AttributeValue::Ints(vec![1, 2, 3]));
        let back = Node::default()
            .with_attribute("keys_floats", AttributeValue::Floats(vec![f32::NAN, 0.0]))
            .with_attribute("values_strings", AttributeValue::Strings(bytes(&["nan", "zero"])));
        let x = Tensor::from_strings(&[3], texts(&["a", "b", "c"])).unwrap();
        let floats = Tensor::vector(vec![-0.0, -f32::NAN, 1.0]);
        let run = |node: &Node, x: &Tensor| {
            LabelEncoder.eval(&EvalContext {
                node,
                opset: 4,
                layout: Layout::Plain,
                inputs: &[Some(x)],
            })
        };
        assert_eq!(run(&node, &x).unwrap(), [Tensor::vector(vec![3_i64, 2, -1])]);
        let words = Tensor::from_strings(&[3], texts(&["zero", "nan", "_Unused"])).unwrap();
        assert_eq!(run(&back, &floats).unwrap(), [words]);
        assert_eq!(
            run(&Node::default(), &x).unwrap_err().to_string(),
            "attribute \"keys_strings\": absent, expected a list in one of its forms"
        );
    }
}
