//! A `TensorProto` as the file has it: checked when the model is read, decoded when it is used.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use qloupe_ir::{Constant, EncodedTensor, IrError};
use qloupe_tensor::{DType, Tensor, n_elements};

use crate::OnnxErrorKind;
use crate::elements::{self, TypedField};
use crate::external_data::{ExternalFolder, ExternalRange};
use crate::place::Place;
use crate::source::Source;
use crate::wire_reader::{Field, Fields};

pub(crate) const DIMS: u32 = 1;
pub(crate) const DATA_TYPE: u32 = 2;
const SEGMENT: u32 = 3;
pub(crate) const NAME: u32 = 8;
pub(crate) const RAW_DATA: u32 = 9;
pub(crate) const EXTERNAL_DATA: u32 = 13;
pub(crate) const DATA_LOCATION: u32 = 14;

/// `TensorProto.DataLocation.EXTERNAL`.
pub(crate) const EXTERNAL: i64 = 1;

/// What the messages of a model share while they are read.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The bytes that tensors refer to.
    pub(crate) source: Arc<Source>,
    /// The folder for external data; `None` for a model that came without one.
    pub(crate) external: Option<ExternalFolder>,
}

/// A `TensorProto`, checked and not decoded.
#[derive(Debug)]
pub(crate) struct StoredTensor {
    source: Arc<Source>,
    /// Where the message lies.
    message: Range<usize>,
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    elements: Elements,
}

#[derive(Debug)]
enum Elements {
    Raw(Range<usize>),
    Typed,
    External {
        range: ExternalRange,
        /// Which field the tensor is.
        field: String,
    },
}

impl StoredTensor {
    /// Reads the head of a tensor and checks that its elements are there.
    pub(crate) fn read(origin: &Origin, field: &Field<'_>, place: &Place<'_>) -> Result<Self, OnnxErrorKind> {
        let head = field.message(place, |fields| Head::read(fields, place))?;
        let message = field.range(place)?;
        let number = i32::try_from(head.data_type).unwrap_or(0);
        let data_type = place.field("data_type");
        let Some(dtype) = DType::from_onnx(number) else {
            return Err(if number == 0 {
                field.malformed(
                    &data_type,
                    format!("data type is {}, expected a known number", head.data_type),
                )
            } else {
                OnnxErrorKind::Unsupported {
                    offset: field.offset(),
                    field: data_type.to_string(),
                    what: format!("data type {number}"),
                    remedy: "",
                }
            });
        };
        let size = n_elements(&head.dims).and_then(|n| {
            let size_bytes = dtype.size_bytes(n)?;
            isize::try_from(size_bytes.max(n)).ok()?;
            Some((size_bytes, TypedField::n_entries(dtype, n)?))
        });
        let Some((size_bytes, n_entries)) = size else {
            return Err(field.malformed(
                &place.field("dims"),
                format!("shape {:?} has more elements than memory can hold", head.dims),
            ));
        };
        let elements = if head.external {
            let location = head.entries.get("location").cloned().unwrap_or_default();
            let located = locate(origin, dtype, &head.entries, &location, size_bytes);
            Elements::External {
                range: located.map_err(|what| OnnxErrorKind::ExternalData {
                    offset: field.offset(),
                    field: place.to_string(),
                    tensor: head.name.clone(),
                    location,
                    what,
                })?,
                field: place.to_string(),
            }
        } else if let Some(raw) = head
            .raw
            .clone()
            .filter(|raw| !raw.is_empty() || head.n_entries.is_empty())
        {
            let raw_data = place.field("raw_data");
            if dtype == DType::String {
                return Err(field.malformed(
                    &raw_data,
                    "strings cannot be stored as raw bytes, expected string_data",
                ));
            }
            if raw.len() != size_bytes {
                return Err(OnnxErrorKind::Malformed {
                    offset: raw.start,
                    field: raw_data.to_string(),
                    what: wrong_length(dtype, &head.dims, size_bytes, "bytes", raw.len()),
                });
            }
            Elements::Raw(raw)
        } else {
            let typed = TypedField::of(dtype);
            let got = head.n_entries.get(&typed.number).copied().unwrap_or(0);
            if got != n_entries {
                return Err(field.malformed(
                    &place.field(typed.name),
                    wrong_length(dtype, &head.dims, n_entries, "entries", got),
                ));
            }
            Elements::Typed
        };
        Ok(Self {
            source: Arc::clone(&origin.source),
            message,
            name: head.name,
            dtype,
            shape: head.dims,
            elements,
        })
    }

    /// The tensor that a constant holds, if it still is as the file has it.
    pub(crate) fn of(constant: &Constant) -> Option<&Self> {
        match constant {
            Constant::Encoded(encoded) => encoded.as_any().downcast_ref(),
            Constant::Memory(_) => None,
        }
    }

    /// The name in the file.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The `TensorProto` message.
    pub(crate) fn message(&self) -> &[u8] {
        &self.source[self.message.clone()]
    }

    /// True when the elements lie in another file than the model.
    pub(crate) fn is_external(&self) -> bool {
        matches!(self.elements, Elements::External { .. })
    }

    /// True when the elements lie in another file, whose path is valid in `folder`.
    pub(crate) fn is_external_to(&self, folder: &Path) -> bool {
        matches!(&self.elements, Elements::External { range, .. } if range.is_relative_to(folder))
    }

    /// The elements as `raw_data` has them; `None` for strings.
    pub(crate) fn raw(&self) -> Result<Option<Cow<'_, [u8]>>, OnnxErrorKind> {
        Ok(Some(match &self.elements {
            Elements::Raw(range) => Cow::Borrowed(&self.source[range.clone()]),
            Elements::External { range, field } => {
                Cow::Borrowed(range.bytes().map_err(|what| OnnxErrorKind::ExternalData {
                    offset: self.message.start,
                    field: field.clone(),
                    tensor: self.name.clone(),
                    location: range.location.clone(),
                    what,
                })?)
            }
            Elements::Typed if self.dtype == DType::String => return Ok(None),
            Elements::Typed => {
                let n_elements = self.shape.iter().product();
                let size_bytes = self.dtype.size_bytes(n_elements).unwrap_or(0);
                Cow::Owned(elements::typed_to_raw(self.dtype, self.fields(), size_bytes)?)
            }
        }))
    }

    fn fields(&self) -> Fields<'_> {
        Fields::at(&self.source, self.message.clone())
    }
}

impl EncodedTensor for StoredTensor {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn decode(&self) -> Result<Tensor, IrError> {
        let broken = |kind: OnnxErrorKind| IrError::Decode {
            name: self.name.clone(),
            what: match kind {
                OnnxErrorKind::ExternalData { location, what, .. } => {
                    format!("external data \"{location}\" {what}")
                }
                kind => kind.to_string(),
            },
        };
        Ok(match self.raw().map_err(broken)? {
            Some(raw) => {
                let tensor = elements::from_raw(self.dtype, &self.shape, &raw)?;
                // The elements are in memory twice, and seldom decoded twice.
                match &self.elements {
                    Elements::Raw(range) => self.source.release(range.clone()),
                    Elements::External { range, .. } => range.release(),
                    Elements::Typed => {}
                }
                tensor
            }
            None => {
                let strings = elements::strings(self.fields()).map_err(broken)?;
                Tensor::from_strings(&self.shape, strings)?
            }
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The fields of a `TensorProto`, not yet brought together.
#[derive(Default)]
struct Head {
    dims: Vec<usize>,
    data_type: i64,
    name: String,
    raw: Option<Range<usize>>,
    /// Entries in each typed field, by field number.
    n_entries: BTreeMap<u32, usize>,
    external: bool,
    /// `external_data`.
    entries: BTreeMap<String, String>,
}

impl Head {
    fn read(mut fields: Fields<'_>, place: &Place<'_>) -> Result<Self, OnnxErrorKind> {
        let mut head = Self::default();
        while let Some(field) = fields.next(place)? {
            match field.number {
                DIMS => {
                    let place = place.item("dims", head.dims.len());
                    let mut negative = None;
                    field.each_varint(&place, |dim| match usize::try_from(dim.cast_signed()) {
                        Ok(dim) => head.dims.push(dim),
                        Err(_) => negative = Some(dim.cast_signed()),
                    })?;
                    if let Some(dim) = negative {
                        return Err(
                            field.malformed(&place, format!("dimension is {dim}, expected at least 0"))
                        );
                    }
                }
                DATA_TYPE => head.data_type = field.int(&place.field("data_type"))?,
                SEGMENT => {
                    return Err(OnnxErrorKind::Unsupported {
                        offset: field.offset(),
                        field: place.field("segment").to_string(),
                        what: "a tensor in segments".to_owned(),
                        remedy: "",
                    });
                }
                NAME => head.name = field.string(&place.field("name"))?,
                RAW_DATA => head.raw = Some(field.range(&place.field("raw_data"))?),
                EXTERNAL_DATA => {
                    let place = place.item("external_data", head.entries.len());
                    let (key, value) = field.message(&place, |fields| read_entry(fields, &place))?;
                    head.entries.insert(key, value);
                }
                DATA_LOCATION => head.external = field.int(&place.field("data_location"))? == EXTERNAL,
                number => {
                    if let Some(typed) = typed_field(number) {
                        let n_entries = head.n_entries.entry(number).or_default();
                        *n_entries += typed.count(&field, &place.field(typed.name))?;
                    } else {
                        field.encoded(place)?;
                    }
                }
            }
        }
        Ok(head)
    }
}

/// The typed field of a number.
fn typed_field(number: u32) -> Option<TypedField> {
    DType::all()
        .map(TypedField::of)
        .find(|field| field.number == number)
}

/// A `StringStringEntryProto`.
pub(crate) fn read_entry(
    mut fields: Fields<'_>,
    place: &Place<'_>,
) -> Result<(String, String), OnnxErrorKind> {
    let mut entry = (String::new(), String::new());
    while let Some(field) = fields.next(place)? {
        match field.number {
            1 => entry.0 = field.string(&place.field("key"))?,
            2 => entry.1 = field.string(&place.field("value"))?,
            _ => {
                field.encoded(place)?;
            }
        }
    }
    Ok(entry)
}

fn locate(
    origin: &Origin,
    dtype: DType,
    entries: &BTreeMap<String, String>,
    location: &str,
    size_bytes: usize,
) -> Result<ExternalRange, String> {
    let Some(folder) = &origin.external else {
        return Err("needs the folder of the model, which was read without one".to_owned());
    };
    if dtype == DType::String {
        return Err("cannot hold strings, expected string_data".to_owned());
    }
    let number = |key: &str| match entries.get(key) {
        None => Ok(None),
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| format!("has {key} \"{text}\", expected a number of bytes")),
    };
    if let Some(length) = number("length")?
        && u64::try_from(size_bytes).ok() != Some(length)
    {
        return Err(format!(
            "has a length that does not fit dtype and shape, expected {size_bytes} bytes, got {length}"
        ));
    }
    folder.locate(location, number("offset")?.unwrap_or(0), size_bytes)
}

fn wrong_length(dtype: DType, shape: &[usize], expected: usize, unit: &str, got: usize) -> String {
    format!("length does not fit {dtype} of shape {shape:?}, expected {expected} {unit}, got {got}")
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::wire_writer::Message;

    fn read(message: Message<'_>) -> StoredTensor {
        let mut outer = Message::default();
        outer.message(5, message);
        let origin = Origin {
            source: Arc::new(Source::Owned(outer.finish().to_vec())),
            external: None,
        };
        let place = Place::root("graph");
        let mut fields = Fields::new(&origin.source);
        let field = fields.next(&place).unwrap().unwrap();
        StoredTensor::read(&origin, &field, &place.item("initializer", 0)).unwrap()
    }

    /// A tensor with packed varints, or with those bytes.
    fn tensor(dtype: DType, dim: i64, number: u32, payload: &[u8]) -> StoredTensor {
        let mut message = Message::default();
        message.int(DIMS, dim);
        message.int(DATA_TYPE, i64::from(dtype.to_onnx()));
        message.text(NAME, "w");
        message.bytes(number, payload.to_vec());
        read(message)
    }

    #[test]
    fn typed_fields_are_decoded_as_the_specification_says() {
        let minus_one = [255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        let opaque = |dtype, n, bytes: &[u8]| Tensor::from_opaque(dtype, &[n], bytes.to_vec()).unwrap();
        struct Case {
            stored: StoredTensor,
            tensor: Tensor,
        }
        let cases = [
            (
                tensor(DType::Float32, 1, 4, &1.5_f32.to_le_bytes()),
                Tensor::vector(vec![1.5_f32]),
            ),
            (
                tensor(DType::Float64, 1, 10, &1.5_f64.to_le_bytes()),
                Tensor::vector(vec![1.5_f64]),
            ),
            (
                tensor(DType::Float16, 2, 5, &[0x80, 0x78, 0x80, 0x80, 0x02]),
                Tensor::vector(vec![f16::from_bits(0x3c00), f16::from_bits(0x8000)]),
            ),
            (
                tensor(DType::BFloat16, 1, 5, &[0x80, 0x7f]),
                Tensor::vector(vec![bf16::from_f32(1.0)]),
            ),
            (tensor(DType::Int8, 1, 5, &minus_one), Tensor::vector(vec![-1_i8])),
            (
                tensor(DType::UInt8, 1, 5, &[0xff, 1]),
                Tensor::vector(vec![255_u8]),
            ),
            (
                tensor(DType::Int16, 1, 5, &minus_one),
                Tensor::vector(vec![-1_i16]),
            ),
            (
                tensor(DType::UInt16, 1, 5, &[0xff, 1]),
                Tensor::vector(vec![255_u16]),
            ),
            (
                tensor(DType::Int32, 1, 5, &minus_one),
                Tensor::vector(vec![-1_i32]),
            ),
            (
                tensor(DType::Int64, 1, 7, &minus_one),
                Tensor::vector(vec![-1_i64]),
            ),
            (
                tensor(DType::UInt32, 1, 11, &[0xff, 1]),
                Tensor::vector(vec![255_u32]),
            ),
            (
                tensor(DType::UInt64, 1, 11, &minus_one),
                Tensor::vector(vec![u64::MAX]),
            ),
            (
                tensor(DType::Bool, 3, 5, &[1, 0, 1]),
                Tensor::vector(vec![true, false, true]),
            ),
            (
                tensor(DType::String, 1, 6, b"text"),
                Tensor::from_strings(&[1], vec!["text".to_owned()]).unwrap(),
            ),
            (
                tensor(DType::Int4, 3, 5, &[0x21, 0x03]),
                opaque(DType::Int4, 3, &[0x21, 3]),
            ),
            (
                tensor(DType::UInt2, 5, 5, &[0x1b, 0x01]),
                opaque(DType::UInt2, 5, &[0x1b, 1]),
            ),
            (
                tensor(DType::Float8E5M2, 1, 5, &[0xbc, 0x01]),
                opaque(DType::Float8E5M2, 1, &[0xbc]),
            ),
            (
                tensor(DType::Complex64, 1, 4, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0]),
                opaque(DType::Complex64, 1, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0]),
            ),
        ]
        .map(|(stored, tensor)| Case { stored, tensor });
        for case in cases {
            assert_eq!(case.stored.decode().unwrap(), case.tensor);
        }
    }

    #[test]
    fn raw_data_goes_before_typed_data() {
        let mut message = Message::default();
        message.int(DATA_TYPE, 6);
        message.int(5, 9);
        message.bytes(RAW_DATA, vec![7, 0, 0, 0]);
        assert_eq!(read(message).decode().unwrap(), Tensor::scalar(7_i32));
        let mut message = Message::default();
        message.int(DATA_TYPE, 6);
        message.int(5, 9);
        message.bytes(RAW_DATA, vec![]);
        assert_eq!(read(message).decode().unwrap(), Tensor::scalar(9_i32));
    }

    #[test]
    fn elements_that_cannot_be_decoded_are_named() {
        struct Case {
            stored: StoredTensor,
            text: &'static str,
        }
        let cases = [
            Case {
                stored: tensor(DType::Int8, 1, 5, &[0x80, 0x02]),
                text: "tensor \"w\": malformed at byte 6 in int32_data: 256 is not a value of int8",
            },
            Case {
                stored: tensor(DType::String, 1, 6, &[0xff]),
                text: "tensor \"w\": malformed at byte 8 in string_data[0]: text is not valid UTF-8",
            },
        ];
        for case in cases {
            assert_eq!(case.stored.decode().unwrap_err().to_string(), case.text);
        }
    }
}
