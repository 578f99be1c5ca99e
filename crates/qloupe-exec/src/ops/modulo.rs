//! Mod: the rest of a division. (`mod` is a keyword of Rust, so the file is `modulo.rs`.)

use qloupe_tensor::Tensor;

use super::div::require_nonzero;
use super::elementwise::{PairFunction, arithmetic, infer_broadcast};
use super::number::Number;
use crate::{EvalContext, Fact, InferContext, LayoutRule, OpError, Operator};

/// `c = a mod b`, broadcast: the sign of `b`, or with `fmod = 1` the sign of `a` (as C `fmod`).
///
/// # Errors
/// An integer divisor that is 0.
#[derive(Debug)]
pub(super) struct Mod;

impl Operator for Mod {
    fn op_type(&self) -> &'static str {
        "Mod"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        infer_broadcast(ctx, ctx.dtype(0))
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        require_nonzero(ctx)?;
        if ctx.int("fmod", 0) != 0 {
            arithmetic::<Remainder>(ctx)
        } else {
            arithmetic::<Modulo>(ctx)
        }
    }
}

struct Modulo;

impl PairFunction for Modulo {
    fn apply<T: Number>(a: T, b: T) -> T {
        a.modulo(b)
    }
}

struct Remainder;

impl PairFunction for Remainder {
    fn apply<T: Number>(a: T, b: T) -> T {
        a.remainder(b)
    }
}
