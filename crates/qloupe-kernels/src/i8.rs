//! Vectorized integer kernels.

pub(crate) mod amx;
mod clip512;
pub(crate) mod depthwise;
mod folded_bias;
pub(crate) mod panels;
mod tile;
pub(crate) mod vector;
