//! The NumPy format: a short header of Python literals, then the bytes of one array.

use std::io::Read;
use std::path::Path;

use qloupe_tensor::{DType, Tensor, n_elements};

use super::ArrayError;
use super::bytes::{ByteLayout, bytes_of};
use super::error::Place;
use crate::write::{WriteError, write_atomically};

const MAGIC: &[u8] = b"\x93NUMPY";
/// The longest header that is read; NumPy itself stops at 10000 bytes.
const MAX_HEADER_BYTES: usize = 1 << 16;
/// The data starts at a multiple of this.
const ALIGNMENT: usize = 64;

/// (type code of NumPy without the byte order, dtype).
const CODES: &[(&str, DType)] = &[
    ("f4", DType::Float32),
    ("f8", DType::Float64),
    ("f2", DType::Float16),
    ("u1", DType::UInt8),
    ("i1", DType::Int8),
    ("u2", DType::UInt16),
    ("i2", DType::Int16),
    ("u4", DType::UInt32),
    ("i4", DType::Int32),
    ("u8", DType::UInt64),
    ("i8", DType::Int64),
    ("b1", DType::Bool),
    ("c8", DType::Complex64),
    ("c16", DType::Complex128),
];

/// The header of an array.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    pub(super) layout: ByteLayout,
    /// Bytes of magic, version, length and header.
    pub(super) size_bytes: usize,
    /// Bytes of the elements.
    pub(super) data_bytes: usize,
}

/// Writes one array as `.npy`.
///
/// # Errors
/// [`ArrayError::Unwritable`] for dtypes that NumPy lacks, [`ArrayError::Write`].
pub fn write_npy(path: &Path, tensor: &Tensor) -> Result<(), ArrayError> {
    let place = Place {
        file: path,
        array: "",
    };
    Ok(write_atomically(path, &npy_bytes(tensor, place)?)?)
}

/// Writes one of the many files of a dump: not down to the disk one by one, and in place.
///
/// # Errors
/// As [`write_npy`].
pub(crate) fn dump_npy(path: &Path, tensor: &Tensor) -> Result<(), ArrayError> {
    let place = Place {
        file: path,
        array: "",
    };
    let bytes = npy_bytes(tensor, place)?;
    Ok(std::fs::write(path, bytes).map_err(|source| WriteError::Io {
        file: path.to_owned(),
        source,
    })?)
}

pub(super) fn npy_bytes(tensor: &Tensor, place: Place<'_>) -> Result<Vec<u8>, ArrayError> {
    let unwritable = || ArrayError::Unwritable {
        file: place.file.to_owned(),
        array: place.array.to_owned(),
        dtype: tensor.dtype(),
    };
    let (code, dtype) = CODES
        .iter()
        .find(|(_, dtype)| *dtype == tensor.dtype())
        .ok_or_else(unwritable)?;
    let order = if dtype.size_bits() == 8 { '|' } else { '<' };
    let dims: String = tensor.shape().iter().map(|dim| format!("{dim},")).collect();
    let mut header = format!("{{'descr': '{order}{code}', 'fortran_order': False, 'shape': ({dims}), }}");
    let unpadded = MAGIC.len() + 4 + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    header.push('\n');

    let length = u16::try_from(header.len()).map_err(|_| unwritable())?;
    let mut file = MAGIC.to_vec();
    file.extend([1, 0]);
    file.extend(length.to_le_bytes());
    file.extend(header.into_bytes());
    file.extend(bytes_of(tensor).ok_or_else(unwritable)?);
    Ok(file)
}

/// Reads the header, of version 1, 2 or 3.
pub(super) fn read_header(reader: &mut impl Read, place: Place<'_>) -> Result<Header, ArrayError> {
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(|e| place.read(e))?;
    if !start.starts_with(MAGIC) {
        return Err(place.malformed("not a NumPy array"));
    }
    let (length, length_bytes) = match start[6] {
        1 => {
            let mut bytes = [0; 2];
            reader.read_exact(&mut bytes).map_err(|e| place.read(e))?;
            (usize::from(u16::from_le_bytes(bytes)), bytes.len())
        }
        2 | 3 => {
            let mut bytes = [0; 4];
            reader.read_exact(&mut bytes).map_err(|e| place.read(e))?;
            (
                usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX),
                bytes.len(),
            )
        }
        version => {
            return Err(place.unsupported(
                format!("version {version} of the NumPy format"),
                "save it with numpy.save",
            ));
        }
    };
    if length > MAX_HEADER_BYTES {
        return Err(place.malformed(format!(
            "header of {length} bytes, expected at most {MAX_HEADER_BYTES}"
        )));
    }
    let mut text = vec![0; length];
    reader.read_exact(&mut text).map_err(|e| place.read(e))?;
    let text = String::from_utf8(text).map_err(|_| place.malformed("the header is not text"))?;
    let mut header = parse_header(&text, place)?;
    header.size_bytes = start.len() + length_bytes + length;
    Ok(header)
}

fn parse_header(text: &str, place: Place<'_>) -> Result<Header, ArrayError> {
    let value = |key: &str| {
        let (_, rest) = text
            .split_once(&format!("'{key}'"))
            .or_else(|| text.split_once(&format!("\"{key}\"")))?;
        Some(rest.trim_start().strip_prefix(':')?.trim_start())
    };
    let missing = |key| place.malformed(format!("the header lacks '{key}'"));

    let descr = value("descr").ok_or_else(|| missing("descr"))?;
    let quoted = descr
        .strip_prefix(['\'', '"'])
        .ok_or_else(|| place.unsupported("a structured array", "save each field as an array of its own"))?;
    let descr = quoted.split(['\'', '"']).next().unwrap_or_default();
    let (order, code) = descr.split_at_checked(1).unwrap_or_default();
    let dtype = CODES.iter().find(|(known, _)| *known == code);
    let (Some(&(_, dtype)), "<" | ">" | "|" | "=") = (dtype, order) else {
        return Err(place.unsupported(
            format!("dtype '{descr}'"),
            "convert it to a numeric dtype such as float32",
        ));
    };

    let fortran_order = value("fortran_order").ok_or_else(|| missing("fortran_order"))?;
    let fortran_order = match fortran_order.split([',', '}']).next().unwrap_or_default().trim() {
        "True" => true,
        "False" => false,
        other => {
            return Err(place.malformed(format!("fortran_order is {other}, expected True or False")));
        }
    };

    let shape = value("shape").ok_or_else(|| missing("shape"))?;
    let dims = shape
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'))
        .ok_or_else(|| place.malformed("shape is not a tuple"))?
        .0;
    let shape = dims
        .split(',')
        .map(str::trim)
        .filter(|dim| !dim.is_empty())
        .map(|dim| {
            dim.parse()
                .map_err(|_| place.malformed(format!("shape has \"{dim}\", expected a number")))
        })
        .collect::<Result<Vec<usize>, _>>()?;
    let data_bytes = n_elements(&shape)
        .and_then(|n| dtype.size_bytes(n))
        .ok_or_else(|| place.malformed(format!("shape {shape:?} is larger than memory")))?;
    Ok(Header {
        dtype,
        shape,
        layout: ByteLayout {
            big_endian: order == ">",
            fortran_order,
        },
        size_bytes: 0,
        data_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place<'static> {
        Place {
            file: Path::new("a.npy"),
            array: "",
        }
    }

    fn npy(version: u8, header: &str) -> Vec<u8> {
        let mut bytes = [MAGIC, &[version, 0]].concat();
        let length = u32::try_from(header.len()).unwrap().to_le_bytes();
        bytes.extend(&length[..if version == 1 { 2 } else { 4 }]);
        bytes.extend(header.as_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Header, ArrayError> {
        read_header(&mut &bytes[..], place())
    }

    #[test]
    fn every_version_and_what_is_written_is_read() {
        for version in 1..=3 {
            let header = "{\"descr\": '>i2', 'fortran_order': True, 'shape': (2, 3)}\n";
            let read = read(&npy(version, header)).unwrap();
            assert_eq!((read.dtype, read.shape), (DType::Int16, vec![2, 3]));
            assert!(read.layout.big_endian && read.layout.fortran_order);
            assert_eq!(read.data_bytes, 12);
        }
        for shape in [&[][..], &[4], &[2, 2]] {
            let n = n_elements(shape).unwrap();
            let bytes = npy_bytes(&Tensor::new(shape, vec![true; n]).unwrap(), place()).unwrap();
            let header = read(&bytes).unwrap();
            assert_eq!((header.dtype, header.shape.as_slice()), (DType::Bool, shape));
            assert_eq!(header.size_bytes % ALIGNMENT, 0);
            assert_eq!(header.size_bytes + header.data_bytes, bytes.len());
        }
    }

    #[test]
    fn each_refusal_has_its_text() {
        struct Case {
            bytes: Vec<u8>,
            text: &'static str,
        }
        let with = |descr: &str, order: &str, shape: &str| {
            npy(
                1,
                &format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}"),
            )
        };
        let cases = [
            Case {
                bytes: b"PK\x03\x04....".to_vec(),
                text: "\"a.npy\": not a NumPy array",
            },
            Case {
                bytes: MAGIC.to_vec(),
                text: "\"a.npy\": the file ends too early",
            },
            Case {
                bytes: npy(9, ""),
                text: "\"a.npy\": version 9 of the NumPy format is not supported, save it with numpy.save",
            },
            Case {
                bytes: [MAGIC, &[2, 0], &u32::MAX.to_le_bytes()].concat(),
                text: "\"a.npy\": header of 4294967295 bytes, expected at most 65536",
            },
            Case {
                bytes: [MAGIC, &[1, 0, 1, 0, 0xff]].concat(),
                text: "\"a.npy\": the header is not text",
            },
            Case {
                bytes: npy(1, "{'fortran_order': False}"),
                text: "\"a.npy\": the header lacks 'descr'",
            },
            Case {
                bytes: with("[('x', '<f4')]", "False", "(1,)"),
                text: "\"a.npy\": a structured array is not supported, save each field as an array of its own",
            },
            Case {
                bytes: with("'<U5'", "False", "(1,)"),
                text: "\"a.npy\": dtype '<U5' is not supported, convert it to a numeric dtype such as float32",
            },
            Case {
                bytes: with("'<f4'", "Maybe", "(1,)"),
                text: "\"a.npy\": fortran_order is Maybe, expected True or False",
            },
            Case {
                bytes: with("'<f4'", "False", "7"),
                text: "\"a.npy\": shape is not a tuple",
            },
            Case {
                bytes: with("'<f4'", "False", "(-1,)"),
                text: "\"a.npy\": shape has \"-1\", expected a number",
            },
            Case {
                bytes: with("'<f4'", "False", "(9223372036854775807, 9)"),
                text: "\"a.npy\": shape [9223372036854775807, 9] is larger than memory",
            },
        ];
        for Case { bytes, text } in cases {
            assert_eq!(read(&bytes).unwrap_err().to_string(), text);
        }
        let error = npy_bytes(&Tensor::vector(vec![half::bf16::ONE]), place()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"a.npy\": NumPy files cannot hold bfloat16, convert it to float32 or an integer type"
        );
    }
}
