//! The protobuf wire format, writing: messages whose fields come out in number order. Knows no ONNX message.

use std::borrow::Cow;
use std::io::{self, Write};

use qloupe_ir::Extra;

use crate::OnnxErrorKind;
use crate::place::Place;
use crate::wire_reader::Fields;

/// Pieces of at least this many bytes are moved or borrowed instead of copied together.
const SHARED_SIZE: usize = 256;

/// Bytes in pieces, so that weights are borrowed from the mapped file on their way to the disk.
#[derive(Debug, Default)]
pub(crate) struct Rope<'a> {
    pieces: Vec<Cow<'a, [u8]>>,
    len: usize,
}

impl<'a> Rope<'a> {
    /// The number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds bytes.
    pub(crate) fn push(&mut self, bytes: Cow<'a, [u8]>) {
        self.len += bytes.len();
        if bytes.len() >= SHARED_SIZE {
            self.pieces.push(bytes);
        } else if let Some(Cow::Owned(last)) = self.pieces.last_mut() {
            last.extend_from_slice(&bytes);
        } else {
            self.pieces.push(Cow::Owned(bytes.into_owned()));
        }
    }

    /// Adds the bytes of another rope.
    pub(crate) fn append(&mut self, other: Self) {
        for piece in other.pieces {
            self.push(piece);
        }
    }

    /// Writes all bytes.
    pub(crate) fn write_to(&self, file: &mut impl Write) -> io::Result<()> {
        self.pieces.iter().try_for_each(|piece| file.write_all(piece))
    }

    /// All bytes in one vector.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        for piece in &self.pieces {
            bytes.extend_from_slice(piece);
        }
        bytes
    }
}

/// A message under construction.
#[derive(Debug, Default)]
pub(crate) struct Message<'a> {
    fields: Vec<(u32, Rope<'a>)>,
}

impl<'a> Message<'a> {
    /// The fields of an encoded message, without those in `left_out`.
    pub(crate) fn without(bytes: &'a [u8], left_out: &[u32]) -> Result<Self, OnnxErrorKind> {
        let place = Place::root("message");
        let mut message = Self::default();
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next(&place)? {
            let encoded = field.encoded(&place)?;
            if !left_out.contains(&field.number) {
                message.encoded(field.number, encoded);
            }
        }
        Ok(message)
    }

    /// A field that is encoded already, tag and all.
    pub(crate) fn encoded(&mut self, number: u32, bytes: &'a [u8]) {
        let mut rope = Rope::default();
        rope.push(Cow::Borrowed(bytes));
        self.fields.push((number, rope));
    }

    /// An integer, 0 too.
    pub(crate) fn int(&mut self, number: u32, value: i64) {
        let mut bytes = tag(number, 0);
        put_varint(&mut bytes, value.cast_unsigned());
        self.owned(number, bytes);
    }

    /// An integer, unless it is 0.
    pub(crate) fn nonzero_int(&mut self, number: u32, value: i64) {
        if value != 0 {
            self.int(number, value);
        }
    }

    /// A 32-bit float.
    pub(crate) fn float(&mut self, number: u32, value: f32) {
        let mut bytes = tag(number, 5);
        bytes.extend_from_slice(&value.to_le_bytes());
        self.owned(number, bytes);
    }

    /// Length-delimited bytes, empty ones too.
    pub(crate) fn bytes(&mut self, number: u32, payload: impl Into<Cow<'a, [u8]>>) {
        let mut rope = Rope::default();
        rope.push(payload.into());
        self.delimited(number, rope);
    }

    /// A string, unless it is empty.
    pub(crate) fn text(&mut self, number: u32, text: &'a str) {
        if !text.is_empty() {
            self.bytes(number, text.as_bytes());
        }
    }

    /// Every string of a repeated field.
    pub(crate) fn texts(&mut self, number: u32, texts: &'a [String]) {
        for text in texts {
            self.bytes(number, text.as_bytes());
        }
    }

    /// A message.
    pub(crate) fn message(&mut self, number: u32, message: Self) {
        self.delimited(number, message.finish());
    }

    /// A message that is encoded already.
    pub(crate) fn delimited(&mut self, number: u32, payload: Rope<'a>) {
        let mut bytes = tag(number, 2);
        put_varint(&mut bytes, u64::try_from(payload.len()).unwrap_or(u64::MAX));
        let mut rope = Rope::default();
        rope.push(Cow::Owned(bytes));
        rope.append(payload);
        self.fields.push((number, rope));
    }

    /// Adds the extra fields of the message, without those in `left_out`. A number that has been written already
    /// supersedes the extra field.
    pub(crate) fn extra(&mut self, extra: &'a Extra, left_out: &[u32]) -> Result<(), OnnxErrorKind> {
        let mut superseded: Vec<u32> = self.fields.iter().map(|(number, _)| *number).collect();
        superseded.extend_from_slice(left_out);
        superseded.sort_unstable();
        superseded.dedup();
        self.fields.extend(Self::without(&extra.0, &superseded)?.fields);
        Ok(())
    }

    /// The message, its fields in number order.
    pub(crate) fn finish(mut self) -> Rope<'a> {
        self.fields.sort_by_key(|(number, _)| *number);
        let mut rope = Rope::default();
        for (_, field) in self.fields {
            rope.append(field);
        }
        rope
    }

    fn owned(&mut self, number: u32, bytes: Vec<u8>) {
        let mut rope = Rope::default();
        rope.push(Cow::Owned(bytes));
        self.fields.push((number, rope));
    }
}

fn tag(number: u32, wire_type: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, u64::from(number) << 3 | wire_type);
    bytes
}

/// Adds a varint.
fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7f).to_le_bytes()[0];
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_out_in_number_order() {
        let mut message = Message::default();
        message.text(7, "x");
        message.int(1, 300);
        message.int(7, 0);
        let extra = Extra(vec![0x10, 1, 0x08, 9]);
        message.extra(&extra, &[]).unwrap();
        assert_eq!(
            message.finish().to_vec(),
            [0x08, 0xac, 0x02, 0x10, 1, 0x3a, 1, b'x', 0x38, 0]
        );
    }

    #[test]
    fn large_pieces_are_borrowed() {
        let weights = vec![7_u8; 1000];
        let mut message = Message::default();
        message.text(1, "w");
        message.bytes(2, weights.as_slice());
        let rope = message.finish();
        assert!(matches!(rope.pieces[1], Cow::Borrowed(piece) if piece.as_ptr() == weights.as_ptr()));
        assert_eq!(rope.len(), rope.to_vec().len());
    }

    #[test]
    fn broken_extra_fields_are_refused() {
        let extra = Extra(vec![0x0a, 9, 1]);
        assert_eq!(
            Message::default().extra(&extra, &[]).unwrap_err().to_string(),
            "truncated at byte 2 in message, expected 9 bytes, got 1"
        );
    }
}
