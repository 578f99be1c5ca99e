//! Owns files of arrays: `.npy`, `.npz`, `.safetensors`. Knows nothing of models and samples.

mod bytes;
mod error;
mod file;
mod npy;
mod npz;
mod safetensors;

pub use error::ArrayError;
pub use file::{ArrayFile, ArrayInfo};
pub(crate) use npy::dump_npy;
pub use npy::write_npy;
pub use npz::{Compression, write_npz};
