//! `ModelProto`: the outermost message.

use qloupe_ir::Model;

use crate::OnnxErrorKind;
use crate::function::{read_function, write_function};
use crate::graph::{Depth, read_graph, write_graph};
use crate::place::Place;
use crate::spelling;
use crate::stored_tensor::Origin;
use crate::tensor_writer::Placement;
use crate::wire_reader::Fields;
use crate::wire_writer::{Message, Rope};

const IR_VERSION: u32 = 1;
const PRODUCER_NAME: u32 = 2;
const PRODUCER_VERSION: u32 = 3;
const DOMAIN: u32 = 4;
const MODEL_VERSION: u32 = 5;
const DOC_STRING: u32 = 6;
const GRAPH: u32 = 7;
const OPSET_IMPORT: u32 = 8;
const METADATA_PROPS: u32 = 14;
const FUNCTIONS: u32 = 25;

/// Reads a model.
pub(crate) fn read_model_message(origin: &Origin) -> Result<Model, OnnxErrorKind> {
    let mut model = Model::default();
    let mut graph = None;
    let place = Place::root("model");
    let mut fields = Fields::new(&origin.source);
    while let Some(field) = fields.next(&place)? {
        let extra = &mut model.extra;
        match field.number {
            IR_VERSION => model.ir_version = field.int_or_kept(&place.field("ir_version"), extra)?,
            PRODUCER_NAME => model.producer_name = field.text(&place.field("producer_name"), extra)?,
            PRODUCER_VERSION => {
                model.producer_version = field.text(&place.field("producer_version"), extra)?
            }
            DOMAIN => model.domain = field.text(&place.field("domain"), extra)?,
            MODEL_VERSION => model.model_version = field.int_or_kept(&place.field("model_version"), extra)?,
            DOC_STRING => model.doc_string = field.free_text(&place.field("doc_string"), extra)?,
            GRAPH => {
                let place = place.field("graph");
                if graph.is_some() {
                    return Err(field.malformed(&place, "appears twice, expected one graph"));
                }
                graph = Some(read_graph(origin, &field, &place, Depth::TOP)?);
            }
            OPSET_IMPORT => spelling::OPSET_IMPORT.read(&field, &mut model.opset_imports, extra, &place)?,
            METADATA_PROPS => {
                spelling::METADATA_PROPS.read(&field, &mut model.metadata_props, extra, &place)?;
            }
            FUNCTIONS => {
                let place = place.item("functions", model.functions.len());
                model.functions.push(read_function(origin, &field, &place)?);
            }
            _ => field.keep(extra, &place)?,
        }
    }
    model.graph = graph.ok_or(OnnxErrorKind::NoGraph)?;
    Ok(model)
}

/// Writes a model.
pub(crate) fn write_model_message<'a>(
    model: &'a Model,
    placement: &mut Placement<'a>,
) -> Result<Rope<'a>, OnnxErrorKind> {
    let mut message = Message::default();
    message.nonzero_int(IR_VERSION, model.ir_version);
    message.text(PRODUCER_NAME, &model.producer_name);
    message.text(PRODUCER_VERSION, &model.producer_version);
    message.text(DOMAIN, &model.domain);
    message.nonzero_int(MODEL_VERSION, model.model_version);
    message.text(DOC_STRING, &model.doc_string);
    message.message(GRAPH, write_graph(&model.graph, placement)?);
    spelling::OPSET_IMPORT.write(&mut message, OPSET_IMPORT, &model.opset_imports, &model.extra)?;
    spelling::METADATA_PROPS.write(&mut message, METADATA_PROPS, &model.metadata_props, &model.extra)?;
    for function in &model.functions {
        message.message(FUNCTIONS, write_function(function, placement)?);
    }
    message.extra(&model.extra, &[OPSET_IMPORT, METADATA_PROPS])?;
    Ok(message.finish())
}
