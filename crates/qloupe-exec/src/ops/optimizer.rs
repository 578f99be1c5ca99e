//! One step of an optimizer over several variables: inputs and outputs of Adagrad, Adam and Momentum.
//!
//! # Numerics
//! Each element is computed in f64 and rounded once.

use qloupe_tensor::Tensor;

use super::normalization::{floats, rounded};
use super::parameters::{one_integer, one_number};
use crate::{EvalContext, Fact, InferContext, OpError};

/// The domain of the operators.
pub(super) const DOMAIN: &str = "ai.onnx.preview.training";

/// Inputs before the variables: learning rate and number of steps.
const N_SCALARS: usize = 2;

/// The number of variables, each of which has `n_lists` inputs.
fn n_variables(n_inputs: usize, n_lists: usize) -> Result<usize, OpError> {
    match n_inputs.checked_sub(N_SCALARS) {
        Some(n) if n > 0 && n.is_multiple_of(n_lists) => Ok(n / n_lists),
        _ => Err(OpError::input(
            N_SCALARS,
            format!("wrong number of inputs, expected 2 and {n_lists} for each variable, got {n_inputs}"),
        )),
    }
}

/// Which input list an output list updates: the variables, then their states; gradients (list 1) have no output.
fn updated_list(output: usize) -> usize {
    if output == 0 { 0 } else { output + 1 }
}

/// Applies `step` to every element: its value, gradient and states become its new value and states.
///
/// The inputs are the learning rate, the number of steps, all variables, all gradients, and for each state the states of
/// all variables. `step_of` gets learning rate and number of steps.
///
/// # Errors
/// A number of inputs that does not fit, tensors of a variable that differ in shape.
pub(super) fn optimize<const IN: usize, const OUT: usize, F: Fn([f64; IN]) -> [f64; OUT]>(
    ctx: &EvalContext<'_>,
    step_of: impl Fn(f64, f64) -> F,
) -> Result<Vec<Tensor>, OpError> {
    let n = n_variables(ctx.inputs.len(), IN)?;
    let step = step_of(one_number(ctx, 0)?, one_integer(ctx, 1)? as f64);
    let mut outputs: [Vec<Tensor>; OUT] = std::array::from_fn(|_| Vec::with_capacity(n));
    for variable in 0..n {
        let input = |list: usize| N_SCALARS + list * n + variable;
        let x = ctx.require(input(0))?;
        let mut lists: [Vec<f64>; IN] = std::array::from_fn(|_| Vec::new());
        for (list, values) in lists.iter_mut().enumerate() {
            let tensor = ctx.require(input(list))?;
            if tensor.shape() != x.shape() {
                return Err(OpError::input(
                    input(list),
                    format!("wrong shape, expected {:?}, got {:?}", x.shape(), tensor.shape()),
                ));
            }
            *values = floats(ctx, input(list))?;
        }
        let mut updated: [Vec<f64>; OUT] = std::array::from_fn(|_| Vec::with_capacity(x.len()));
        for i in 0..x.len() {
            let results = step(lists.each_ref().map(|values| values[i]));
            for (updated, result) in updated.iter_mut().zip(results) {
                updated.push(result);
            }
        }
        for (list, (outputs, values)) in outputs.iter_mut().zip(updated).enumerate() {
            let dtype = ctx.require(input(updated_list(list)))?.dtype();
            outputs.push(rounded(x.shape(), values, dtype)?);
        }
    }
    Ok(outputs.into_iter().flatten().collect())
}

/// The facts of the outputs of [`optimize`].
///
/// # Errors
/// A number of inputs that does not fit.
pub(super) fn infer_optimizer(ctx: &InferContext<'_>, n_lists: usize) -> Result<Vec<Fact>, OpError> {
    let n = n_variables(ctx.inputs.len(), n_lists)?;
    (0..(n_lists - 1) * n)
        .map(|output| {
            let input = N_SCALARS + updated_list(output / n) * n + output % n;
            let fact = ctx.require(input)?;
            Ok(Fact::new(fact.dtype, fact.shape.clone()))
        })
        .collect()
}
