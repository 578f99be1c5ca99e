//! Vectorized float kernels.

pub(crate) mod depthwise;
pub(crate) mod panels;
pub(crate) mod tile;
mod vector;
