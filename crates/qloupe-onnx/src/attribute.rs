//! `AttributeProto`: the attributes of nodes and functions.

use std::sync::Arc;

use qloupe_ir::{Attribute, AttributeValue, Constant, Extra};

use crate::OnnxErrorKind;
use crate::graph::{Depth, read_graph, write_graph};
use crate::place::Place;
use crate::stored_tensor::{Origin, StoredTensor};
use crate::tensor_writer::Placement;
use crate::wire_reader::{Field, Fields};
use crate::wire_writer::Message;

const NAME: u32 = 1;
const DOC_STRING: u32 = 13;
const TYPE: u32 = 20;
const REF_ATTR_NAME: u32 = 21;

/// A type of attribute that the graph interprets: (`AttributeType` number, field number, field name).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind(i64, u32, &'static str);

const FLOAT: Kind = Kind(1, 2, "f");
const INT: Kind = Kind(2, 3, "i");
const STRING: Kind = Kind(3, 4, "s");
const TENSOR: Kind = Kind(4, 5, "t");
const GRAPH: Kind = Kind(5, 6, "g");
const FLOATS: Kind = Kind(6, 7, "floats");
const INTS: Kind = Kind(7, 8, "ints");
const STRINGS: Kind = Kind(8, 9, "strings");
const TENSORS: Kind = Kind(9, 10, "tensors");
const GRAPHS: Kind = Kind(10, 11, "graphs");

const KINDS: [Kind; 10] = [
    FLOAT, INT, STRING, TENSOR, GRAPH, FLOATS, INTS, STRINGS, TENSORS, GRAPHS,
];

/// Reads one attribute.
pub(crate) fn read_attribute(
    origin: &Origin,
    field: &Field<'_>,
    place: &Place<'_>,
    depth: Depth,
) -> Result<Attribute, OnnxErrorKind> {
    let attribute = field.message(place, |fields| match read_head(fields.clone(), place)? {
        Head::Value(kind) => read_value(origin, fields, kind, place, depth),
        Head::Reference => read_reference(fields, place),
        Head::Encoded => read_encoded(fields, place),
    })?;
    if attribute.name.is_empty() {
        return Err(field.malformed(&place.field("name"), "is absent, expected a name"));
    }
    Ok(attribute)
}

/// Which field of an attribute is its value.
enum Head {
    Value(Kind),
    Reference,
    /// A type that is carried: sparse tensors, type protos, later inventions.
    Encoded,
}

/// Files of the first version of the format have no `type`: there the field that is present says it.
fn read_head(mut fields: Fields<'_>, place: &Place<'_>) -> Result<Head, OnnxErrorKind> {
    let mut number = 0;
    let mut present = None;
    let mut is_reference = false;
    while let Some(field) = fields.next(place)? {
        match field.number {
            TYPE => number = field.int(&place.field("type"))?,
            REF_ATTR_NAME => is_reference = !field.payload(&place.field("ref_attr_name"))?.is_empty(),
            other => {
                let kind = KINDS.into_iter().find(|kind| kind.1 == other);
                present = present.or(kind);
            }
        }
    }
    let kind = KINDS.into_iter().find(|kind| kind.0 == number);
    Ok(match kind.or(present.filter(|_| number == 0)) {
        _ if is_reference => Head::Reference,
        Some(kind) => Head::Value(kind),
        None => Head::Encoded,
    })
}

fn read_value(
    origin: &Origin,
    mut fields: Fields<'_>,
    kind: Kind,
    place: &Place<'_>,
    depth: Depth,
) -> Result<Attribute, OnnxErrorKind> {
    let mut attribute = Attribute::new("", AttributeValue::Int(0));
    let extra = &mut attribute.extra;
    let mut bytes = Vec::new();
    let mut tensors = Vec::new();
    let mut graphs = Vec::new();
    let mut strings = Vec::new();
    let (mut float, mut floats) = (0.0, Vec::new());
    let (mut int, mut ints) = (0, Vec::new());
    let mut n_values = 0_usize;
    let start = fields.offset();
    while let Some(field) = fields.next(place)? {
        let at = place.field(kind.2);
        let item = place.item(kind.2, n_values);
        match field.number {
            NAME => attribute.name = field.text(&place.field("name"), extra)?,
            TYPE => {}
            number if number != kind.1 => field.keep(extra, place)?,
            _ => {
                n_values += 1;
                match kind {
                    FLOAT => float = field.float(&at)?,
                    INT => int = field.int(&at)?,
                    STRING => bytes = field.payload(&at)?.to_vec(),
                    FLOATS => {
                        let numbers = field.fixed_bytes(&at)?;
                        floats.extend(numbers.iter().map(|&bytes| f32::from_le_bytes(bytes)));
                    }
                    INTS => field.each_varint(&at, |value| ints.push(value.cast_signed()))?,
                    STRINGS => strings.push(field.payload(&item)?.to_vec()),
                    TENSOR => tensors.push(read_constant(origin, &field, &at)?),
                    TENSORS => tensors.push(read_constant(origin, &field, &item)?),
                    GRAPH => graphs.push(read_graph(origin, &field, &at, depth.deeper(&field, &at)?)?),
                    _ => graphs.push(read_graph(origin, &field, &item, depth.deeper(&field, &item)?)?),
                }
            }
        }
    }
    let is_message = kind == TENSOR || kind == GRAPH;
    if is_message && n_values != 1 {
        return Err(OnnxErrorKind::Malformed {
            offset: start,
            field: place.field(kind.2).to_string(),
            what: format!("expected one value, got {n_values}"),
        });
    }
    attribute.value = match kind {
        FLOAT => AttributeValue::Float(float),
        INT => AttributeValue::Int(int),
        STRING => AttributeValue::String(bytes),
        FLOATS => AttributeValue::Floats(floats),
        INTS => AttributeValue::Ints(ints),
        STRINGS => AttributeValue::Strings(strings),
        TENSOR => AttributeValue::Tensor(tensors.remove(0)),
        TENSORS => AttributeValue::Tensors(tensors),
        GRAPH => AttributeValue::Graph(Box::new(graphs.remove(0))),
        _ => AttributeValue::Graphs(graphs),
    };
    Ok(attribute)
}

fn read_constant(origin: &Origin, field: &Field<'_>, place: &Place<'_>) -> Result<Constant, OnnxErrorKind> {
    Ok(Constant::Encoded(Arc::new(StoredTensor::read(
        origin, field, place,
    )?)))
}

fn read_reference(mut fields: Fields<'_>, place: &Place<'_>) -> Result<Attribute, OnnxErrorKind> {
    let mut attribute = Attribute::new("", AttributeValue::Int(0));
    while let Some(field) = fields.next(place)? {
        match field.number {
            NAME => attribute.name = field.text(&place.field("name"), &mut attribute.extra)?,
            REF_ATTR_NAME => {
                let name = field.string(&place.field("ref_attr_name"))?;
                attribute.value = AttributeValue::Reference(name);
            }
            _ => field.keep(&mut attribute.extra, place)?,
        }
    }
    Ok(attribute)
}

fn read_encoded(mut fields: Fields<'_>, place: &Place<'_>) -> Result<Attribute, OnnxErrorKind> {
    let mut encoded = Extra::default();
    let mut attribute = Attribute::new("", AttributeValue::Int(0));
    while let Some(field) = fields.next(place)? {
        match field.number {
            NAME => attribute.name = field.text(&place.field("name"), &mut attribute.extra)?,
            DOC_STRING => field.keep(&mut attribute.extra, place)?,
            _ => field.keep(&mut encoded, place)?,
        }
    }
    attribute.value = AttributeValue::Encoded(encoded.0);
    Ok(attribute)
}

/// Writes one attribute.
pub(crate) fn write_attribute<'a>(
    attribute: &'a Attribute,
    placement: &mut Placement<'a>,
) -> Result<Message<'a>, OnnxErrorKind> {
    let mut message = match &attribute.value {
        AttributeValue::Encoded(bytes) => Message::without(bytes, &[])?,
        _ => Message::default(),
    };
    message.text(NAME, &attribute.name);
    let kind = match &attribute.value {
        AttributeValue::Float(value) => {
            message.float(FLOAT.1, *value);
            FLOAT
        }
        AttributeValue::Int(value) => {
            message.int(INT.1, *value);
            INT
        }
        AttributeValue::String(value) => {
            message.bytes(STRING.1, value.as_slice());
            STRING
        }
        AttributeValue::Tensor(value) => {
            message.delimited(TENSOR.1, placement.write(value, None)?);
            TENSOR
        }
        AttributeValue::Graph(value) => {
            message.message(GRAPH.1, write_graph(value, placement)?);
            GRAPH
        }
        AttributeValue::Floats(values) => {
            values.iter().for_each(|&value| message.float(FLOATS.1, value));
            FLOATS
        }
        AttributeValue::Ints(values) => {
            values.iter().for_each(|&value| message.int(INTS.1, value));
            INTS
        }
        AttributeValue::Strings(values) => {
            values
                .iter()
                .for_each(|value| message.bytes(STRINGS.1, value.as_slice()));
            STRINGS
        }
        AttributeValue::Tensors(values) => {
            for value in values {
                message.delimited(TENSORS.1, placement.write(value, None)?);
            }
            TENSORS
        }
        AttributeValue::Graphs(values) => {
            for value in values {
                message.message(GRAPHS.1, write_graph(value, placement)?);
            }
            GRAPHS
        }
        AttributeValue::Reference(name) => {
            message.text(REF_ATTR_NAME, name);
            message.extra(&attribute.extra, &[])?;
            return Ok(message);
        }
        AttributeValue::Encoded(_) => {
            message.extra(&attribute.extra, &[])?;
            return Ok(message);
        }
    };
    message.int(TYPE, kind.0);
    message.extra(&attribute.extra, &[])?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn read(attribute: Message<'_>) -> (Attribute, Vec<u8>) {
        let mut node = Message::default();
        node.message(5, attribute);
        let origin = Origin {
            source: Arc::new(Source::Owned(node.finish().to_vec())),
            external: None,
        };
        let place = Place::root("node");
        let field = Fields::new(&origin.source).next(&place).unwrap().unwrap();
        let attribute = read_attribute(&origin, &field, &place, Depth::TOP).unwrap();
        (attribute, field.payload(&place).unwrap().to_vec())
    }

    fn written(attribute: &Attribute) -> Vec<u8> {
        let mut placement = Placement::Inside { folder: None };
        let message = write_attribute(attribute, &mut placement).unwrap();
        message.finish().to_vec()
    }

    #[test]
    fn every_value_comes_back_byte_for_byte() {
        struct Case {
            add: fn(&mut Message<'_>),
            value: AttributeValue,
        }
        let cases = [
            Case {
                add: |a| {
                    a.float(2, 0.0);
                    a.int(TYPE, 1);
                },
                value: AttributeValue::Float(0.0),
            },
            Case {
                add: |a| {
                    a.int(3, 0);
                    a.int(TYPE, 2);
                    a.text(DOC_STRING, "why");
                },
                value: AttributeValue::Int(0),
            },
            Case {
                add: |a| {
                    a.bytes(4, vec![0xff]);
                    a.int(TYPE, 3);
                },
                value: AttributeValue::String(vec![0xff]),
            },
            Case {
                add: |a| a.int(TYPE, 7),
                value: AttributeValue::Ints(vec![]),
            },
            Case {
                add: |a| {
                    a.bytes(9, vec![]);
                    a.bytes(9, vec![1]);
                    a.int(TYPE, 8);
                },
                value: AttributeValue::Strings(vec![vec![], vec![1]]),
            },
            Case {
                add: |a| {
                    a.float(2, 0.0);
                    a.int(8, -1);
                    a.int(TYPE, 7);
                },
                value: AttributeValue::Ints(vec![-1]),
            },
            Case {
                add: |a| {
                    a.int(TYPE, 2);
                    a.text(REF_ATTR_NAME, "outer");
                },
                value: AttributeValue::Reference("outer".to_owned()),
            },
            Case {
                add: |a| {
                    a.bytes(14, vec![0x0a, 0]);
                    a.int(TYPE, 13);
                },
                value: AttributeValue::Encoded(vec![0x72, 2, 0x0a, 0, 0xa0, 1, 13]),
            },
        ];
        for case in cases {
            let mut message = Message::default();
            message.text(NAME, "a");
            (case.add)(&mut message);
            let (attribute, bytes) = read(message);
            assert_eq!(attribute.value, case.value);
            assert_eq!(written(&attribute), bytes, "{:?}", case.value);
        }
    }

    #[test]
    fn the_normal_form_says_the_type_and_the_value() {
        struct Case {
            add: fn(&mut Message<'_>),
            value: AttributeValue,
        }
        let cases = [
            Case {
                add: |a| a.int(3, 5),
                value: AttributeValue::Int(5),
            },
            Case {
                add: |a| a.int(TYPE, 2),
                value: AttributeValue::Int(0),
            },
            Case {
                add: |a| {
                    a.bytes(8, vec![1, 2]);
                    a.int(TYPE, 7);
                },
                value: AttributeValue::Ints(vec![1, 2]),
            },
        ];
        for case in cases {
            let mut message = Message::default();
            message.text(NAME, "a");
            (case.add)(&mut message);
            let (attribute, _) = read(message);
            assert_eq!(attribute.value, case.value);
            assert_eq!(
                written(&attribute),
                written(&Attribute::new("a", case.value.clone())),
                "{:?}",
                case.value
            );
        }
    }
}
