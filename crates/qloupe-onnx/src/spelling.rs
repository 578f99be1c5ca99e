//! Repeated messages without room for extra fields: operator sets and metadata.
//!
//! Where the file spells one in another way than the writer would (an empty domain that is present, unknown fields),
//! its encoding is kept among the extra fields of the enclosing message, and is used for as long as it says the same.

use std::borrow::Cow;
use std::collections::BTreeMap;

use qloupe_ir::{Extra, OpsetImport};

use crate::OnnxErrorKind;
use crate::place::Place;
use crate::stored_tensor::read_entry;
use crate::wire_reader::{Field, Fields};
use crate::wire_writer::{Message, Rope};

/// One kind of such a message.
#[derive(Debug)]
pub(crate) struct Spelled<T> {
    /// The name of the repeated field.
    name: &'static str,
    read: fn(Fields<'_>, &Place<'_>) -> Result<T, OnnxErrorKind>,
    write: for<'a> fn(&'a T) -> Message<'a>,
}

/// `OperatorSetIdProto`.
pub(crate) const OPSET_IMPORT: Spelled<OpsetImport> = Spelled {
    name: "opset_import",
    read: read_opset_import,
    write: |import| {
        let mut message = Message::default();
        message.text(1, &import.domain);
        message.int(2, import.version);
        message
    },
};

/// `StringStringEntryProto`.
pub(crate) const METADATA_PROPS: Spelled<(String, String)> = Spelled {
    name: "metadata_props",
    read: read_entry,
    write: |(key, value)| {
        let mut message = Message::default();
        message.bytes(1, key.as_bytes());
        message.bytes(2, value.as_bytes());
        message
    },
};

impl<T> Spelled<T> {
    /// Reads one message; keeps its encoding when it is not the writer's.
    pub(crate) fn read(
        &self,
        field: &Field<'_>,
        items: &mut Vec<T>,
        extra: &mut Extra,
        place: &Place<'_>,
    ) -> Result<(), OnnxErrorKind> {
        let place = place.item(self.name, items.len());
        let item = field.message(&place, |fields| (self.read)(fields, &place))?;
        if (self.write)(&item).finish().to_vec() != field.payload(&place)? {
            field.keep(extra, &place)?;
        }
        items.push(item);
        Ok(())
    }

    /// Writes all messages, each as the file spelled it where it did.
    pub(crate) fn write<'a>(
        &self,
        message: &mut Message<'a>,
        number: u32,
        items: &'a [T],
        extra: &'a Extra,
    ) -> Result<(), OnnxErrorKind> {
        let place = Place::root("extra");
        let mut spellings: BTreeMap<Vec<u8>, &'a [u8]> = BTreeMap::new();
        let mut fields = Fields::new(&extra.0);
        while let Some(field) = fields.next(&place)? {
            if field.number == number {
                let item = field.message(&place, |fields| (self.read)(fields, &place))?;
                spellings.insert((self.write)(&item).finish().to_vec(), field.payload(&place)?);
            }
        }
        for item in items {
            let normal = (self.write)(item).finish();
            match spellings.get(&normal.to_vec()) {
                Some(&spelling) => {
                    let mut rope = Rope::default();
                    rope.push(Cow::Borrowed(spelling));
                    message.delimited(number, rope);
                }
                None => message.delimited(number, normal),
            }
        }
        Ok(())
    }
}

fn read_opset_import(mut fields: Fields<'_>, place: &Place<'_>) -> Result<OpsetImport, OnnxErrorKind> {
    let mut import = OpsetImport {
        domain: String::new(),
        version: 0,
    };
    while let Some(field) = fields.next(place)? {
        match field.number {
            1 => import.domain = field.string(&place.field("domain"))?,
            2 => import.version = field.int(&place.field("version"))?,
            _ => {
                field.encoded(place)?;
            }
        }
    }
    Ok(import)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model_to_bytes, read_model_bytes};

    /// A model whose operator set says its empty domain, with a metadata entry that has no value.
    fn model() -> Vec<u8> {
        let mut opset = Message::default();
        opset.bytes(1, vec![]);
        opset.int(2, 12);
        let mut entry = Message::default();
        entry.text(1, "key");
        let mut model = Message::default();
        model.int(1, 8);
        model.message(7, Message::default());
        model.message(8, opset);
        model.message(14, entry);
        model.finish().to_vec()
    }

    #[test]
    fn an_unusual_spelling_is_kept() {
        let read = read_model_bytes(model(), None).unwrap();
        assert_eq!(read.metadata_props, [("key".to_owned(), String::new())]);
        assert_eq!(model_to_bytes(&read).unwrap(), model());
    }

    #[test]
    fn an_edit_supersedes_the_spelling() {
        let mut edited = read_model_bytes(model(), None).unwrap();
        edited.set_opset(13);
        edited.metadata_props.clear();
        let back = read_model_bytes(model_to_bytes(&edited).unwrap(), None).unwrap();
        assert_eq!((back.opset(), back.opset_imports.len()), (13, 1));
        assert!(back.metadata_props.is_empty());
    }
}
