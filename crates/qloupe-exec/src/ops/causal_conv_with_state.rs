//! CausalConvWithState: a convolution of each channel of a signal with its past.

use qloupe_ir::{AttributeValue, Node};
use qloupe_tensor::{DType, Tensor};

use super::attention_core::after_past;
use super::cast::{cast, computing_dtype};
use super::composed::{plain, with_attributes};
use super::conv::Conv;
use super::elementwise::wrong_dtype;
use super::movement::{Run, copy_runs, filled, number};
use super::parameters::require_rank;
use super::swish::Swish;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `y[t] = activation(bias + sum over j of w[j] * x[t - k + 1 + j])` of each channel, and the last k - 1 elements of x.
///
/// What precedes the input is `past_state`, or 0.
#[derive(Debug)]
pub(super) struct CausalConvWithState;

impl Operator for CausalConvWithState {
    fn op_type(&self) -> &'static str {
        "CausalConvWithState"
    }

    fn since_version(&self) -> i64 {
        27
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let state = match (x.shape.as_deref(), ctx.shape(1)) {
            (Some([batch, channels, _]), Some([_, _, kernel])) => Some(vec![
                batch.clone(),
                channels.clone(),
                kernel.minus(&SymDim::known(1)),
            ]),
            _ => None,
        };
        Ok(vec![
            Fact::new(x.dtype, x.shape.clone()),
            Fact::new(x.dtype, state),
        ])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let (x, weight) = (ctx.require(0)?, ctx.require(1)?);
        let dtype = x.dtype();
        if computing_dtype(dtype) != DType::Float32 {
            return Err(wrong_dtype(0, "float32, float16 or bfloat16", dtype));
        }
        require_rank(x, 0, 3)?;
        let (batch, channels, length) = (x.shape()[0], x.shape()[1], x.shape()[2]);
        let kernel = match *weight.shape() {
            [c, 1, kernel] if c == channels && kernel > 0 => kernel,
            _ => {
                return Err(OpError::input(
                    1,
                    format!(
                        "does not fit the input, expected shape [{channels}, 1, k], got {:?}",
                        weight.shape()
                    ),
                ));
            }
        };
        let past_shape = [batch, channels, kernel - 1];
        let past = match ctx.input(3) {
            Some(past) if past.shape() == past_shape => past.clone(),
            Some(past) => {
                return Err(OpError::input(
                    3,
                    format!("wrong shape, expected {past_shape:?}, got {:?}", past.shape()),
                ));
            }
            None => filled(&number(dtype, 0)?, &past_shape)?,
        };
        let signal = after_past(Some(&past), x, 3)?;
        let y = activated(ctx, convolved(ctx, &signal, channels)?)?;
        let last = (0..batch * channels).map(|row| {
            let end = (row + 1) * (length + kernel - 1);
            Run::contiguous(end - (kernel - 1), kernel - 1)
        });
        Ok(vec![cast(&y, dtype)?, copy_runs(&[&signal], &past_shape, last)?])
    }
}

fn convolved(ctx: &EvalContext<'_>, signal: &Tensor, channels: usize) -> Result<Tensor, OpError> {
    let node = Node::new("Conv", "", &["x", "w", "b"], &["y"])
        .with_attribute("group", AttributeValue::Int(channels as i64));
    let signal = cast(signal, DType::Float32)?;
    let weight = cast(ctx.require(1)?, DType::Float32)?;
    match ctx.input(2) {
        Some(bias) => with_attributes(&Conv, &node, &[(0, &signal), (1, &weight), (2, bias)]),
        None => with_attributes(&Conv, &node, &[(0, &signal), (1, &weight)]),
    }
}

fn activated(ctx: &EvalContext<'_>, y: Tensor) -> Result<Tensor, OpError> {
    match ctx.string("activation", "none") {
        "none" => Ok(y),
        "silu" | "swish" => plain(&Swish, &[(0, &y)]),
        other => Err(OpError::attribute(
            "activation",
            format!("unknown value, expected \"none\", \"silu\" or \"swish\", got \"{other}\""),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;

    fn run(node: &Node, x: &Tensor, weight: &Tensor, past: Option<&Tensor>) -> Result<Vec<Tensor>, OpError> {
        CausalConvWithState.eval(&EvalContext {
            node,
            opset: 27,
            layout: Layout::Plain,
            inputs: &[Some(x), Some(weight), None, past],
        })
    }

    #[test]
    fn the_past_comes_before_the_input() {
        let signal = |values: &[f32]| Tensor::new(&[1, 1, values.len()], values.to_vec()).unwrap();
        let (x, weight, past) = (
            signal(&[1.0, 2.0]),
            signal(&[10.0, 1.0, 1.0]),
            signal(&[3.0, 4.0]),
        );
        let outputs = run(&Node::default(), &x, &weight, Some(&past)).unwrap();
        assert_eq!(outputs, [signal(&[35.0, 43.0]), signal(&[1.0, 2.0])]);
        let outputs = run(&Node::default(), &signal(&[1.0]), &weight, None).unwrap();
        assert_eq!(outputs, [signal(&[1.0]), signal(&[0.0, 1.0])]);
        assert_eq!(
            run(
                &Node::default(),
                &x,
                &weight,
                Some(&x.clone().reshape(&[2, 1, 1]).unwrap())
            )
            .unwrap_err()
            .to_string(),
            "input 3: wrong shape, expected [1, 1, 2], got [2, 1, 1]"
        );
    }
}
