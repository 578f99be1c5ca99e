//! The operators, one file each. A new one is a file and two lines here: its `mod` and its entry in `ALL`.

mod abs;
mod acos;
mod acosh;
mod adagrad;
mod adam;
mod add;
mod affine_grid;
mod and;
mod arg_extremum;
mod arg_max;
mod arg_min;
mod array_feature_extractor;
mod asin;
mod asinh;
mod atan;
mod atanh;
mod attention;
mod attention_core;
mod attention_sight;
mod average_pool;
mod axis_maps;
mod batch_normalization;
mod bernoulli;
mod bilinear;
mod binarizer;
mod bit_cast;
mod bit_shift;
mod bitwise_and;
mod bitwise_not;
mod bitwise_or;
mod bitwise_xor;
mod blackman_window;
mod broadcast;
mod cast;
mod cast_like;
mod causal_conv_with_state;
mod ceil;
mod celu;
mod center_crop_pad;
mod clip;
mod col2im;
mod composed;
mod compress;
mod concat;
mod concat_from_sequence;
mod constant;
mod constant_of_shape;
mod conv;
mod conv_gradient;
mod conv_integer;
mod conv_transpose;
mod conv_transpose_gradient;
mod cos;
mod cosh;
mod cosine_window;
mod cum_prod;
mod cum_sum;
mod deform_conv;
mod depth_to_space;
mod dequantize_linear;
mod det;
mod dft;
mod div;
mod dropout;
mod dynamic_product;
mod dynamic_quantize_linear;
mod einsum;
mod elementwise;
mod elementwise_gradient;
mod elu;
mod equal;
mod erf;
mod error_function;
mod exp;
mod expand;
mod eye_like;
mod flatten;
mod flex_attention;
mod float_tensor;
mod floor;
mod fourier;
mod fused_activation;
mod gather;
mod gather_elements;
mod gather_nd;
mod gelu;
mod gemm;
mod gemm_gradient;
mod global_average_pool;
mod global_lp_pool;
mod global_max_pool;
mod global_pool;
mod greater;
mod greater_or_equal;
mod grid_sample;
mod group_normalization;
mod gru;
mod hamming_window;
mod hann_window;
mod hard_sigmoid;
mod hard_swish;
mod hardmax;
mod identity;
mod r#if;
mod instance_normalization;
mod integer_conv;
mod integer_matrix;
mod integer_parts;
mod is_inf;
mod is_nan;
mod label_encoder;
mod layer_normalization;
mod leaky_relu;
mod less;
mod less_or_equal;
mod linear_attention;
mod linear_classifier;
mod linear_model;
mod linear_regressor;
mod log;
mod log_softmax;
mod r#loop;
mod loss;
mod lp_normalization;
mod lp_pool;
mod lrn;
mod lstm;
mod mat_mul;
mod mat_mul_integer;
mod matrix_product;
mod max;
mod max_pool;
mod max_unpool;
mod mean;
mod mean_variance_normalization;
mod mel_weight_matrix;
mod microsoft_attention;
mod microsoft_bias_add;
mod microsoft_bias_gelu;
mod microsoft_bias_softmax;
mod microsoft_dequantize_linear;
mod microsoft_dynamic_quantize_lstm;
mod microsoft_dynamic_quantize_mat_mul;
mod microsoft_embed_layer_normalization;
mod microsoft_fast_gelu;
mod microsoft_fused_conv;
mod microsoft_fused_gemm;
mod microsoft_fused_mat_mul;
mod microsoft_gelu;
mod microsoft_group_query_attention;
mod microsoft_mat_mul_integer_to_float;
mod microsoft_mat_mul_n_bits;
mod microsoft_multi_head_attention;
mod microsoft_nhwc_max_pool;
mod microsoft_q_attention;
mod microsoft_q_embed_layer_normalization;
mod microsoft_q_gemm;
mod microsoft_qlinear_add;
mod microsoft_qlinear_average_pool;
mod microsoft_qlinear_concat;
mod microsoft_qlinear_global_average_pool;
mod microsoft_qlinear_leaky_relu;
mod microsoft_qlinear_mul;
mod microsoft_qlinear_sigmoid;
mod microsoft_qlinear_softmax;
mod microsoft_qlinear_where;
mod microsoft_quantize_linear;
mod microsoft_quick_gelu;
mod microsoft_rotary_embedding;
mod microsoft_skip_layer_normalization;
mod microsoft_skip_simplified_layer_normalization;
mod min;
mod mish;
mod modulo;
mod momentum;
mod movement;
mod movement_gradient;
mod mul;
mod multinomial;
mod neg;
mod negative_log_likelihood_loss;
mod non_max_suppression;
mod non_zero;
mod normalization;
mod normalization_gradient;
mod normalizer;
mod not;
mod number;
mod one_hot;
mod optimizer;
mod optional;
mod optional_get_element;
mod optional_has_element;
mod or;
mod ordering;
mod pad;
mod padding_mask;
mod parameters;
mod pieces;
mod pooling;
mod pooling_gradient;
mod pow;
mod prelu;
mod product_gradient;
mod qlinear_conv;
mod qlinear_mat_mul;
mod quant_parameters;
mod quantize_linear;
mod quantized_kernel;
mod random;
mod random_normal;
mod random_normal_like;
mod random_tensor;
mod random_uniform;
mod random_uniform_like;
mod range;
mod reciprocal;
mod recurrent;
mod reduce_l1;
mod reduce_l2;
mod reduce_log_sum;
mod reduce_log_sum_exp;
mod reduce_max;
mod reduce_mean;
mod reduce_min;
mod reduce_prod;
mod reduce_sum;
mod reduce_sum_square;
mod reduction;
mod reduction_gradient;
mod relu;
mod reshape;
mod resize;
mod resize_axis;
mod resize_gradient;
mod reverse_sequence;
mod rms_normalization;
mod rnn;
mod roi_align;
mod rotary_embedding;
mod rotation;
mod round;
mod rows;
mod running;
mod scaled_product;
mod scaler;
mod scan;
mod scatter;
mod scatter_elements;
mod scatter_nd;
mod selu;
mod sequence_at;
mod sequence_construct;
mod sequence_empty;
mod sequence_erase;
mod sequence_insert;
mod sequence_length;
mod sequence_map;
mod shape;
mod shrink;
mod sigmoid;
mod sign;
mod simplified_layer_normalization;
mod sin;
mod sinh;
mod size;
mod skip_normalization;
mod slice;
mod soft_rows;
mod softmax;
mod softmax_cross_entropy_loss;
mod softplus;
mod softsign;
mod space_to_depth;
mod split;
mod split_to_sequence;
mod sqrt;
mod squeeze;
mod stft;
mod sub;
mod sum;
mod swi_glu;
mod swish;
mod tan;
mod tanh;
mod tensor_scatter;
mod tf_idf_vectorizer;
mod thresholded_relu;
mod tile;
mod top_k;
mod transpose;
mod tree_ensemble;
mod trilu;
mod unique;
mod unsqueeze;
mod volume;
mod r#where;
mod window;
mod xor;

pub(crate) use broadcast::Broadcast;
pub(crate) use conv::Geometry2d;
pub(crate) use dynamic_quantize_linear::dynamic_fake_quantize;
pub(crate) use elementwise_gradient::sum_of_gradients;
pub(crate) use integer_matrix::IntegerMatrix;
pub(crate) use matrix_product::MatrixProduct;
pub(crate) use movement::View;
pub(crate) use pooling::Pool;

use crate::Operator;

/// Every operator, by name.
pub const ALL: &[&dyn Operator] = &[
    &abs::Abs,
    &acos::Acos,
    &acosh::Acosh,
    &adagrad::Adagrad,
    &adam::Adam,
    &add::Add,
    &affine_grid::AffineGrid,
    &and::And,
    &arg_max::ArgMax,
    &arg_min::ArgMin,
    &array_feature_extractor::ArrayFeatureExtractor,
    &asin::Asin,
    &asinh::Asinh,
    &atan::Atan,
    &atanh::Atanh,
    &attention::Attention,
    &average_pool::AveragePool,
    &batch_normalization::BatchNormalization,
    &bernoulli::Bernoulli,
    &binarizer::Binarizer,
    &bit_cast::BitCast,
    &bit_shift::BitShift,
    &bitwise_and::BitwiseAnd,
    &bitwise_not::BitwiseNot,
    &bitwise_or::BitwiseOr,
    &bitwise_xor::BitwiseXor,
    &blackman_window::BlackmanWindow,
    &cast::Cast,
    &cast_like::CastLike,
    &causal_conv_with_state::CausalConvWithState,
    &ceil::Ceil,
    &celu::Celu,
    &center_crop_pad::CenterCropPad,
    &clip::Clip,
    &col2im::Col2Im,
    &compress::Compress,
    &concat::Concat,
    &concat_from_sequence::ConcatFromSequence,
    &constant::Constant,
    &constant_of_shape::ConstantOfShape,
    &conv::Conv,
    &conv_integer::ConvInteger,
    &conv_transpose::ConvTranspose,
    &cos::Cos,
    &cosh::Cosh,
    &cum_prod::CumProd,
    &cum_sum::CumSum,
    &deform_conv::DeformConv,
    &depth_to_space::DepthToSpace,
    &dequantize_linear::DequantizeLinear,
    &det::Det,
    &dft::Dft,
    &div::Div,
    &dropout::Dropout,
    &dynamic_quantize_linear::DynamicQuantizeLinear,
    &einsum::Einsum,
    &elu::Elu,
    &equal::Equal,
    &erf::Erf,
    &exp::Exp,
    &expand::Expand,
    &eye_like::EyeLike,
    &flatten::Flatten,
    &flex_attention::FlexAttention,
    &floor::Floor,
    &gather::Gather,
    &gather_elements::GatherElements,
    &gather_nd::GatherND,
    &gelu::Gelu,
    &gemm::Gemm,
    &global_average_pool::GlobalAveragePool,
    &global_lp_pool::GlobalLpPool,
    &global_max_pool::GlobalMaxPool,
    &greater::Greater,
    &greater_or_equal::GreaterOrEqual,
    &grid_sample::GridSample,
    &group_normalization::GroupNormalization,
    &gru::Gru,
    &hamming_window::HammingWindow,
    &hann_window::HannWindow,
    &hard_sigmoid::HardSigmoid,
    &hard_swish::HardSwish,
    &hardmax::Hardmax,
    &identity::Identity,
    &r#if::If,
    &instance_normalization::InstanceNormalization,
    &is_inf::IsInf,
    &is_nan::IsNaN,
    &label_encoder::LabelEncoder,
    &layer_normalization::LayerNormalization,
    &leaky_relu::LeakyRelu,
    &less::Less,
    &less_or_equal::LessOrEqual,
    &linear_attention::LinearAttention,
    &linear_classifier::LinearClassifier,
    &linear_regressor::LinearRegressor,
    &log::Log,
    &log_softmax::LogSoftmax,
    &r#loop::Loop,
    &lp_normalization::LpNormalization,
    &lp_pool::LpPool,
    &lrn::Lrn,
    &lstm::Lstm,
    &mat_mul::MatMul,
    &mat_mul_integer::MatMulInteger,
    &max::Max,
    &max_pool::MaxPool,
    &max_unpool::MaxUnpool,
    &mean::Mean,
    &mean_variance_normalization::MeanVarianceNormalization,
    &mel_weight_matrix::MelWeightMatrix,
    &microsoft_attention::Attention,
    &microsoft_bias_add::BiasAdd,
    &microsoft_bias_gelu::BiasGelu,
    &microsoft_bias_softmax::BiasSoftmax,
    &microsoft_dequantize_linear::MicrosoftDequantizeLinear,
    &microsoft_dynamic_quantize_lstm::DynamicQuantizeLstm,
    &microsoft_dynamic_quantize_mat_mul::DynamicQuantizeMatMul,
    &microsoft_embed_layer_normalization::EmbedLayerNormalization,
    &microsoft_fast_gelu::FastGelu,
    &microsoft_fused_conv::FusedConv,
    &microsoft_fused_gemm::FusedGemm,
    &microsoft_fused_mat_mul::FusedMatMul,
    &microsoft_fused_mat_mul::TransposeMatMul,
    &microsoft_gelu::Gelu,
    &microsoft_group_query_attention::GroupQueryAttention,
    &microsoft_mat_mul_integer_to_float::MatMulIntegerToFloat,
    &microsoft_mat_mul_n_bits::MatMulNBits,
    &microsoft_multi_head_attention::MultiHeadAttention,
    &microsoft_nhwc_max_pool::NhwcMaxPool,
    &microsoft_q_attention::QAttention,
    &microsoft_q_embed_layer_normalization::QEmbedLayerNormalization,
    &microsoft_q_gemm::QGemm,
    &microsoft_qlinear_add::QLinearAdd,
    &microsoft_qlinear_average_pool::QLinearAveragePool,
    &microsoft_qlinear_concat::QLinearConcat,
    &microsoft_qlinear_global_average_pool::QLinearGlobalAveragePool,
    &microsoft_qlinear_leaky_relu::QLinearLeakyRelu,
    &microsoft_qlinear_mul::QLinearMul,
    &microsoft_qlinear_sigmoid::QLinearSigmoid,
    &microsoft_qlinear_softmax::QLinearSoftmax,
    &microsoft_qlinear_where::QLinearWhere,
    &microsoft_quantize_linear::MicrosoftQuantizeLinear,
    &microsoft_quick_gelu::QuickGelu,
    &microsoft_rotary_embedding::RotaryEmbedding,
    &microsoft_skip_layer_normalization::SkipLayerNormalization,
    &microsoft_skip_simplified_layer_normalization::SkipSimplifiedLayerNormalization,
    &min::Min,
    &mish::Mish,
    &modulo::Mod,
    &momentum::Momentum,
    &mul::Mul,
    &multinomial::Multinomial,
    &neg::Neg,
    &negative_log_likelihood_loss::NegativeLogLikelihoodLoss,
    &non_max_suppression::NonMaxSuppression,
    &non_zero::NonZero,
    &normalizer::Normalizer,
    &not::Not,
    &one_hot::OneHot,
    &optional::Optional,
    &optional_get_element::OptionalGetElement,
    &optional_has_element::OptionalHasElement,
    &or::Or,
    &pad::Pad,
    &pow::Pow,
    &prelu::PRelu,
    &qlinear_conv::MicrosoftQLinearConv,
    &qlinear_conv::QLinearConv,
    &qlinear_mat_mul::QLinearMatMul,
    &quantize_linear::QuantizeLinear,
    &random_normal::RandomNormal,
    &random_normal_like::RandomNormalLike,
    &random_uniform::RandomUniform,
    &random_uniform_like::RandomUniformLike,
    &range::Range,
    &reciprocal::Reciprocal,
    &reduce_l1::ReduceL1,
    &reduce_l2::ReduceL2,
    &reduce_log_sum::ReduceLogSum,
    &reduce_log_sum_exp::ReduceLogSumExp,
    &reduce_max::ReduceMax,
    &reduce_mean::ReduceMean,
    &reduce_min::ReduceMin,
    &reduce_prod::ReduceProd,
    &reduce_sum::ReduceSum,
    &reduce_sum_square::ReduceSumSquare,
    &relu::Relu,
    &reshape::Reshape,
    &resize::Resize,
    &resize::Upsample,
    &reverse_sequence::ReverseSequence,
    &rms_normalization::RMSNormalization,
    &rnn::Rnn,
    &roi_align::RoiAlign,
    &rotary_embedding::RotaryEmbedding,
    &round::Round,
    &scaler::Scaler,
    &scan::Scan,
    &scatter_elements::Scatter,
    &scatter_elements::ScatterElements,
    &scatter_nd::ScatterND,
    &selu::Selu,
    &sequence_at::SequenceAt,
    &sequence_construct::SequenceConstruct,
    &sequence_empty::SequenceEmpty,
    &sequence_erase::SequenceErase,
    &sequence_insert::SequenceInsert,
    &sequence_length::SequenceLength,
    &sequence_map::SequenceMap,
    &shape::Shape,
    &shrink::Shrink,
    &sigmoid::Sigmoid,
    &sign::Sign,
    &simplified_layer_normalization::SimplifiedLayerNormalization,
    &sin::Sin,
    &sinh::Sinh,
    &size::Size,
    &slice::Slice,
    &softmax::Softmax,
    &softmax_cross_entropy_loss::SoftmaxCrossEntropyLoss,
    &softplus::Softplus,
    &softsign::Softsign,
    &space_to_depth::SpaceToDepth,
    &split::Split,
    &split_to_sequence::SplitToSequence,
    &sqrt::Sqrt,
    &squeeze::Squeeze,
    &stft::Stft,
    &sub::Sub,
    &sum::Sum,
    &swi_glu::SwiGLU,
    &swish::Swish,
    &tan::Tan,
    &tanh::Tanh,
    &tensor_scatter::TensorScatter,
    &tf_idf_vectorizer::TfIdfVectorizer,
    &thresholded_relu::ThresholdedRelu,
    &tile::Tile,
    &top_k::TopK,
    &transpose::Transpose,
    &tree_ensemble::TreeEnsemble,
    &trilu::Trilu,
    &unique::Unique,
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
