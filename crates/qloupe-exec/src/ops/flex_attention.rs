//! ai.onnx.preview.FlexAttention: attention with subgraphs that modify scores and probabilities.

use qloupe_tensor::{DType, Tensor};

use super::attention_core::{computing, dims_of, probabilities, scores, weighted};
use super::cast::cast;
use super::parameters::dtype_attribute;
use crate::{BoundBody, Fact, InferContext, OpError, Operator, Stored, Value, ValueContext, ValueOperator};

/// `y = prob_mod(softmax(score_mod(scale * q * k^T))) * v` for every head.
///
/// Subgraphs see tensors of type `softmax_precision`: float32, or float64 for float64 inputs, if it is absent.
///
/// # Shapes
/// q: [batch, heads, length, size]; k and v likewise, with their own number of heads.
#[derive(Debug)]
pub(super) struct FlexAttention;

impl Operator for FlexAttention {
    fn op_type(&self) -> &'static str {
        "FlexAttention"
    }

    fn domain(&self) -> &'static str {
        "ai.onnx.preview"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let shape = match (ctx.shape(0), ctx.shape(2)) {
            (Some([batch, heads, length, _]), Some([.., size])) => {
                Some([batch, heads, length, size].map(Clone::clone).to_vec())
            }
            _ => None,
        };
        Ok(vec![Fact::new(ctx.require(0)?.dtype, shape)])
    }

    fn on_values(&self) -> Option<&dyn ValueOperator> {
        Some(self)
    }
}

impl ValueOperator for FlexAttention {
    fn eval_values(&self, ctx: &ValueContext<'_>) -> Result<Vec<Value>, OpError> {
        let part = |idx| computing(ctx.tensor(idx)?, idx);
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let size = dims_of(&q, 0)?[3];
        let scale = ctx
            .node
            .float("scale")
            .map_or_else(|| 1.0 / (size as f64).sqrt(), f64::from);
        let precision = dtype_attribute(ctx.node, "softmax_precision")?.unwrap_or(q.dtype());
        let modified =
            |attribute: &'static str, x: Tensor| match ctx.bodies.iter().find(|b| b.attribute() == attribute)
            {
                Some(body) => run(*body, attribute, &cast(&x, precision)?, x.dtype()),
                None => Ok(x),
            };
        let scores = modified("score_mod", scores(&q, &in_type_of(&k, &q)?, scale)?)?;
        let probable = modified("prob_mod", probabilities(&scores, Some(precision))?)?;
        let y = weighted(&probable, &in_type_of(&v, &q)?)?;
        Ok(vec![Value::Tensor(Stored::plain(cast(
            &y,
            ctx.tensor(0)?.dtype(),
        )?))])
    }
}

fn in_type_of(x: &Tensor, q: &Tensor) -> Result<Tensor, OpError> {
    cast(x, q.dtype())
}

/// The result of a subgraph, as `dtype`. It has the shape of its argument.
fn run(body: BoundBody<'_>, attribute: &'static str, x: &Tensor, dtype: DType) -> Result<Tensor, OpError> {
    let outputs = body.run(vec![Value::Tensor(Stored::plain(x.clone()))])?;
    let y = match outputs.as_slice() {
        [Value::Tensor(y)] => y.to_plain(),
        _ => {
            return Err(OpError::attribute(
                attribute,
                format!(
                    "expected a graph with one tensor as output, got {} outputs",
                    outputs.len()
                ),
            ));
        }
    };
    if y.shape() != x.shape() {
        return Err(OpError::attribute(
            attribute,
            format!("changes the shape, expected {:?}, got {:?}", x.shape(), y.shape()),
        ));
    }
    cast(y, dtype)
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Graph, Node, ValueInfo};

    use super::*;
    use crate::Program;

    /// Queries and keys of 0, values 2 and 6, and a modification of the probabilities by one node.
    fn run(op_type: &str) -> Result<Tensor, String> {
        let graph = |nodes, inputs: &[&str], output: &str| Graph {
            nodes,
            inputs: inputs.iter().map(|name| ValueInfo::untyped(name)).collect(),
            outputs: vec![ValueInfo::untyped(output)],
            ..Graph::default()
        };
        let modification = graph(vec![Node::new(op_type, "", &["p"], &["m"])], &["p"], "m");
        let mut node = Node::new("FlexAttention", "flex", &["q", "q", "v"], &["y"])
            .with_attribute("prob_mod", AttributeValue::Graph(Box::new(modification)));
        "ai.onnx.preview".clone_into(&mut node.domain);
        let program =
            Program::from_graph(graph(vec![node], &["q", "v"], "y"), &|_| 18).map_err(|e| e.to_string())?;
        let of = |values: [f32; 2]| Tensor::new(&[1, 1, 2, 1], values.to_vec()).unwrap();
        let inputs = vec![("q".to_owned(), of([0.0, 0.0])), ("v".to_owned(), of([2.0, 6.0]))];
        Ok(program.run(inputs).map_err(|e| e.to_string())?.remove(0).1)
    }

    #[test]
    fn a_subgraph_modifies_the_probabilities() {
        let y = run("Neg").unwrap();
        assert_eq!(y, Tensor::new(&[1, 1, 2, 1], vec![-4_f32, -4.0]).unwrap());
        assert_eq!(
            run("ReduceSum").unwrap_err(),
            "node \"flex\" (FlexAttention), attribute \"prob_mod\": changes the shape, expected [1, 1, 2, 2], got \
             [1, 1, 1, 1]"
        );
    }
}
