//! The operators, one file each. A new one is a file and two lines here: its `mod` and its entry in `ALL`.

mod average_pool;
mod concat;
mod constant;
mod constant_of_shape;
mod conv;
mod conv_transpose;
mod expand;
mod flatten;
mod float_tensor;
mod gather;
mod gather_elements;
mod gather_nd;
mod global_average_pool;
mod global_lp_pool;
mod global_max_pool;
mod global_pool;
mod lp_pool;
mod max_pool;
mod movement;
mod parameters;
mod pooling;
mod range;
mod relu;
mod reshape;
mod scatter;
mod scatter_elements;
mod scatter_nd;
mod shape;
mod size;
mod slice;
mod split;
mod squeeze;
mod tile;
mod transpose;
mod unsqueeze;
mod volume;
mod window;

use crate::Operator;

/// Every operator, by name.
pub const ALL: &[&dyn Operator] = &[
    &average_pool::AveragePool,
    &concat::Concat,
    &constant::Constant,
    &constant_of_shape::ConstantOfShape,
    &conv::Conv,
    &conv_transpose::ConvTranspose,
    &expand::Expand,
    &flatten::Flatten,
    &gather::Gather,
    &gather_elements::GatherElements,
    &gather_nd::GatherND,
    &global_average_pool::GlobalAveragePool,
    &global_lp_pool::GlobalLpPool,
    &global_max_pool::GlobalMaxPool,
    &lp_pool::LpPool,
    &max_pool::MaxPool,
    &range::Range,
    &relu::Relu,
    &reshape::Reshape,
    &scatter_elements::Scatter,
    &scatter_elements::ScatterElements,
    &scatter_nd::ScatterND,
    &shape::Shape,
    &size::Size,
    &slice::Slice,
    &split::Split,
    &squeeze::Squeeze,
    &tile::Tile,
    &transpose::Transpose,
    &unsqueeze::Unsqueeze,
];

/// The operator of a name and domain.
pub fn find(op_type: &str, domain: &str) -> Option<&'static dyn Operator> {
    let domain = if domain == "ai.onnx" { "" } else { domain };
    ALL.iter()
        .copied()
        .find(|op| op.op_type() == op_type && op.domain() == domain)
}
