//! The operators, one file each. A new one is a file and two lines here: its `mod` and its entry in `ALL`.

mod abs;
mod acos;
mod acosh;
mod add;
mod and;
mod asin;
mod asinh;
mod atan;
mod atanh;
mod average_pool;
mod axis_maps;
mod bit_shift;
mod bitwise_and;
mod bitwise_not;
mod bitwise_or;
mod bitwise_xor;
mod broadcast;
mod cast;
mod cast_like;
mod ceil;
mod celu;
mod clip;
mod compress;
mod concat;
mod constant;
mod constant_of_shape;
mod conv;
mod conv_transpose;
mod cos;
mod cosh;
mod depth_to_space;
mod div;
mod dropout;
mod elementwise;
mod elu;
mod equal;
mod erf;
mod error_function;
mod exp;
mod expand;
mod eye_like;
mod flatten;
mod float_tensor;
mod floor;
mod gather;
mod gather_elements;
mod gather_nd;
mod gelu;
mod global_average_pool;
mod global_lp_pool;
mod global_max_pool;
mod global_pool;
mod greater;
mod greater_or_equal;
mod hard_sigmoid;
mod hard_swish;
mod identity;
mod is_inf;
mod is_nan;
mod leaky_relu;
mod less;
mod less_or_equal;
mod log;
mod lp_pool;
mod max;
mod max_pool;
mod mean;
mod min;
mod mish;
mod modulo;
mod movement;
mod mul;
mod neg;
mod non_zero;
mod not;
mod number;
mod one_hot;
mod or;
mod ordering;
mod pad;
mod parameters;
mod pooling;
mod pow;
mod prelu;
mod range;
mod reciprocal;
mod relu;
mod reshape;
mod resize;
mod resize_axis;
mod reverse_sequence;
mod round;
mod scatter;
mod scatter_elements;
mod scatter_nd;
mod selu;
mod shape;
mod sigmoid;
mod sign;
mod sin;
mod sinh;
mod size;
mod slice;
mod softplus;
mod softsign;
mod space_to_depth;
mod split;
mod sqrt;
mod squeeze;
mod sub;
mod sum;
mod tan;
mod tanh;
mod thresholded_relu;
mod tile;
mod top_k;
mod transpose;
mod trilu;
mod unsqueeze;
mod volume;
mod r#where;
mod window;
mod xor;

pub(crate) use broadcast::Broadcast;
pub(crate) use conv::Geometry2d;

use crate::Operator;

/// Every operator, by name.
pub const ALL: &[&dyn Operator] = &[
    &abs::Abs,
    &acos::Acos,
    &acosh::Acosh,
    &add::Add,
    &and::And,
    &asin::Asin,
    &asinh::Asinh,
    &atan::Atan,
    &atanh::Atanh,
    &average_pool::AveragePool,
    &bit_shift::BitShift,
    &bitwise_and::BitwiseAnd,
    &bitwise_not::BitwiseNot,
    &bitwise_or::BitwiseOr,
    &bitwise_xor::BitwiseXor,
    &cast::Cast,
    &cast_like::CastLike,
    &ceil::Ceil,
    &celu::Celu,
    &clip::Clip,
    &compress::Compress,
    &concat::Concat,
    &constant::Constant,
    &constant_of_shape::ConstantOfShape,
    &conv::Conv,
    &conv_transpose::ConvTranspose,
    &cos::Cos,
    &cosh::Cosh,
    &depth_to_space::DepthToSpace,
    &div::Div,
    &dropout::Dropout,
    &elu::Elu,
    &equal::Equal,
    &erf::Erf,
    &exp::Exp,
    &expand::Expand,
    &eye_like::EyeLike,
    &flatten::Flatten,
    &floor::Floor,
    &gather::Gather,
    &gather_elements::GatherElements,
    &gather_nd::GatherND,
    &gelu::Gelu,
    &global_average_pool::GlobalAveragePool,
    &global_lp_pool::GlobalLpPool,
    &global_max_pool::GlobalMaxPool,
    &greater::Greater,
    &greater_or_equal::GreaterOrEqual,
    &hard_sigmoid::HardSigmoid,
    &hard_swish::HardSwish,
    &identity::Identity,
    &is_inf::IsInf,
    &is_nan::IsNaN,
    &leaky_relu::LeakyRelu,
    &less::Less,
    &less_or_equal::LessOrEqual,
    &log::Log,
    &lp_pool::LpPool,
    &max::Max,
    &max_pool::MaxPool,
    &mean::Mean,
    &min::Min,
    &mish::Mish,
    &modulo::Mod,
    &mul::Mul,
    &neg::Neg,
    &non_zero::NonZero,
    &not::Not,
    &one_hot::OneHot,
    &or::Or,
    &pad::Pad,
    &pow::Pow,
    &prelu::PRelu,
    &range::Range,
    &reciprocal::Reciprocal,
    &relu::Relu,
    &reshape::Reshape,
    &resize::Resize,
    &resize::Upsample,
    &reverse_sequence::ReverseSequence,
    &round::Round,
    &scatter_elements::Scatter,
    &scatter_elements::ScatterElements,
    &scatter_nd::ScatterND,
    &selu::Selu,
    &shape::Shape,
    &sigmoid::Sigmoid,
    &sign::Sign,
    &sin::Sin,
    &sinh::Sinh,
    &size::Size,
    &slice::Slice,
    &softplus::Softplus,
    &softsign::Softsign,
    &space_to_depth::SpaceToDepth,
    &split::Split,
    &sqrt::Sqrt,
    &squeeze::Squeeze,
    &sub::Sub,
    &sum::Sum,
    &tan::Tan,
    &tanh::Tanh,
    &thresholded_relu::ThresholdedRelu,
    &tile::Tile,
    &top_k::TopK,
    &transpose::Transpose,
    &trilu::Trilu,
    &unsqueeze::Unsqueeze,
    &r#where::Where,
    &xor::Xor,
];

/// The operator of a name and domain.
pub fn find(op_type: &str, domain: &str) -> Option<&'static dyn Operator> {
    let domain = if domain == "ai.onnx" { "" } else { domain };
    ALL.iter()
        .copied()
        .find(|op| op.op_type() == op_type && op.domain() == domain)
}
