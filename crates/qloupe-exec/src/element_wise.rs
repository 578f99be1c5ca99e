//! What an operator computes element by element on float32, spelled out in kernel functions, so that it can follow the
//! kernel of another operator while values are in the cache.

use qloupe_kernels::{BinaryKernel, ElementWise, UnaryKernel};

use crate::PrepareContext;

/// What a step of an element-wise operator reads.
#[derive(Clone, Debug)]
pub enum ElementSource {
    /// An input of the node.
    Input(usize),
    /// The result of an earlier step of the same operator.
    Step(usize),
    /// One number for each channel: axis 1 in ONNX order.
    Channels(Vec<f32>),
}

/// An element-wise operator on float32 as steps of kernels; the last one is its output. The bits are those of
/// [`Operator::eval`](crate::Operator::eval).
#[derive(Clone, Debug)]
pub struct ElementSteps(pub(crate) Vec<(ElementWise, [ElementSource; 2])>);

impl ElementSteps {
    /// A function of input 0.
    pub(crate) fn unary(kernel: UnaryKernel) -> Option<Self> {
        let sources = [ElementSource::Input(0), ElementSource::Input(0)];
        Some(Self(vec![(ElementWise::Unary(kernel), sources)]))
    }

    /// A function of inputs 0 and 1, for a node that has just these.
    pub(crate) fn binary(kernel: BinaryKernel, ctx: &PrepareContext<'_>) -> Option<Self> {
        let sources = [ElementSource::Input(0), ElementSource::Input(1)];
        (ctx.node.inputs.len() == 2).then(|| Self(vec![(ElementWise::Binary(kernel), sources)]))
    }
}
