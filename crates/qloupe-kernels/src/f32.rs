//! Vectorized float kernels.

pub(crate) mod depthwise;
pub(crate) mod panels;
mod tile;
mod transposed;
mod vector;
