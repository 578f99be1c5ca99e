//! Element-wise functions of one operand.

use crate::multiversion::multiversion;
use crate::specification::clip;
use crate::{Isa, isa, math, parallel};

/// An element-wise function of one operand. NaN gives NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UnaryKernel {
    /// `|x|`
    Abs,
    /// `max(min, x)`, then `min(max, ..)`
    Clip {
        /// The smallest result.
        min: f32,
        /// The largest result.
        max: f32,
    },
    /// `x` if positive, else `alpha * (exp(x) - 1)`
    Elu {
        /// The negative limit.
        alpha: f32,
    },
    /// The error function.
    Erf,
    /// `e^x`
    Exp,
    /// `max(0, min(1, alpha * x + beta))`
    HardSigmoid {
        /// The slope.
        alpha: f32,
        /// The value at 0.
        beta: f32,
    },
    /// `x * max(0, min(1, x / 6 + 0.5))`
    HardSwish,
    /// `x` if not negative, else `alpha * x`
    LeakyRelu {
        /// The slope of the negative side.
        alpha: f32,
    },
    /// Natural logarithm.
    Log,
    /// `-x`
    Neg,
    /// `1 / x`
    Reciprocal,
    /// `max(0, x)`
    Relu,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `x * sigmoid(x)`: the bits of a Sigmoid followed by a Mul.
    Silu,
    /// `log(1 + e^x)`
    Softplus,
    /// Square root, correctly rounded.
    Sqrt,
    /// Hyperbolic tangent.
    Tanh,
}

/// `out[i] = kernel(x[i])`.
pub fn unary(kernel: UnaryKernel, x: &[f32], out: &mut [f32]) {
    unary_with_isa(isa(), kernel, x, out);
}

/// `values[i] = kernel(values[i])`.
pub fn unary_in_place(kernel: UnaryKernel, values: &mut [f32]) {
    let isa = isa();
    parallel::fold_chunks_mut(values, |values| apply_in_place(isa, kernel, values), |(), ()| ());
}

/// [`unary`] for one instruction set, to compare them.
#[doc(hidden)]
pub fn unary_with_isa(isa: Isa, kernel: UnaryKernel, x: &[f32], out: &mut [f32]) {
    isa.require();
    parallel::zip_chunks(x, out, |x, out| {
        for (x, out) in x.chunks(CACHED).zip(out.chunks_mut(CACHED)) {
            out.copy_from_slice(x);
            apply_in_place(isa, kernel, out);
        }
    });
}

/// Elements that are copied and then computed on while they are in the L1 cache.
const CACHED: usize = 2048;

multiversion! {
    fn each [F: Fn(f32) -> f32] (values: &mut [f32], f: F) {
        for v in values {
            *v = f(*v);
        }
    }
}

pub(crate) fn apply_in_place(isa: Isa, kernel: UnaryKernel, values: &mut [f32]) {
    use UnaryKernel as K;
    match kernel {
        K::Abs => each(isa, values, f32::abs),
        K::Clip { min, max } => each(isa, values, |x| clip(x, (min, max))),
        K::Elu { alpha } => each(isa, values, |x| {
            if x > 0.0 { x } else { alpha * (math::exp(x) - 1.0) }
        }),
        K::Erf => each(isa, values, math::erf),
        K::Exp => each(isa, values, math::exp),
        K::HardSigmoid { alpha, beta } => each(isa, values, |x| clip(alpha * x + beta, (0.0, 1.0))),
        K::HardSwish => each(isa, values, |x| x * clip(x * (1.0 / 6.0) + 0.5, (0.0, 1.0))),
        K::LeakyRelu { alpha } => each(isa, values, |x| if x < 0.0 { alpha * x } else { x }),
        K::Log => each(isa, values, math::log),
        K::Neg => each(isa, values, |x| -x),
        K::Reciprocal => each(isa, values, |x| 1.0 / x),
        K::Relu => each(isa, values, |x| if 0.0 > x { 0.0 } else { x }),
        K::Sigmoid => each(isa, values, math::sigmoid),
        K::Silu => each(isa, values, |x| x * math::sigmoid(x)),
        K::Softplus => each(isa, values, math::softplus),
        K::Sqrt => each(isa, values, f32::sqrt),
        K::Tanh => each(isa, values, math::tanh),
    }
}
