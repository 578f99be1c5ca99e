//! The protobuf wire format, writing: messages whose fields come out in number order. Knows no ONNX message.

use std::borrow::Cow;
use std::io::{self, Write};
use std::ops::Range;

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
        if bytes.len() >= SHARED_SIZE {
            self.len += bytes.len();
            self.pieces.push(bytes);
        } else {
            self.copy(&bytes);
        }
    }

    /// Adds a copy of bytes.
    fn copy(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        match self.pieces.last_mut() {
            Some(Cow::Owned(last)) => last.extend_from_slice(bytes),
            _ => self.pieces.push(Cow::Owned(bytes.to_vec())),
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
    /// The bytes of all small fields, in the order they were added.
    small: Vec<u8>,
    fields: Vec<(u32, Part<'a>)>,
}

/// The bytes of a field, or of neighbouring small fields of the same number.
#[derive(Debug)]
enum Part<'a> {
    Small(Range<usize>),
    Large(Box<Rope<'a>>),
}

impl<'a> Message<'a> {
    /// The fields of an encoded message, without those in `left_out`.
    pub(crate) fn without(bytes: &'a [u8], left_out: &[u32]) -> Result<Self, OnnxErrorKind> {
        let mut message = Self::default();
        message.add_without(bytes, left_out)?;
        Ok(message)
    }

    fn add_without(&mut self, bytes: &'a [u8], left_out: &[u32]) -> Result<(), OnnxErrorKind> {
        let place = Place::root("message");
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next(&place)? {
            let encoded = field.encoded(&place)?;
            if !left_out.contains(&field.number) {
                self.encoded(field.number, encoded);
            }
        }
        Ok(())
    }

    /// A field that is encoded already, tag and all.
    pub(crate) fn encoded(&mut self, number: u32, bytes: &'a [u8]) {
        let mut rope = Rope::default();
        rope.push(Cow::Borrowed(bytes));
        self.add(number, rope);
    }

    /// An integer, 0 too.
    pub(crate) fn int(&mut self, number: u32, value: i64) {
        let start = self.small.len();
        put_tag(&mut self.small, number, 0);
        put_varint(&mut self.small, value.cast_unsigned());
        self.add_small(number, start);
    }

    /// An integer, unless it is 0.
    pub(crate) fn nonzero_int(&mut self, number: u32, value: i64) {
        if value != 0 {
            self.int(number, value);
        }
    }

    /// A 32-bit float.
    pub(crate) fn float(&mut self, number: u32, value: f32) {
        let start = self.small.len();
        put_tag(&mut self.small, number, 5);
        self.small.extend_from_slice(&value.to_le_bytes());
        self.add_small(number, start);
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
        let mut head = Vec::new();
        put_tag(&mut head, number, 2);
        put_varint(&mut head, u64::try_from(payload.len()).unwrap_or(u64::MAX));
        let mut rope = Rope::default();
        rope.push(Cow::Owned(head));
        rope.append(payload);
        self.add(number, rope);
    }

    /// Adds the extra fields of the message, without those in `left_out`. A number that has been written already
    /// supersedes the extra field.
    pub(crate) fn extra(&mut self, extra: &'a Extra, left_out: &[u32]) -> Result<(), OnnxErrorKind> {
        let mut superseded: Vec<u32> = self.fields.iter().map(|(number, _)| *number).collect();
        superseded.extend_from_slice(left_out);
        superseded.sort_unstable();
        superseded.dedup();
        self.add_without(&extra.0, &superseded)
    }

    /// The message, its fields in number order.
    pub(crate) fn finish(mut self) -> Rope<'a> {
        self.fields.sort_by_key(|(number, _)| *number);
        let mut rope = Rope::default();
        for (_, part) in self.fields {
            match part {
                Part::Small(range) => rope.copy(&self.small[range]),
                Part::Large(large) => rope.append(*large),
            }
        }
        rope
    }

    fn add(&mut self, number: u32, rope: Rope<'a>) {
        if rope.len() >= SHARED_SIZE {
            self.fields.push((number, Part::Large(Box::new(rope))));
            return;
        }
        let start = self.small.len();
        for piece in &rope.pieces {
            self.small.extend_from_slice(piece);
        }
        self.add_small(number, start);
    }

    /// Everything in `small` from `start` on is a field, or belongs to the last one of the same number.
    fn add_small(&mut self, number: u32, start: usize) {
        let end = self.small.len();
        match self.fields.last_mut() {
            Some((last, Part::Small(range))) if *last == number => range.end = end,
            _ => self.fields.push((number, Part::Small(start..end))),
        }
    }
}

fn put_tag(bytes: &mut Vec<u8>, number: u32, wire_type: u64) {
    put_varint(bytes, u64::from(number) << 3 | wire_type);
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
