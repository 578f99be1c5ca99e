//! Multinomial: classes drawn with given log-probabilities.

use qloupe_tensor::{DType, Tensor};

use super::cast::cast;
use super::movement::{count, reserved};
use super::normalization::floats;
use super::parameters::{dtype_attribute, require_rank};
use super::random::Random;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `sample_size` classes for each row, class `c` with a probability proportional to `e^x[c]`.
///
/// The same classes in every run: they depend on the seed, or without one on the name of the output.
///
/// # Shapes
/// x: `[batch, classes]`; y: `[batch, sample_size]`, int32 or int64.
#[derive(Debug)]
pub(super) struct Multinomial;

fn sample_size(node: &qloupe_ir::Node) -> Result<usize, OpError> {
    let size = node.int("sample_size").unwrap_or(1);
    usize::try_from(size).map_err(|_| {
        OpError::attribute(
            "sample_size",
            format!("negative size, expected at least 0, got {size}"),
        )
    })
}

fn dtype(node: &qloupe_ir::Node) -> Result<DType, OpError> {
    match dtype_attribute(node, "dtype")?.unwrap_or(DType::Int32) {
        dtype @ (DType::Int32 | DType::Int64) => Ok(dtype),
        other => Err(OpError::attribute(
            "dtype",
            format!("wrong dtype, expected int32 or int64, got {other}"),
        )),
    }
}

impl Operator for Multinomial {
    fn op_type(&self) -> &'static str {
        "Multinomial"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let size = SymDim::from(sample_size(ctx.node)?);
        let batch = ctx.shape(0).and_then(|shape| shape.first()).cloned();
        let shape = batch.map(|batch| vec![batch, size]);
        Ok(vec![Fact::new(Some(dtype(ctx.node)?), shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        require_rank(x, 0, 2)?;
        let (shape, n_classes) = ([x.shape()[0], sample_size(ctx.node)?], x.shape()[1]);
        let random = Random::of(ctx.node);
        let mut drawn: Vec<i64> = reserved(count(&shape)?)?;
        for row in floats(ctx, 0)?.chunks_exact(n_classes.max(1)) {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let cumulative: Vec<f64> = row
                .iter()
                .scan(0.0, |sum, x| {
                    *sum += (x - largest).exp();
                    Some(*sum)
                })
                .collect();
            let total = cumulative.last().copied().unwrap_or(0.0);
            if !(total > 0.0 && total.is_finite()) {
                return Err(OpError::input(
                    0,
                    "a row without a class of finite log-probability",
                ));
            }
            for _ in 0..shape[1] {
                let point = random.uniform(drawn.len()) * total;
                drawn.push(cumulative.partition_point(|&sum| sum <= point) as i64);
            }
        }
        Ok(vec![cast(&Tensor::new(&shape, drawn)?, dtype(ctx.node)?)?])
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;
    use crate::Layout;

    #[test]
    fn classes_come_as_often_as_their_probabilities_say() {
        let node = Node::new("Multinomial", "", &["x"], &["y"])
            .with_attribute("sample_size", AttributeValue::Int(8000));
        let run = |row: [f32; 3]| {
            let x = Tensor::new(&[1, 3], row.to_vec()).unwrap();
            let ctx = EvalContext {
                node: &node,
                opset: 7,
                layout: Layout::Plain,
                inputs: &[Some(&x)],
            };
            Multinomial.eval(&ctx)
        };
        let y = run([0.0, f32::NEG_INFINITY, 3.0_f32.ln()]).unwrap();
        let counts = [0, 1, 2].map(|class| {
            y[0].as_slice::<i32>()
                .unwrap()
                .iter()
                .filter(|&&c| c == class)
                .count()
        });
        assert!(
            counts[1] == 0 && (1850..2150).contains(&counts[0]),
            "expected about 2000, 0 and 6000, got {counts:?}"
        );
        assert_eq!(
            run([f32::NEG_INFINITY; 3]).unwrap_err().to_string(),
            "input 0: a row without a class of finite log-probability"
        );
    }
}
