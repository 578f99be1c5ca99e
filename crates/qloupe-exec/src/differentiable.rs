//! The seam of derivatives: what an operator declares so that gradients flow back through its calls.
//!
//! The vector-Jacobian product of a call is its pullback: from the gradients of the outputs to those of the inputs. It is
//! made once for a call and applied to as many gradients as there are.

use std::fmt::Debug;

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use crate::{EvalContext, OpError, PrepareContext};

/// What an operator may ask when it makes a pullback.
#[derive(Debug)]
pub struct PullbackContext<'a> {
    /// The call: its node, its inputs, the order of rank-4 tensors.
    pub call: EvalContext<'a>,
    /// What the call computed; `None` for outputs without a name.
    pub outputs: &'a [Option<&'a Tensor>],
    /// Whether the gradient of an input is wanted.
    pub wanted: &'a [bool],
}

impl<'a> PullbackContext<'a> {
    /// An output that must be there.
    ///
    /// # Errors
    /// [`OpError::Unsupported`].
    pub fn output(&self, idx: usize) -> Result<&'a Tensor, OpError> {
        let output = self.outputs.get(idx).copied().flatten();
        output.ok_or_else(|| OpError::unsupported(format!("a gradient without output {idx}")))
    }

    /// Whether the gradient of an input is wanted.
    pub fn wants(&self, idx: usize) -> bool {
        self.wanted.get(idx).copied().unwrap_or(false)
    }
}

/// A gradient for each output or input; `None` where nothing flows.
pub type Gradients = Vec<Option<Tensor>>;

type Apply<'a> = dyn Fn(Gradients) -> Result<Gradients, OpError> + Send + Sync + 'a;

/// The vector-Jacobian product of a call: from the gradients of its outputs to those of its inputs, all float32, each with
/// the shape of its value in the order of the call.
pub struct Pullback<'a>(Box<Apply<'a>>);

impl Debug for Pullback<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pullback")
    }
}

impl<'a> Pullback<'a> {
    /// Any function of the gradients of the outputs.
    pub fn new(apply: impl Fn(Gradients) -> Result<Gradients, OpError> + Send + Sync + 'a) -> Self {
        Self(Box::new(apply))
    }

    /// From the gradient of the first output to that of the first input.
    pub fn of_first(apply: impl Fn(Tensor) -> Result<Tensor, OpError> + Send + Sync + 'a) -> Self {
        Self::new(move |mut gradients| {
            let gradient = gradients.first_mut().and_then(Option::take);
            Ok(vec![gradient.map(&apply).transpose()?])
        })
    }

    /// The gradients of the inputs. Those that were not asked for may be missing.
    ///
    /// # Errors
    /// Gradients that do not fit.
    pub fn apply(&self, gradients: Gradients) -> Result<Gradients, OpError> {
        self.0(gradients)
    }
}

/// An operator with a vector-Jacobian product.
pub trait Differentiable: Debug + Sync {
    /// Whether the gradient of an input can be had. What depends on another input as well has an incomplete gradient.
    fn covers(&self, _node: &Node, input_idx: usize) -> bool {
        input_idx == 0
    }

    /// Whether the pullback looks at outputs. A call with one output that it does not look at gets none.
    fn reads_outputs(&self) -> bool {
        false
    }

    /// Packs constants once, if the operator gains from it.
    ///
    /// # Errors
    /// Constants that do not fit the operator.
    fn prepare_pullback(
        &self,
        _ctx: &PrepareContext<'_>,
    ) -> Result<Option<Box<dyn PreparedPullback>>, OpError> {
        Ok(None)
    }

    /// The pullback at the inputs of a call. At a kink it takes one of the slopes.
    ///
    /// # Errors
    /// [`OpError::Unsupported`] for a variant without a pullback; inputs that do not fit.
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError>;
}

/// A differentiable operator with its constants packed.
pub trait PreparedPullback: Debug + Send + Sync {
    /// As [`Differentiable::pullback`]; constant inputs are in the context too.
    ///
    /// # Errors
    /// As [`Differentiable::pullback`].
    fn pullback<'a>(&'a self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError>;
}
