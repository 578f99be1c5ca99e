//! The protobuf wire format, reading: fields of a message with their byte offsets. Knows no ONNX message.

use qloupe_ir::Extra;

use crate::OnnxErrorKind;
use crate::place::Place;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

/// The largest field number that protobuf allows.
const MAX_FIELD_NUMBER: u64 = (1 << 29) - 1;

/// The fields of one message, in file order.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    /// The whole file, so that offsets are offsets of the file.
    bytes: &'a [u8],
    position: usize,
    end: usize,
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    /// The field number.
    pub(crate) number: u32,
    bytes: &'a [u8],
    start: usize,
    end: usize,
    payload: Payload,
}

#[derive(Clone, Copy, Debug)]
enum Payload {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
    /// `declared` bytes from `start` on; the field's end is cut off where the enclosing message ends before that.
    Bytes {
        start: usize,
        declared: u64,
    },
}

impl Payload {
    fn wire_name(self) -> &'static str {
        match self {
            Self::Varint(_) => "a varint",
            Self::Fixed32(_) => "4 bytes",
            Self::Fixed64(_) => "8 bytes",
            Self::Bytes { .. } => "length-delimited bytes",
        }
    }
}

impl<'a> Fields<'a> {
    /// The fields of a message that is all of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 0,
            end: bytes.len(),
        }
    }

    /// The fields of a message that lies at `range` of `bytes`.
    pub(crate) fn at(bytes: &'a [u8], range: std::ops::Range<usize>) -> Self {
        Self {
            bytes,
            position: range.start,
            end: range.end,
        }
    }

    /// The offset of the next field in the file.
    pub(crate) fn offset(&self) -> usize {
        self.position
    }

    /// The bytes of the message that are not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..self.end]
    }

    /// The next field, or `None` at the end of the message.
    pub(crate) fn next(&mut self, place: &Place<'_>) -> Result<Option<Field<'a>>, OnnxErrorKind> {
        if self.position == self.end {
            return Ok(None);
        }
        let start = self.position;
        let tag = self.varint(place)?;
        let number = tag >> 3;
        if number == 0 || number > MAX_FIELD_NUMBER {
            return Err(malformed(
                start,
                place,
                format!("field number is {number}, expected 1 to {MAX_FIELD_NUMBER}"),
            ));
        }
        let payload = match tag & 7 {
            VARINT => Payload::Varint(self.varint(place)?),
            FIXED64 => Payload::Fixed64(self.fixed(place)?),
            FIXED32 => Payload::Fixed32(self.fixed(place)?),
            LENGTH_DELIMITED => {
                let declared = self.varint(place)?;
                let start = self.position;
                let left = self.end - start;
                self.position += usize::try_from(declared).unwrap_or(left).min(left);
                Payload::Bytes { start, declared }
            }
            wire_type => {
                return Err(malformed(
                    start,
                    place,
                    format!("field {number} has wire type {wire_type}, expected 0, 1, 2 or 5"),
                ));
            }
        };
        Ok(Some(Field {
            number: u32::try_from(number).expect("invariant: at most 29 bits"),
            bytes: self.bytes,
            start,
            end: self.position,
            payload,
        }))
    }

    fn varint(&mut self, place: &Place<'_>) -> Result<u64, OnnxErrorKind> {
        let start = self.position;
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.rest().first() else {
                return Err(truncated(
                    start,
                    place,
                    self.position - start + 1,
                    self.position - start,
                ));
            };
            self.position += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed(
            start,
            place,
            "varint is too long, expected at most 64 bits".to_owned(),
        ))
    }

    fn fixed<const N: usize>(&mut self, place: &Place<'_>) -> Result<[u8; N], OnnxErrorKind> {
        let Some(bytes) = self.rest().first_chunk::<N>() else {
            return Err(truncated(self.position, place, N, self.rest().len()));
        };
        self.position += N;
        Ok(*bytes)
    }
}

impl<'a> Field<'a> {
    /// The offset of the field in the file.
    pub(crate) fn offset(&self) -> usize {
        self.start
    }

    /// The field as the file has it, tag and all.
    pub(crate) fn encoded(&self, place: &Place<'_>) -> Result<&'a [u8], OnnxErrorKind> {
        if matches!(self.payload, Payload::Bytes { .. }) {
            self.range(place)?;
        }
        Ok(&self.bytes[self.start..self.end])
    }

    /// Keeps the field, as the file has it, among the extra fields of its message.
    pub(crate) fn keep(&self, extra: &mut Extra, place: &Place<'_>) -> Result<(), OnnxErrorKind> {
        let number = usize::try_from(self.number).expect("invariant: at most 29 bits");
        extra
            .0
            .extend_from_slice(self.encoded(&place.item("field", number))?);
        Ok(())
    }

    /// Where the payload of a length-delimited field lies in the file.
    pub(crate) fn range(&self, place: &Place<'_>) -> Result<std::ops::Range<usize>, OnnxErrorKind> {
        let Payload::Bytes { start, declared } = self.payload else {
            return Err(self.wrong_wire_type(place, "length-delimited bytes"));
        };
        let got = self.end - start;
        if u64::try_from(got).ok() == Some(declared) {
            Ok(start..self.end)
        } else {
            Err(OnnxErrorKind::Truncated {
                offset: start,
                field: place.to_string(),
                expected: declared,
                got,
            })
        }
    }

    /// The payload of a length-delimited field.
    pub(crate) fn payload(&self, place: &Place<'_>) -> Result<&'a [u8], OnnxErrorKind> {
        Ok(&self.bytes[self.range(place)?])
    }

    /// Reads the payload as a message.
    ///
    /// A payload that is cut off is read as far as it goes, so that the error names the innermost field.
    pub(crate) fn message<T>(
        &self,
        place: &Place<'_>,
        read: impl FnOnce(Fields<'a>) -> Result<T, OnnxErrorKind>,
    ) -> Result<T, OnnxErrorKind> {
        let start = match self.payload {
            Payload::Bytes { start, .. } => start,
            _ => return Err(self.wrong_wire_type(place, "length-delimited bytes")),
        };
        let value = read(Fields::at(self.bytes, start..self.end))?;
        self.range(place)?;
        Ok(value)
    }

    /// A string.
    pub(crate) fn string(&self, place: &Place<'_>) -> Result<String, OnnxErrorKind> {
        let range = self.range(place)?;
        // Copied before it is checked: the bytes may be mapped from a file that somebody changes meanwhile.
        String::from_utf8(self.bytes[range.clone()].to_vec()).map_err(|error| {
            malformed(
                range.start + error.utf8_error().valid_up_to(),
                place,
                "text is not valid UTF-8".to_owned(),
            )
        })
    }

    /// A string; when it is empty, the field is kept as extra, so that its presence survives.
    pub(crate) fn text(&self, place: &Place<'_>, extra: &mut Extra) -> Result<String, OnnxErrorKind> {
        let text = self.string(place)?;
        if text.is_empty() {
            self.keep(extra, place)?;
        }
        Ok(text)
    }

    /// Free text. What is not UTF-8 is kept as extra and reads as empty.
    pub(crate) fn free_text(&self, place: &Place<'_>, extra: &mut Extra) -> Result<String, OnnxErrorKind> {
        let text = String::from_utf8(self.payload(place)?.to_vec()).unwrap_or_default();
        if text.is_empty() {
            self.keep(extra, place)?;
        }
        Ok(text)
    }

    /// A signed integer.
    pub(crate) fn int(&self, place: &Place<'_>) -> Result<i64, OnnxErrorKind> {
        match self.payload {
            Payload::Varint(value) => Ok(value.cast_signed()),
            _ => Err(self.wrong_wire_type(place, "a varint")),
        }
    }

    /// A signed integer; when it is 0, the field is kept as extra, so that its presence survives.
    pub(crate) fn int_or_kept(&self, place: &Place<'_>, extra: &mut Extra) -> Result<i64, OnnxErrorKind> {
        let value = self.int(place)?;
        if value == 0 {
            self.keep(extra, place)?;
        }
        Ok(value)
    }

    /// A 32-bit float.
    pub(crate) fn float(&self, place: &Place<'_>) -> Result<f32, OnnxErrorKind> {
        match self.payload {
            Payload::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(self.wrong_wire_type(place, "4 bytes")),
        }
    }

    /// Hands out the integers of a repeated field, packed or not.
    pub(crate) fn each_varint(
        &self,
        place: &Place<'_>,
        mut take: impl FnMut(u64),
    ) -> Result<(), OnnxErrorKind> {
        if let Payload::Varint(value) = self.payload {
            take(value);
            return Ok(());
        }
        let mut packed = Fields::at(self.bytes, self.range(place)?);
        while packed.position < packed.end {
            take(packed.varint(place)?);
        }
        Ok(())
    }

    /// The numbers of `N` bytes (4 or 8) of a repeated field, packed or not, as little-endian bytes.
    pub(crate) fn fixed_bytes<const N: usize>(&self, place: &Place<'_>) -> Result<&[[u8; N]], OnnxErrorKind> {
        let bytes: &[u8] = match &self.payload {
            Payload::Fixed32(bytes) if N == 4 => bytes,
            Payload::Fixed64(bytes) if N == 8 => bytes,
            _ => self.payload(place)?,
        };
        match bytes.as_chunks() {
            (numbers, []) => Ok(numbers),
            (_, rest) => Err(malformed(
                self.end - rest.len(),
                place,
                format!(
                    "packed numbers take {} bytes, expected a multiple of {N}",
                    bytes.len()
                ),
            )),
        }
    }

    /// An error at this field.
    pub(crate) fn malformed(&self, place: &Place<'_>, what: impl Into<String>) -> OnnxErrorKind {
        malformed(self.start, place, what.into())
    }

    fn wrong_wire_type(&self, place: &Place<'_>, expected: &str) -> OnnxErrorKind {
        let got = self.payload.wire_name();
        self.malformed(place, format!("wrong wire type, expected {expected}, got {got}"))
    }
}

fn malformed(offset: usize, place: &Place<'_>, what: String) -> OnnxErrorKind {
    OnnxErrorKind::Malformed {
        offset,
        field: place.to_string(),
        what,
    }
}

fn truncated(offset: usize, place: &Place<'_>, expected: usize, got: usize) -> OnnxErrorKind {
    OnnxErrorKind::Truncated {
        offset,
        field: place.to_string(),
        expected: u64::try_from(expected).unwrap_or(u64::MAX),
        got,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(bytes: &[u8]) -> Result<Option<Field<'_>>, OnnxErrorKind> {
        Fields::new(bytes).next(&Place::root("model"))
    }

    #[test]
    fn broken_fields_are_located() {
        struct Case {
            bytes: &'static [u8],
            text: &'static str,
        }
        let cases = [
            Case {
                bytes: &[0x80],
                text: "truncated at byte 0 in model, expected 2 bytes, got 1",
            },
            Case {
                bytes: &[0x08],
                text: "truncated at byte 1 in model, expected 1 bytes, got 0",
            },
            Case {
                bytes: &[0x0d, 1, 2],
                text: "truncated at byte 1 in model, expected 4 bytes, got 2",
            },
            Case {
                bytes: &[0x00, 1],
                text: "malformed at byte 0 in model: field number is 0, expected 1 to 536870911",
            },
            Case {
                bytes: &[0x0b, 1],
                text: "malformed at byte 0 in model: field 1 has wire type 3, expected 0, 1, 2 or 5",
            },
            Case {
                bytes: &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
                text: "malformed at byte 1 in model: varint is too long, expected at most 64 bits",
            },
        ];
        for case in cases {
            assert_eq!(first(case.bytes).unwrap_err().to_string(), case.text);
        }
    }

    #[test]
    fn payloads_of_the_wrong_kind_are_located() {
        let place = Place::root("tensor");
        let field = first(&[0x08, 5]).unwrap().unwrap();
        assert_eq!(
            field.payload(&place).unwrap_err().to_string(),
            "malformed at byte 0 in tensor: wrong wire type, expected length-delimited bytes, got a varint"
        );
        let field = first(&[0x0a, 2, b'a', 0xff]).unwrap().unwrap();
        assert_eq!(
            field.string(&place).unwrap_err().to_string(),
            "malformed at byte 3 in tensor: text is not valid UTF-8"
        );
        assert_eq!(
            field.fixed_bytes::<4>(&place).unwrap_err().to_string(),
            "malformed at byte 2 in tensor: packed numbers take 2 bytes, expected a multiple of 4"
        );
        let field = first(&[0x0a, 200, 1, b'a']).unwrap().unwrap();
        assert_eq!(
            field.encoded(&place).unwrap_err().to_string(),
            "truncated at byte 3 in tensor, expected 200 bytes, got 1"
        );
    }

    #[test]
    fn repeated_numbers_are_read_packed_and_unpacked() {
        let place = Place::root("tensor");
        for bytes in [&[0x0a, 3, 1, 0xac, 0x02][..], &[0x08, 1, 0x08, 0xac, 0x02]] {
            let mut fields = Fields::new(bytes);
            let mut values = Vec::new();
            while let Some(field) = fields.next(&place).unwrap() {
                field.each_varint(&place, |v| values.push(v)).unwrap();
            }
            assert_eq!(values, [1, 300], "{bytes:?}");
        }
    }

    #[test]
    fn negative_integers_take_ten_bytes() {
        let field = first(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1])
            .unwrap()
            .unwrap();
        assert_eq!(field.int(&Place::root("model")).unwrap(), -1);
    }
}
