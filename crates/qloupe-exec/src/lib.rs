//! Operators and the executor of qloupe: float, fake-quant, fp16 and integer runs, taps, partial re-execution.
//!
//! The crate knows no calibration, targets or files.

mod backward;
mod body;
mod call;
mod chain;
mod differentiable;
mod element_wise;
mod error;
mod infer;
mod integer;
mod interrupt;
mod operator;
pub mod ops;
mod pool;
mod program;
mod quantized;
mod replay;
mod shape_memo;
mod size_limit;
mod stored;
mod sym_dim;
mod value;
mod walk;

pub use backward::{Backward, GoldenValues, GradientVisitor, Incomplete};
pub use body::BoundBody;
pub use chain::{ChainHead, Watch};
pub use differentiable::{Differentiable, Gradients, PreparedPullback, Pullback, PullbackContext};
pub use element_wise::{ElementSource, ElementSteps};
pub use error::{ExecError, OpError};
pub use infer::{BodyInference, Fact, InferContext};
pub use integer::MOVING_OPERATORS;
pub use interrupt::Interruption;
pub use operator::{
    EvalContext, Layout, LayoutRule, Operator, PrepareContext, Prepared, ValueContext, ValueOperator,
};
pub use pool::{both, in_pool};
pub use program::Program;
pub use quantized::{
    Assignment, Bias, Cast, Form, Mode, QuantizedProgram, QuantizedWalk, Unit, UnitCache, UnitCompute,
    UnitSpec, to_form, to_real,
};
pub use replay::{Replay, Replayed};
pub use size_limit::set_size_limit;
pub use stored::Stored;
pub use sym_dim::SymDim;
pub use value::Value;
pub use walk::{Stepped, Tapped, Walk};

/// One thing for each input or output of a node, in place where they are few: a small network runs hundreds of nodes, each
/// in less time than some allocations take.
type Few<T> = smallvec::SmallVec<[T; 4]>;
