//! The safetensors format: a JSON header, then the bytes of all arrays. Only the header is read here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use qloupe_tensor::DType;
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::ArrayError;
use super::error::Place;
use super::file::{ArrayInfo, Storage};

/// The longest header that is read, as the format's own library has it.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Every array of the file, by name, and its place.
pub(super) fn read_directory(path: &Path, mut file: File) -> Result<Vec<(ArrayInfo, Storage)>, ArrayError> {
    let whole = Place {
        file: path,
        array: "",
    };
    let file_bytes = file.metadata().map_err(|e| whole.read(e))?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|e| whole.read(e))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES || length > file_bytes {
        return Err(whole.malformed(format!(
            "not a safetensors file: header of {length} bytes in a file of {file_bytes}"
        )));
    }
    let mut header = Vec::new();
    file.take(length)
        .read_to_end(&mut header)
        .map_err(|e| whole.read(e))?;
    let metadata: Metadata = serde_json::from_slice(&header)
        .map_err(|e| whole.malformed(format!("not a safetensors file: {e}")))?;
    let data_start = 8 + length;
    let expected = u64::try_from(metadata.data_len())
        .unwrap_or(u64::MAX)
        .saturating_add(data_start);
    if expected != file_bytes {
        return Err(whole.malformed(format!(
            "wrong file size, expected {expected} bytes, got {file_bytes}"
        )));
    }
    let arrays: BTreeMap<_, _> = metadata.tensors().into_iter().collect();
    arrays
        .into_iter()
        .map(|(name, info)| {
            let place = Place {
                file: path,
                array: &name,
            };
            let dtype = dtype_of(info.dtype).ok_or_else(|| {
                place.unsupported(
                    format!("dtype {:?}", info.dtype),
                    "convert it to a dtype of whole bytes",
                )
            })?;
            let (start, end) = info.data_offsets;
            let [start, end] = [start, end].map(|x| u64::try_from(x).unwrap_or(u64::MAX));
            let storage = Storage {
                start: data_start + start,
                packed_bytes: end - start,
                size_bytes: end - start,
                deflated: false,
                crc: None,
            };
            let shape = info.shape.clone();
            Ok((ArrayInfo { name, dtype, shape }, storage))
        })
        .collect()
}

fn dtype_of(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::UInt8,
        Dtype::I8 => DType::Int8,
        Dtype::U16 => DType::UInt16,
        Dtype::I16 => DType::Int16,
        Dtype::U32 => DType::UInt32,
        Dtype::I32 => DType::Int32,
        Dtype::U64 => DType::UInt64,
        Dtype::I64 => DType::Int64,
        Dtype::F16 => DType::Float16,
        Dtype::BF16 => DType::BFloat16,
        Dtype::F32 => DType::Float32,
        Dtype::F64 => DType::Float64,
        Dtype::C64 => DType::Complex64,
        Dtype::F8_E4M3 => DType::Float8E4M3FN,
        Dtype::F8_E5M2 => DType::Float8E5M2,
        Dtype::F8_E4M3FNUZ => DType::Float8E4M3FNUZ,
        Dtype::F8_E5M2FNUZ => DType::Float8E5M2FNUZ,
        Dtype::F8_E8M0 => DType::Float8E8M0,
        _ => return None,
    })
}
