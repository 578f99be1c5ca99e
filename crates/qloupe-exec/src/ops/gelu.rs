//! Gelu: the Gaussian error linear unit.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use qloupe_kernels::{UnaryKernel, unary_in_place};
use qloupe_tensor::Tensor;

use super::elementwise_gradient::{by_slopes, kernel_of};
use super::{elementwise::float_unary, error_function::error_function};
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback, PullbackContext,
};

/// The coefficient of the tanh approximation (Hendrycks and Gimpel 2016).
const CUBIC: f64 = 0.044_715;

/// `y = x/2 * (1 + erf(x / sqrt(2)))`, or with `approximate = "tanh"` `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`.
#[derive(Debug)]
pub(super) struct Gelu;

impl Operator for Gelu {
    fn op_type(&self) -> &'static str {
        "Gelu"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        ctx.same_as_input()
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        match ctx.string("approximate", "none") {
            "none" => float_unary(
                ctx,
                |x, out| gate(UnaryKernel::Erf, x, out, |x| x * FRAC_1_SQRT_2 as f32),
                |x| 0.5 * x * (1.0 + error_function(x * FRAC_1_SQRT_2)),
            ),
            "tanh" => {
                let slope = FRAC_2_PI.sqrt();
                float_unary(
                    ctx,
                    |x, out| {
                        gate(UnaryKernel::Tanh, x, out, |x| {
                            slope as f32 * (x + CUBIC as f32 * x * x * x)
                        })
                    },
                    |x| 0.5 * x * (1.0 + (slope * (x + CUBIC * x * x * x)).tanh()),
                )
            }
            other => Err(OpError::attribute(
                "approximate",
                format!("unknown value, expected \"none\" or \"tanh\", got \"{other}\""),
            )),
        }
    }
}

impl Differentiable for Gelu {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let tanh_form = ctx.call.string("approximate", "none") == "tanh";
        by_slopes(ctx, |x| {
            if tanh_form {
                slopes_of_tanh_form(x)
            } else {
                slopes(x)
            }
        })
    }
}

/// `(1 + erf(x / sqrt(2))) / 2 + x * e^(-x^2 / 2) / sqrt(2 pi)`
fn slopes(x: &[f32]) -> Vec<f32> {
    let mut slopes = kernel_of(UnaryKernel::Erf, x, |x| x * FRAC_1_SQRT_2 as f32);
    let bells = kernel_of(UnaryKernel::Exp, x, |x| -0.5 * x * x);
    let height = (0.5 * FRAC_2_PI.sqrt() * FRAC_1_SQRT_2 * std::f64::consts::SQRT_2) as f32;
    for ((slope, bell), x) in slopes.iter_mut().zip(bells).zip(x) {
        *slope = 0.5 * (1.0 + *slope) + x * bell * height;
    }
    slopes
}

/// `(1 + t) / 2 + x / 2 * (1 - t^2) * sqrt(2/pi) * (1 + 3 * 0.044715 x^2)` with the tanh `t`.
fn slopes_of_tanh_form(x: &[f32]) -> Vec<f32> {
    let slope = FRAC_2_PI.sqrt() as f32;
    let cubic = CUBIC as f32;
    let mut slopes = kernel_of(UnaryKernel::Tanh, x, |x| slope * (x + cubic * x * x * x));
    for (t, x) in slopes.iter_mut().zip(x) {
        let inner = slope * (1.0 + 3.0 * cubic * x * x);
        *t = 0.5 * (1.0 + *t) + 0.5 * x * (1.0 - *t * *t) * inner;
    }
    slopes
}

/// `out = x / 2 * (1 + kernel(inner(x)))`
fn gate(kernel: UnaryKernel, x: &[f32], out: &mut [f32], inner: impl Fn(f32) -> f32) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = inner(x);
    }
    unary_in_place(kernel, out);
    for (out, &x) in out.iter_mut().zip(x) {
        *out = 0.5 * x * (1.0 + *out);
    }
}
