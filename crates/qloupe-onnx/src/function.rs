//! `FunctionProto`: operators that a model defines itself.

use qloupe_ir::Function;

use crate::OnnxErrorKind;
use crate::attribute::{read_attribute, write_attribute};
use crate::graph::Depth;
use crate::node::{read_node, write_node};
use crate::place::Place;
use crate::spelling;
use crate::stored_tensor::Origin;
use crate::tensor_writer::Placement;
use crate::wire_reader::Field;
use crate::wire_writer::Message;

const NAME: u32 = 1;
const INPUT: u32 = 4;
const OUTPUT: u32 = 5;
const ATTRIBUTE: u32 = 6;
const NODE: u32 = 7;
const DOC_STRING: u32 = 8;
const OPSET_IMPORT: u32 = 9;
const DOMAIN: u32 = 10;
const ATTRIBUTE_PROTO: u32 = 11;
const OVERLOAD: u32 = 13;

/// Reads one function.
pub(crate) fn read_function(
    origin: &Origin,
    field: &Field<'_>,
    place: &Place<'_>,
) -> Result<Function, OnnxErrorKind> {
    let mut function = Function::default();
    field.message(place, |mut fields| {
        while let Some(field) = fields.next(place)? {
            let extra = &mut function.extra;
            match field.number {
                NAME => function.name = field.text(&place.field("name"), extra)?,
                INPUT => {
                    let name = field.string(&place.item("input", function.inputs.len()))?;
                    function.inputs.push(name);
                }
                OUTPUT => {
                    let name = field.string(&place.item("output", function.outputs.len()))?;
                    function.outputs.push(name);
                }
                ATTRIBUTE => {
                    let name = field.string(&place.item("attribute", function.attributes.len()))?;
                    function.attributes.push(name);
                }
                NODE => {
                    let place = place.item("node", function.nodes.len());
                    function
                        .nodes
                        .push(read_node(origin, &field, &place, Depth::TOP)?);
                }
                DOC_STRING => function.doc_string = field.free_text(&place.field("doc_string"), extra)?,
                OPSET_IMPORT => {
                    spelling::OPSET_IMPORT.read(&field, &mut function.opset_imports, extra, place)?;
                }
                DOMAIN => function.domain = field.text(&place.field("domain"), extra)?,
                ATTRIBUTE_PROTO => {
                    let place = place.item("attribute_proto", function.default_attributes.len());
                    let attribute = read_attribute(origin, &field, &place, Depth::TOP)?;
                    function.default_attributes.push(attribute);
                }
                OVERLOAD => function.overload = field.text(&place.field("overload"), extra)?,
                _ => field.keep(extra, place)?,
            }
        }
        Ok(())
    })?;
    if function.name.is_empty() {
        return Err(field.malformed(&place.field("name"), "is absent, expected a name"));
    }
    Ok(function)
}

/// Writes one function.
pub(crate) fn write_function<'a>(
    function: &'a Function,
    placement: &mut Placement<'a>,
) -> Result<Message<'a>, OnnxErrorKind> {
    let mut message = Message::default();
    message.text(NAME, &function.name);
    message.texts(INPUT, &function.inputs);
    message.texts(OUTPUT, &function.outputs);
    message.texts(ATTRIBUTE, &function.attributes);
    for node in &function.nodes {
        message.message(NODE, write_node(node, placement)?);
    }
    message.text(DOC_STRING, &function.doc_string);
    spelling::OPSET_IMPORT.write(
        &mut message,
        OPSET_IMPORT,
        &function.opset_imports,
        &function.extra,
    )?;
    message.text(DOMAIN, &function.domain);
    for attribute in &function.default_attributes {
        message.message(ATTRIBUTE_PROTO, write_attribute(attribute, placement)?);
    }
    message.text(OVERLOAD, &function.overload);
    message.extra(&function.extra, &[OPSET_IMPORT])?;
    Ok(message)
}
