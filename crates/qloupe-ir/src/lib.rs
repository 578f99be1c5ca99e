//! The graph that qloupe reads, rewrites and runs.
//!
//! The types mirror ONNX: names are strings, as the user wrote them, forever. Nothing here parses bytes (see
//! `qloupe-onnx`), executes nodes (`qloupe-exec`) or knows quantization (`qloupe`).

mod attribute;
mod constant;
mod error;
mod graph;
mod inline;
mod model;
mod nearest;
mod node;
mod order;
mod topology;
mod types;

pub use attribute::{Attribute, AttributeValue};
pub use constant::{Constant, EncodedTensor};
pub use error::IrError;
pub use graph::{Graph, Initializer, ValueInfo};
pub use model::{Function, Model, OpsetImport};
pub use nearest::{nearest_name, suggestion};
pub use node::Node;
pub use topology::Topology;
pub use types::{Dim, Extra, TensorType, ValueType};
