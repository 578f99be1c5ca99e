//! The `.npz` format: a zip archive with one `.npy` for each array, stored or deflated.

use std::fs::File;
use std::io::{BufReader, Cursor, Write};
use std::path::Path;

use qloupe_tensor::Tensor;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::ArrayError;
use super::error::Place;
use super::file::Storage;
use super::npy::npy_bytes;
use crate::write::write_atomically;

/// Deflate cannot make data smaller than this: 258 bytes for 2 bits.
const MAX_DEFLATE_RATIO: u64 = 1032;

/// How the arrays of an `.npz` are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As they are (`numpy.savez`): samples are found without reading the ones before.
    Stored,
    /// Smaller and slower (`numpy.savez_compressed`).
    Deflated,
}

/// Writes arrays as `.npz`; the same arrays give the same bytes.
///
/// # Errors
/// [`ArrayError::Unwritable`] for dtypes that NumPy lacks, [`ArrayError::Write`].
pub fn write_npz(
    path: &Path,
    arrays: &[(String, Tensor)],
    compression: Compression,
) -> Result<(), ArrayError> {
    let method = match compression {
        Compression::Stored => CompressionMethod::Stored,
        Compression::Deflated => CompressionMethod::Deflated,
    };
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, tensor) in arrays {
        let place = Place {
            file: path,
            array: name,
        };
        let bytes = npy_bytes(tensor, place)?;
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .large_file(u32::try_from(bytes.len()).is_err());
        archive
            .start_file(format!("{name}.npy"), options)
            .map_err(|e| place.malformed(e.to_string()))?;
        archive.write_all(&bytes).map_err(|e| place.read(e))?;
    }
    let place = Place {
        file: path,
        array: "",
    };
    let bytes = archive.finish().map_err(|e| place.malformed(e.to_string()))?;
    Ok(write_atomically(path, &bytes.into_inner())?)
}

/// The name and the place of each array of an archive.
pub(super) fn read_directory(path: &Path, file: File) -> Result<Vec<(String, Storage)>, ArrayError> {
    let whole = Place {
        file: path,
        array: "",
    };
    let mut archive = ZipArchive::new(BufReader::new(file))
        .map_err(|e| whole.malformed(format!("not a zip archive: {e}")))?;
    let mut arrays = Vec::with_capacity(archive.len());
    for idx in 0..archive.len() {
        let entry = archive
            .by_index_raw(idx)
            .map_err(|e| whole.malformed(e.to_string()))?;
        let name = entry
            .name()
            .map_err(|e| whole.malformed(e.to_string()))?
            .into_owned();
        let Some(name) = name.strip_suffix(".npy") else {
            return Err(whole.malformed(format!("holds \"{name}\", expected only .npy files")));
        };
        let place = Place {
            file: path,
            array: name,
        };
        if entry.encrypted() {
            return Err(place.unsupported("encryption", "save it with numpy.savez"));
        }
        let deflated = match entry.compression() {
            CompressionMethod::Stored => false,
            CompressionMethod::Deflated => true,
            other => {
                return Err(place.unsupported(
                    format!("compression {other}"),
                    "save it with numpy.savez or numpy.savez_compressed",
                ));
            }
        };
        let most = entry
            .compressed_size()
            .saturating_mul(if deflated { MAX_DEFLATE_RATIO } else { 1 });
        if entry.size() > most {
            return Err(place.malformed(format!(
                "{} bytes cannot come out of {} packed bytes",
                entry.size(),
                entry.compressed_size()
            )));
        }
        let start = entry
            .data_start()
            .ok_or_else(|| place.malformed("the archive does not tell where the array starts"))?;
        let storage = Storage {
            start,
            packed_bytes: entry.compressed_size(),
            size_bytes: entry.size(),
            deflated,
            crc: Some(entry.crc32()),
        };
        arrays.push((name.to_owned(), storage));
    }
    Ok(arrays)
}
