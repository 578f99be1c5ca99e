//! `NodeProto`: the nodes of graphs and functions.

use qloupe_ir::Node;

use crate::OnnxErrorKind;
use crate::attribute::{read_attribute, write_attribute};
use crate::graph::Depth;
use crate::place::Place;
use crate::stored_tensor::Origin;
use crate::tensor_writer::Placement;
use crate::wire_reader::Field;
use crate::wire_writer::Message;

const INPUT: u32 = 1;
const OUTPUT: u32 = 2;
const NAME: u32 = 3;
const OP_TYPE: u32 = 4;
const ATTRIBUTE: u32 = 5;
const DOC_STRING: u32 = 6;
const DOMAIN: u32 = 7;

/// Reads one node.
pub(crate) fn read_node(
    origin: &Origin,
    field: &Field<'_>,
    place: &Place<'_>,
    depth: Depth,
) -> Result<Node, OnnxErrorKind> {
    let mut node = Node::default();
    field.message(place, |mut fields| {
        while let Some(field) = fields.next(place)? {
            let extra = &mut node.extra;
            match field.number {
                INPUT => {
                    let name = field.string(&place.item("input", node.inputs.len()))?;
                    node.inputs.push(name);
                }
                OUTPUT => {
                    let name = field.string(&place.item("output", node.outputs.len()))?;
                    node.outputs.push(name);
                }
                NAME => node.name = field.text(&place.field("name"), extra)?,
                OP_TYPE => node.op_type = field.text(&place.field("op_type"), extra)?,
                ATTRIBUTE => {
                    let place = place.item("attribute", node.attributes.len());
                    node.attributes
                        .push(read_attribute(origin, &field, &place, depth)?);
                }
                DOC_STRING => node.doc_string = field.free_text(&place.field("doc_string"), extra)?,
                DOMAIN => node.domain = field.text(&place.field("domain"), extra)?,
                _ => field.keep(extra, place)?,
            }
        }
        Ok(())
    })?;
    if node.op_type.is_empty() {
        return Err(field.malformed(&place.field("op_type"), "is absent, expected an operator"));
    }
    Ok(node)
}

/// Writes one node.
pub(crate) fn write_node<'a>(
    node: &'a Node,
    placement: &mut Placement<'a>,
) -> Result<Message<'a>, OnnxErrorKind> {
    let mut message = Message::default();
    message.texts(INPUT, &node.inputs);
    message.texts(OUTPUT, &node.outputs);
    message.text(NAME, &node.name);
    message.text(OP_TYPE, &node.op_type);
    for attribute in &node.attributes {
        message.message(ATTRIBUTE, write_attribute(attribute, placement)?);
    }
    message.text(DOC_STRING, &node.doc_string);
    message.text(DOMAIN, &node.domain);
    message.extra(&node.extra, &[])?;
    Ok(message)
}
