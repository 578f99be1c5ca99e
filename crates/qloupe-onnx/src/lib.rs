//! Lossless ONNX reader and writer of qloupe.
//!
//! This crate owns the bytes: the protobuf wire format, the ONNX messages, stored tensors and external data. Hostile
//! input stops here: every length, count, path and nesting depth is checked, and nothing panics. It knows no
//! quantization and does not check whether a graph makes sense (see `qloupe_ir::Topology`).
//!
//! # What a round trip keeps
//!
//! Everything the file says. Fields that qloupe does not interpret are kept in [`qloupe_ir::Extra`], and so is a
//! field that is present although it holds its default, and a message that is spelled in another way than the writer
//! would. Untouched tensors are written back byte for byte. A file that the standard protobuf serializer wrote
//! comes out byte-identical. Otherwise the writer's normal form says the same with fields in number order, singular
//! fields once, `floats` and `ints` of attributes unpacked, and the `type` and value of an attribute always present.
//!
//! # Memory
//!
//! A model is mapped, not read; tensors are decoded on demand. Hostile files can make the graph take at most about 50
//! bytes of memory for each byte of the file.

mod atomic_file;
mod attribute;
mod elements;
mod error;
mod external_data;
mod foreign_file;
mod function;
mod graph;
mod mapped_file;
mod model;
mod node;
mod place;
mod read;
mod source;
mod spelling;
mod stored_tensor;
mod tensor_writer;
mod value_info;
mod wire_reader;
mod wire_writer;
mod write;

pub use atomic_file::AtomicFile;
pub use error::{OnnxError, OnnxErrorKind};
pub use read::{read_model, read_model_bytes};
pub use write::{model_to_bytes, write_model};
