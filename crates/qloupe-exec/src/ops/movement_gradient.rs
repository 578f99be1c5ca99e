//! Pullbacks of operators that move elements: each gradient is added to the element that it came from.
//!
//! Where elements come from is asked of the operator itself: it moves their positions.

use qloupe_tensor::Tensor;

use super::movement::View;
use crate::{EvalContext, OpError, Operator, Pullback, PullbackContext};

/// Below this mean length, runs cost more than single elements.
const SHORT_RUN: usize = 4;

/// Where the elements of an output come from.
enum Sources {
    /// First element of the output, first element of the input, length; what no run covers is a constant.
    Runs(Vec<[usize; 3]>),
    /// For each element of the output one more than the position in the input; 0 for a constant.
    Elements(Vec<u32>),
}

impl Sources {
    fn new(moved: Vec<u32>) -> Self {
        let mut runs: Vec<[usize; 3]> = Vec::new();
        for (to, &from) in moved.iter().enumerate().filter(|(_, from)| **from > 0) {
            let from = from as usize - 1;
            match runs.last_mut() {
                Some([last_to, last_from, len]) if *last_to + *len == to && *last_from + *len == from => {
                    *len += 1;
                }
                _ => runs.push([to, from, 1]),
            }
        }
        if runs.len() * SHORT_RUN > moved.len() {
            Self::Elements(moved)
        } else {
            Self::Runs(runs)
        }
    }

    /// Adds each gradient to the element it came from, in the order of the output.
    fn add(&self, gradient: &[f32], sums: &mut [f32]) {
        match self {
            Self::Runs(runs) => {
                for &[to, from, len] in runs {
                    let sums = &mut sums[from..from + len];
                    for (sum, g) in sums.iter_mut().zip(&gradient[to..to + len]) {
                        *sum += g;
                    }
                }
            }
            Self::Elements(positions) => {
                for (&position, g) in positions.iter().zip(gradient) {
                    if let Some(idx) = position.checked_sub(1) {
                        sums[idx as usize] += g;
                    }
                }
            }
        }
    }
}

/// The pullback of an operator whose first output consists of elements of input 0, and of constants.
///
/// # Errors
/// As [`Operator::eval`]; more elements than positions.
pub(super) fn moved<'a>(operator: &dyn Operator, call: &EvalContext<'_>) -> Result<Pullback<'a>, OpError> {
    let x = call.require(0)?;
    let Ok(n) = u32::try_from(x.len()) else {
        return Err(OpError::unsupported(format!(
            "a gradient of {} elements",
            x.len()
        )));
    };
    let positions = Tensor::new(x.shape(), (1..=n).collect::<Vec<u32>>())?;
    let mut inputs = call.inputs.to_vec();
    inputs[0] = Some(&positions);
    let moved = operator.eval(&EvalContext {
        node: call.node,
        opset: call.opset,
        layout: call.layout,
        inputs: &inputs,
    })?;
    let moved = moved.into_iter().next().ok_or(OpError::MissingInput { idx: 0 })?;
    let sources = Sources::new(moved.into_vec::<u32>()?);
    let shape = x.shape().to_vec();
    Ok(Pullback::of_first(move |gradient| {
        let mut sums = vec![0.0; shape.iter().product()];
        sources.add(gradient.require()?, &mut sums);
        Ok(Tensor::new(&shape, sums)?)
    }))
}

/// The pullback of an operator that only changes the shape of input 0.
///
/// # Errors
/// An absent input.
pub(super) fn reshaped<'a>(ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
    let shape = ctx.call.require(0)?.shape();
    Ok(Pullback::of_first(move |gradient| Ok(gradient.reshape(shape)?)))
}

/// The pullback of a permutation of axes: output axis `i` is input axis `permutation[i]`.
pub(super) fn permuted<'a>(permutation: &[usize]) -> Pullback<'a> {
    let mut inverse = vec![0; permutation.len()];
    for (to, &from) in permutation.iter().enumerate() {
        inverse[from] = to;
    }
    Pullback::of_first(move |gradient| {
        let shape: Vec<usize> = inverse.iter().map(|&axis| gradient.shape()[axis]).collect();
        View::transposed(gradient.shape(), &inverse).copy(&gradient, &shape)
    })
}
