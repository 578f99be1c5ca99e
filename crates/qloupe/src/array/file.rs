//! An opened file of arrays: what it holds, and reading of one array or one sample of it.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use flate2::Crc;
use flate2::read::DeflateDecoder;
use qloupe_tensor::{DType, Tensor};

use super::bytes::{ByteLayout, tensor_from_bytes};
use super::error::Place;
use super::{ArrayError, npy, npz, safetensors};

/// Name, dtype and shape of one array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayInfo {
    /// The name; that of a `.npy` is empty.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The dimensions.
    pub shape: Vec<usize>,
}

/// Where the bytes of an array are, packed or not; a `.npy` header is part of them.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    pub(super) start: u64,
    pub(super) packed_bytes: u64,
    pub(super) size_bytes: u64,
    pub(super) deflated: bool,
    pub(super) crc: Option<u32>,
}

/// A file of arrays, opened: names, dtypes and shapes are known and checked against the file's size, elements are
/// read on request.
///
/// Opening reads headers only. A hostile header cannot ask for more memory than the file can fill.
#[derive(Debug)]
pub struct ArrayFile {
    path: PathBuf,
    arrays: Vec<ArrayInfo>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    storage: Storage,
    layout: ByteLayout,
    header_bytes: u64,
    /// Deflated arrays can only be read forwards: where the last sample ended, the next one starts.
    inflater: Mutex<Option<Inflater>>,
}

#[derive(Debug)]
struct Inflater {
    reader: DeflateDecoder<Take<BufReader<File>>>,
    position: u64,
}

impl ArrayFile {
    /// True when the extension is one of `.npy`, `.npz`, `.safetensors`.
    pub fn is_array_path(path: &Path) -> bool {
        matches!(extension(path).as_str(), "npy" | "npz" | "safetensors")
    }

    /// Opens a `.npy`, `.npz` or `.safetensors` file.
    ///
    /// # Errors
    /// [`ArrayError`] when it cannot be read, is malformed or has a dtype that we lack.
    pub fn open(path: &Path) -> Result<Self, ArrayError> {
        let whole = Place {
            file: path,
            array: "",
        };
        let file = File::open(path).map_err(|e| whole.read(e))?;
        let mut opened = Self {
            path: path.to_owned(),
            arrays: Vec::new(),
            entries: Vec::new(),
        };
        match extension(path).as_str() {
            "npy" => {
                let size_bytes = file.metadata().map_err(|e| whole.read(e))?.len();
                let storage = Storage {
                    start: 0,
                    packed_bytes: size_bytes,
                    size_bytes,
                    deflated: false,
                    crc: None,
                };
                opened.push_npy(String::new(), storage)?;
            }
            "npz" => {
                for (name, storage) in npz::read_directory(path, file)? {
                    opened.push_npy(name, storage)?;
                }
            }
            "safetensors" => {
                for (info, storage) in safetensors::read_directory(path, file)? {
                    opened.push(info, storage, ByteLayout::default(), 0);
                }
            }
            _ => {
                return Err(ArrayError::Kind {
                    file: path.to_owned(),
                });
            }
        }
        Ok(opened)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file holds.
    pub fn arrays(&self) -> &[ArrayInfo] {
        &self.arrays
    }

    /// The index of an array by name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.arrays.iter().position(|info| info.name == name)
    }

    /// Reads the whole array `idx`, with the checksum where the format has one.
    ///
    /// # Errors
    /// [`ArrayError`] when the file cannot be read or its packed bytes are damaged.
    /// # Panics
    /// When the file has no array `idx`.
    pub fn read(&self, idx: usize) -> Result<Tensor, ArrayError> {
        let (info, entry, place) = (&self.arrays[idx], &self.entries[idx], self.place(idx));
        let mut reader = entry.open(&self.path).map_err(|e| place.read(e))?;
        let mut bytes = read_exactly(&mut reader, entry.storage.size_bytes, place)?;
        let mut crc = Crc::new();
        crc.update(&bytes);
        if let Some(expected) = entry.storage.crc.filter(|&expected| expected != crc.sum()) {
            return Err(place.malformed(format!(
                "wrong checksum, expected {expected:08x}, got {:08x}",
                crc.sum()
            )));
        }
        bytes.drain(..to_usize(entry.header_bytes));
        tensor_from_bytes(info.dtype, &info.shape, bytes, entry.layout)
            .map_err(|e| place.malformed(e.to_string()))
    }

    /// Reads part `sample` of the leading axis of array `idx`: a tensor of the remaining dimensions.
    ///
    /// Deflated arrays are read fastest in order of samples; column-major ones are read whole each time.
    ///
    /// # Errors
    /// As [`ArrayFile::read`], but for the checksum.
    /// # Panics
    /// When there is no such array, leading axis or sample.
    pub fn read_sample(&self, idx: usize, sample: usize) -> Result<Tensor, ArrayError> {
        let (info, entry, place) = (&self.arrays[idx], &self.entries[idx], self.place(idx));
        let (&n_samples, shape) = info.shape.split_first().expect("the array has a leading axis");
        assert!(sample < n_samples, "sample {sample} of {n_samples}");
        let sample_bytes =
            (entry.storage.size_bytes - entry.header_bytes) / u64::try_from(n_samples).unwrap_or(1);
        let offset = sample_bytes * u64::try_from(sample).unwrap_or(0);
        let (bytes, layout) = if entry.layout.fortran_order {
            let whole = self.read(idx)?;
            let bytes = super::bytes::bytes_of(&whole).unwrap_or_default();
            let range = to_usize(offset)..to_usize(offset + sample_bytes);
            (bytes[range].to_vec(), ByteLayout::default())
        } else {
            let start = entry.header_bytes + offset;
            (
                entry.read_part(&self.path, start, sample_bytes, place)?,
                entry.layout,
            )
        };
        tensor_from_bytes(info.dtype, shape, bytes, layout).map_err(|e| place.malformed(e.to_string()))
    }

    fn place(&self, idx: usize) -> Place<'_> {
        Place {
            file: &self.path,
            array: &self.arrays[idx].name,
        }
    }

    fn push(&mut self, info: ArrayInfo, storage: Storage, layout: ByteLayout, header_bytes: u64) {
        self.arrays.push(info);
        self.entries.push(Entry {
            storage,
            layout,
            header_bytes,
            inflater: Mutex::new(None),
        });
    }

    fn push_npy(&mut self, name: String, storage: Storage) -> Result<(), ArrayError> {
        let path = self.path.clone();
        let place = Place {
            file: &path,
            array: &name,
        };
        let mut reader = storage.open(&path).map_err(|e| place.read(e))?;
        let header = npy::read_header(&mut reader, place)?;
        let header_bytes = to_u64(header.size_bytes);
        let expected = header_bytes.saturating_add(to_u64(header.data_bytes));
        if expected != storage.size_bytes {
            return Err(place.malformed(format!(
                "wrong size for {} of shape {:?}, expected {expected} bytes, got {}",
                header.dtype, header.shape, storage.size_bytes
            )));
        }
        let info = ArrayInfo {
            name: name.clone(),
            dtype: header.dtype,
            shape: header.shape,
        };
        self.push(info, storage, header.layout, header_bytes);
        Ok(())
    }
}

impl Storage {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.start))?;
        let packed = BufReader::new(file).take(self.packed_bytes);
        Ok(if self.deflated {
            Box::new(DeflateDecoder::new(packed))
        } else {
            Box::new(packed)
        })
    }
}

impl Entry {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        self.storage.open(path)
    }

    fn read_part(
        &self,
        path: &Path,
        start: u64,
        n_bytes: u64,
        place: Place<'_>,
    ) -> Result<Vec<u8>, ArrayError> {
        let seek = |to: u64| -> io::Result<BufReader<File>> {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(to))?;
            Ok(BufReader::new(file))
        };
        if !self.storage.deflated {
            let mut reader = seek(self.storage.start + start).map_err(|e| place.read(e))?;
            return read_exactly(&mut reader, n_bytes, place);
        }
        let mut slot = self.inflater.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inflater = match slot.take() {
            Some(inflater) if inflater.position <= start => inflater,
            _ => Inflater {
                reader: DeflateDecoder::new(
                    seek(self.storage.start)
                        .map_err(|e| place.read(e))?
                        .take(self.storage.packed_bytes),
                ),
                position: 0,
            },
        };
        let skipped = io::copy(
            &mut inflater.reader.by_ref().take(start - inflater.position),
            &mut io::sink(),
        );
        skipped.map_err(|e| damaged(e, place))?;
        let bytes = read_exactly(&mut inflater.reader, n_bytes, place)?;
        inflater.position = start + n_bytes;
        *slot = Some(inflater);
        Ok(bytes)
    }
}

/// Reads as the bytes arrive: a size that the file cannot fill takes no memory.
fn read_exactly(reader: &mut impl Read, n_bytes: u64, place: Place<'_>) -> Result<Vec<u8>, ArrayError> {
    let mut bytes = Vec::new();
    reader
        .take(n_bytes)
        .read_to_end(&mut bytes)
        .map_err(|e| damaged(e, place))?;
    if to_u64(bytes.len()) != n_bytes {
        return Err(place.malformed("the file ends too early"));
    }
    Ok(bytes)
}

fn damaged(error: io::Error, place: Place<'_>) -> ArrayError {
    if error.kind() == io::ErrorKind::InvalidInput || error.kind() == io::ErrorKind::InvalidData {
        place.malformed(format!("damaged: {error}"))
    } else {
        place.read(error)
    }
}

fn extension(path: &Path) -> String {
    path.extension()
        .map(|extension| extension.to_string_lossy().to_lowercase())
        .unwrap_or_default()
}

fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::array::{Compression, write_npy, write_npz};

    fn counting(shape: &[usize]) -> Tensor {
        let n: u16 = shape.iter().product::<usize>().try_into().unwrap();
        Tensor::new(shape, (0..n).map(f32::from).collect()).unwrap()
    }

    #[test]
    fn every_dtype_survives_a_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let tensors = [
            Tensor::vector(vec![1.5_f32, -2.0]),
            Tensor::vector(vec![1.5_f64]),
            Tensor::vector(vec![half::f16::from_f32(0.1)]),
            Tensor::vector(vec![200_u8, 1]),
            Tensor::vector(vec![-100_i8]),
            Tensor::vector(vec![60_000_u16]),
            Tensor::vector(vec![-30_000_i16]),
            Tensor::vector(vec![4_000_000_000_u32]),
            Tensor::vector(vec![-2_000_000_000_i32]),
            Tensor::vector(vec![u64::MAX]),
            Tensor::vector(vec![i64::MIN]),
            Tensor::vector(vec![true, false]),
            Tensor::from_opaque(DType::Complex64, &[1], vec![7; 8]).unwrap(),
            Tensor::scalar(3_i32),
            Tensor::new(&[0, 3], Vec::<f32>::new()).unwrap(),
        ];
        for tensor in tensors {
            write_npy(&path, &tensor).unwrap();
            assert_eq!(ArrayFile::open(&path).unwrap().read(0).unwrap(), tensor);
        }
    }

    #[test]
    fn samples_come_one_by_one_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        for compression in [Compression::Stored, Compression::Deflated] {
            let arrays = [
                ("/model/x:0".to_owned(), counting(&[4, 2, 3])),
                ("y".to_owned(), counting(&[5])),
            ];
            write_npz(&path, &arrays, compression).unwrap();
            let file = ArrayFile::open(&path).unwrap();
            assert_eq!(file.position("y"), Some(1));
            assert_eq!(file.arrays()[0].name, "/model/x:0");
            assert_eq!(file.read(0).unwrap(), arrays[0].1);
            for sample in [0_u16, 1, 3, 2, 2] {
                let tensor = file.read_sample(0, sample.into()).unwrap();
                let expected = (sample * 6..sample * 6 + 6).map(f32::from).collect();
                assert_eq!(tensor, Tensor::new(&[2, 3], expected).unwrap());
            }
            assert_eq!(file.read_sample(1, 4).unwrap(), Tensor::scalar(4_f32));
        }
    }

    #[test]
    fn a_sample_of_a_column_major_array_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        let header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3)}";
        bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend([1, 4, 2, 5, 3, 6]);
        fs::write(&path, bytes).unwrap();
        let file = ArrayFile::open(&path).unwrap();
        assert_eq!(file.read_sample(0, 1).unwrap(), Tensor::vector(vec![4_u8, 5, 6]));
    }

    fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
        let length = u64::try_from(header.len()).unwrap().to_le_bytes();
        [&length, header.as_bytes(), data].concat()
    }

    #[test]
    fn safetensors_are_read_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let header = r#"{"x":{"dtype":"I16","shape":[2,1],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]}}"#;
        fs::write(&path, safetensors(header, &[1, 0, 2, 0, 0x80, 0x3f])).unwrap();
        let file = ArrayFile::open(&path).unwrap();
        let x = file.position("x").unwrap();
        assert_eq!(
            file.read(x).unwrap(),
            Tensor::new(&[2, 1], vec![1_i16, 2]).unwrap()
        );
        assert_eq!(file.read_sample(x, 1).unwrap(), Tensor::vector(vec![2_i16]));
        let b = file.position("b").unwrap();
        assert_eq!(file.read(b).unwrap(), Tensor::vector(vec![half::bf16::ONE]));
    }

    #[test]
    fn each_refusal_has_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let npy = |shape: &str, data: &[u8]| {
            let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}");
            let length = u16::try_from(header.len()).unwrap().to_le_bytes();
            [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
        };
        let zip = |name: &str, encrypt: u8, method: u8| {
            let path = folder.path().join("made.npz");
            write_npz(&path, &[("x".to_owned(), counting(&[2]))], Compression::Stored).unwrap();
            let mut bytes = fs::read(path).unwrap();
            for signature in [b"PK\x03\x04", b"PK\x01\x02"] {
                let start = bytes.windows(4).position(|w| w == signature).unwrap();
                let flags = start + if signature[2] == 3 { 6 } else { 8 };
                bytes[flags] |= encrypt;
                bytes[flags + 2] = method;
                let at = bytes[start..].windows(5).position(|w| w == b"x.npy").unwrap() + start;
                bytes[at..at + 5].copy_from_slice(name.as_bytes());
            }
            bytes
        };
        struct Case {
            name: &'static str,
            bytes: Vec<u8>,
            text: &'static str,
        }
        let cases = [
            Case {
                name: "a.bin",
                bytes: Vec::new(),
                text: " is not a file of arrays, expected .npy, .npz or .safetensors",
            },
            Case {
                name: "short.npy",
                bytes: npy("(3,)", &[1, 2]),
                text: ": wrong size for uint8 of shape [3], expected 68 bytes, got 67",
            },
            Case {
                name: "hostile.npy",
                bytes: npy("(1000000000000,)", &[1, 2]),
                text: ": wrong size for uint8 of shape [1000000000000], expected 1000000000077 bytes, got 79",
            },
            Case {
                name: "a.npz",
                bytes: b"nothing".to_vec(),
                text: ": not a zip archive: invalid Zip archive: Could not find EOCD",
            },
            Case {
                name: "text.npz",
                bytes: zip("x.txt", 0, 0),
                text: ": holds \"x.txt\", expected only .npy files",
            },
            Case {
                name: "secret.npz",
                bytes: zip("x.npy", 1, 0),
                text: ", array \"x\": encryption is not supported, save it with numpy.savez",
            },
            Case {
                name: "bzip2.npz",
                bytes: zip("x.npy", 0, 12),
                text: ", array \"x\": compression Bzip2 is not supported, save it with numpy.savez or numpy.savez_compressed",
            },
            Case {
                name: "long.safetensors",
                bytes: u64::MAX.to_le_bytes().to_vec(),
                text: ": not a safetensors file: header of 18446744073709551615 bytes in a file of 8",
            },
            Case {
                name: "short.safetensors",
                bytes: safetensors(r#"{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#, &[1]),
                text: ": wrong file size, expected 65 bytes, got 62",
            },
            Case {
                name: "f4.safetensors",
                bytes: safetensors(r#"{"x":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}"#, &[1]),
                text: ", array \"x\": dtype F4 is not supported, convert it to a dtype of whole bytes",
            },
            Case {
                name: "list.safetensors",
                bytes: safetensors("[]", &[]),
                text: ": not a safetensors file: invalid type: sequence, expected struct HashMetadata at line 1 column 0",
            },
        ];
        for Case { name, bytes, text } in cases {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            let error = ArrayFile::open(&path).unwrap_err().to_string();
            assert_eq!(error, format!("{path:?}{text}"));
        }
        let missing = folder.path().join("none.npy");
        assert_eq!(
            ArrayFile::open(&missing).unwrap_err().to_string(),
            format!("{missing:?} cannot be read: No such file or directory (os error 2)")
        );
        let nowhere = folder.path().join("none").join("a.npy");
        assert_eq!(
            write_npy(&nowhere, &counting(&[1])).unwrap_err().to_string(),
            format!(
                "{nowhere:?} cannot be written: folder {:?} does not exist",
                folder.path().join("none")
            )
        );
    }

    #[test]
    fn damage_and_bombs_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        write_npz(&path, &[("x".to_owned(), counting(&[64]))], Compression::Stored).unwrap();
        let good = fs::read(&path).unwrap();
        let mut damaged = good.clone();
        damaged[200] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let error = ArrayFile::open(&path).unwrap().read(0).unwrap_err().to_string();
        let start = format!("{path:?}, array \"x\": wrong checksum, expected ");
        assert!(error.starts_with(&start), "{error}");

        let mut bomb = good;
        let central = bomb.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        bomb[central + 24..central + 28].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
        fs::write(&path, &bomb).unwrap();
        assert_eq!(
            ArrayFile::open(&path).unwrap_err().to_string(),
            format!("{path:?}, array \"x\": 2147483647 bytes cannot come out of 384 packed bytes")
        );
    }
}
