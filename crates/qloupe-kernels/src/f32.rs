//! Vectorized float kernels.

#[cfg(target_arch = "x86_64")]
pub(crate) mod depthwise;
#[cfg(target_arch = "x86_64")]
pub(crate) mod panels;
#[cfg(target_arch = "x86_64")]
pub(crate) mod tile;
#[cfg(target_arch = "x86_64")]
mod vector;
