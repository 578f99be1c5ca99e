//! Vectorized integer kernels.

pub(crate) mod depthwise;
pub(crate) mod panels;
mod tile;
pub(crate) mod vector;
