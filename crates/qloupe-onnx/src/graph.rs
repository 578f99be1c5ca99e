//! `GraphProto`: graphs and subgraphs.

use std::sync::Arc;

use qloupe_ir::{Constant, Graph, Initializer};

use crate::OnnxErrorKind;
use crate::node::{read_node, write_node};
use crate::place::Place;
use crate::stored_tensor::{Origin, StoredTensor};
use crate::tensor_writer::Placement;
use crate::value_info::{read_value_info, write_value_info};
use crate::wire_reader::Field;
use crate::wire_writer::Message;

const NODE: u32 = 1;
const NAME: u32 = 2;
const INITIALIZER: u32 = 5;
const DOC_STRING: u32 = 10;
const INPUT: u32 = 11;
const OUTPUT: u32 = 12;
const VALUE_INFO: u32 = 13;

/// Levels of subgraphs that are read: the stack is finite.
const MAX_DEPTH: usize = 64;

/// How deep a graph is nested.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth(usize);

impl Depth {
    /// The graph of the model, or the body of a function.
    pub(crate) const TOP: Self = Self(1);

    /// The depth of a subgraph.
    pub(crate) fn deeper(self, field: &Field<'_>, place: &Place<'_>) -> Result<Self, OnnxErrorKind> {
        if self.0 == MAX_DEPTH {
            return Err(OnnxErrorKind::TooDeep {
                offset: field.offset(),
                field: place.to_string(),
                limit: MAX_DEPTH,
            });
        }
        Ok(Self(self.0 + 1))
    }
}

/// Reads one graph.
pub(crate) fn read_graph(
    origin: &Origin,
    field: &Field<'_>,
    place: &Place<'_>,
    depth: Depth,
) -> Result<Graph, OnnxErrorKind> {
    let mut graph = Graph::default();
    field.message(place, |mut fields| {
        while let Some(field) = fields.next(place)? {
            let extra = &mut graph.extra;
            match field.number {
                NODE => {
                    let place = place.item("node", graph.nodes.len());
                    graph.nodes.push(read_node(origin, &field, &place, depth)?);
                }
                NAME => graph.name = field.text(&place.field("name"), extra)?,
                INITIALIZER => {
                    let place = place.item("initializer", graph.initializers.len());
                    let stored = StoredTensor::read(origin, &field, &place)?;
                    graph.initializers.push(Initializer {
                        name: stored.name().to_owned(),
                        value: Constant::Encoded(Arc::new(stored)),
                    });
                }
                DOC_STRING => graph.doc_string = field.free_text(&place.field("doc_string"), extra)?,
                INPUT => {
                    let place = place.item("input", graph.inputs.len());
                    graph.inputs.push(read_value_info(&field, &place)?);
                }
                OUTPUT => {
                    let place = place.item("output", graph.outputs.len());
                    graph.outputs.push(read_value_info(&field, &place)?);
                }
                VALUE_INFO => {
                    let place = place.item("value_info", graph.value_info.len());
                    graph.value_info.push(read_value_info(&field, &place)?);
                }
                _ => field.keep(extra, place)?,
            }
        }
        Ok(())
    })?;
    Ok(graph)
}

/// Writes one graph.
pub(crate) fn write_graph<'a>(
    graph: &'a Graph,
    placement: &mut Placement<'a>,
) -> Result<Message<'a>, OnnxErrorKind> {
    let mut message = Message::default();
    for node in &graph.nodes {
        message.message(NODE, write_node(node, placement)?);
    }
    message.text(NAME, &graph.name);
    for initializer in &graph.initializers {
        let tensor = placement.write(&initializer.value, Some(&initializer.name))?;
        message.delimited(INITIALIZER, tensor);
    }
    message.text(DOC_STRING, &graph.doc_string);
    for (number, list) in [
        (INPUT, &graph.inputs),
        (OUTPUT, &graph.outputs),
        (VALUE_INFO, &graph.value_info),
    ] {
        for info in list {
            message.message(number, write_value_info(info)?);
        }
    }
    message.extra(&graph.extra, &[])?;
    Ok(message)
}
