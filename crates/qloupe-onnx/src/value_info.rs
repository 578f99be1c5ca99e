//! `ValueInfoProto` and `TypeProto`: declared values and their types.

use std::borrow::Cow;

use qloupe_ir::{Dim, Extra, TensorType, ValueInfo, ValueType};
use qloupe_tensor::DType;

use crate::OnnxErrorKind;
use crate::place::Place;
use crate::wire_reader::{Field, Fields};
use crate::wire_writer::{Message, Rope};

const NAME: u32 = 1;
const TYPE: u32 = 2;
const DOC_STRING: u32 = 3;

/// Fields of `TypeProto`.
const TENSOR_TYPE: u32 = 1;
/// The other kinds of types: sequence, map, opaque, sparse tensor, optional.
const OTHER_TYPES: [u32; 5] = [4, 5, 7, 8, 9];

/// Fields of `TypeProto.Tensor`.
const ELEM_TYPE: u32 = 1;
const SHAPE: u32 = 2;

/// The field of `TensorShapeProto`.
const DIM: u32 = 1;

/// Fields of `TensorShapeProto.Dimension`.
const DIM_VALUE: u32 = 1;
const DIM_PARAM: u32 = 2;

/// Reads one declared value.
pub(crate) fn read_value_info(field: &Field<'_>, place: &Place<'_>) -> Result<ValueInfo, OnnxErrorKind> {
    let mut info = ValueInfo {
        name: String::new(),
        ty: None,
        doc_string: String::new(),
        extra: Extra::default(),
    };
    field.message(place, |mut fields| {
        while let Some(field) = fields.next(place)? {
            match field.number {
                NAME => info.name = field.text(&place.field("name"), &mut info.extra)?,
                TYPE => info.ty = Some(read_type(&field, &place.field("type"))?),
                DOC_STRING => {
                    info.doc_string = field.free_text(&place.field("doc_string"), &mut info.extra)?;
                }
                _ => field.keep(&mut info.extra, place)?,
            }
        }
        Ok(())
    })?;
    if info.name.is_empty() {
        return Err(field.malformed(&place.field("name"), "is absent, expected a name"));
    }
    Ok(info)
}

/// Writes one declared value.
pub(crate) fn write_value_info(info: &ValueInfo) -> Result<Message<'_>, OnnxErrorKind> {
    let mut message = Message::default();
    message.text(NAME, &info.name);
    match &info.ty {
        Some(ValueType::Tensor(ty)) => message.delimited(TYPE, write_tensor_type(ty)?),
        Some(ValueType::Other(bytes)) => message.bytes(TYPE, bytes.as_slice()),
        None => {}
    }
    message.text(DOC_STRING, &info.doc_string);
    message.extra(&info.extra, &[])?;
    Ok(message)
}

fn read_type(field: &Field<'_>, place: &Place<'_>) -> Result<ValueType, OnnxErrorKind> {
    let ty = field.message(place, |fields| read_tensor_type(fields, place))?;
    let bytes = field.payload(place)?;
    Ok(match ty {
        Some(mut ty) => {
            if normal_form(&ty).finish().to_vec() != bytes {
                ty.extra = Extra(bytes.to_vec());
            }
            ValueType::Tensor(ty)
        }
        None => ValueType::Other(bytes.to_vec()),
    })
}

/// The tensor type that a `TypeProto` says; `None` for another kind of type, or a dtype that qloupe does not know.
fn read_tensor_type(mut fields: Fields<'_>, place: &Place<'_>) -> Result<Option<TensorType>, OnnxErrorKind> {
    let mut ty = None;
    let mut is_other = false;
    while let Some(field) = fields.next(place)? {
        if field.number == TENSOR_TYPE {
            let place = place.field("tensor_type");
            ty = field.message(&place, |fields| read_tensor(fields, &place))?;
            is_other |= ty.is_none();
        } else {
            field.encoded(place)?;
            is_other |= OTHER_TYPES.contains(&field.number);
        }
    }
    Ok(ty.filter(|_| !is_other))
}

fn read_tensor(mut fields: Fields<'_>, place: &Place<'_>) -> Result<Option<TensorType>, OnnxErrorKind> {
    let mut elem_type = 0;
    let mut shape = None;
    while let Some(field) = fields.next(place)? {
        match field.number {
            ELEM_TYPE => elem_type = field.int(&place.field("elem_type"))?,
            SHAPE => {
                let place = place.field("shape");
                shape = Some(field.message(&place, |fields| read_shape(fields, &place))?);
            }
            _ => {
                field.encoded(place)?;
            }
        }
    }
    let dtype = i32::try_from(elem_type).ok().and_then(DType::from_onnx);
    Ok((elem_type == 0 || dtype.is_some()).then_some(TensorType {
        dtype,
        shape,
        extra: Extra::default(),
    }))
}

fn read_shape(mut fields: Fields<'_>, place: &Place<'_>) -> Result<Vec<Dim>, OnnxErrorKind> {
    let mut dims = Vec::new();
    while let Some(field) = fields.next(place)? {
        if field.number == DIM {
            let place = place.item("dim", dims.len());
            dims.push(field.message(&place, |fields| read_dim(fields, &place))?);
        } else {
            field.encoded(place)?;
        }
    }
    Ok(dims)
}

fn read_dim(mut fields: Fields<'_>, place: &Place<'_>) -> Result<Dim, OnnxErrorKind> {
    let mut dim = Dim::Unknown;
    while let Some(field) = fields.next(place)? {
        match field.number {
            DIM_VALUE => dim = Dim::Known(field.int(&place.field("dim_value"))?),
            DIM_PARAM => {
                let name = field.string(&place.field("dim_param"))?;
                dim = if name.is_empty() {
                    Dim::Unknown
                } else {
                    Dim::Symbol(name)
                };
            }
            _ => {
                field.encoded(place)?;
            }
        }
    }
    Ok(dim)
}

/// A `TypeProto` without extra fields.
fn normal_form(ty: &TensorType) -> Message<'_> {
    let mut tensor = Message::default();
    tensor.nonzero_int(ELEM_TYPE, elem_type(ty));
    if let Some(dims) = &ty.shape {
        let mut shape = Message::default();
        for dim in dims {
            let mut message = Message::default();
            put_dim(&mut message, dim);
            shape.message(DIM, message);
        }
        tensor.message(SHAPE, shape);
    }
    let mut message = Message::default();
    message.message(TENSOR_TYPE, tensor);
    message
}

fn elem_type(ty: &TensorType) -> i64 {
    ty.dtype.map_or(0, |dtype| i64::from(dtype.to_onnx()))
}

fn put_dim<'a>(message: &mut Message<'a>, dim: &'a Dim) {
    match dim {
        Dim::Known(size) => message.int(DIM_VALUE, *size),
        Dim::Symbol(name) => message.text(DIM_PARAM, name),
        Dim::Unknown => {}
    }
}

/// A `TypeProto`: as the file spelled it where it says the same, else with the new dtype and shape and with what else
/// the file says about the type and, where the rank is the same, about its dimensions.
fn write_tensor_type(ty: &TensorType) -> Result<Rope<'_>, OnnxErrorKind> {
    let place = Place::root("type");
    if ty.extra.0.is_empty() {
        return Ok(normal_form(ty).finish());
    }
    let spelled = read_tensor_type(Fields::new(&ty.extra.0), &place)?;
    if spelled.is_some_and(|spelled| spelled.dtype == ty.dtype && spelled.shape == ty.shape) {
        let mut rope = Rope::default();
        rope.push(Cow::Borrowed(ty.extra.0.as_slice()));
        return Ok(rope);
    }
    let spelled_tensor = payload_of(&ty.extra.0, TENSOR_TYPE, &place)?;
    let mut tensor = Message::without(spelled_tensor, &[ELEM_TYPE, SHAPE])?;
    tensor.nonzero_int(ELEM_TYPE, elem_type(ty));
    if let Some(dims) = &ty.shape {
        let spelled_shape = payload_of(spelled_tensor, SHAPE, &place)?;
        let spelled_dims = payloads(spelled_shape, DIM, &place)?;
        let same_rank = spelled_dims.len() == dims.len();
        let mut shape = Message::without(spelled_shape, &[DIM])?;
        for (idx, dim) in dims.iter().enumerate() {
            let spelled_dim = if same_rank { spelled_dims[idx] } else { &[] };
            let mut message = Message::without(spelled_dim, &[DIM_VALUE, DIM_PARAM])?;
            put_dim(&mut message, dim);
            shape.message(DIM, message);
        }
        tensor.message(SHAPE, shape);
    }
    let mut message = Message::without(&ty.extra.0, &[TENSOR_TYPE])?;
    message.message(TENSOR_TYPE, tensor);
    Ok(message.finish())
}

/// The payloads of a repeated field.
fn payloads<'a>(bytes: &'a [u8], number: u32, place: &Place<'_>) -> Result<Vec<&'a [u8]>, OnnxErrorKind> {
    let mut found = Vec::new();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next(place)? {
        if field.number == number {
            found.push(field.payload(place)?);
        }
    }
    Ok(found)
}

/// The payload of a singular field; empty when it is absent.
fn payload_of<'a>(bytes: &'a [u8], number: u32, place: &Place<'_>) -> Result<&'a [u8], OnnxErrorKind> {
    Ok(payloads(bytes, number, place)?.pop().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `TypeProto`: float32 of `dims`, with denotations of the dimensions and of the type.
    fn denoted(dims: &[(&'static str, &'static str)]) -> Vec<u8> {
        let mut shape = Message::default();
        for (name, denotation) in dims {
            let mut dim = Message::default();
            dim.text(DIM_PARAM, name);
            dim.text(3, denotation);
            shape.message(DIM, dim);
        }
        let mut tensor = Message::default();
        tensor.int(ELEM_TYPE, 1);
        tensor.message(SHAPE, shape);
        let mut ty = Message::default();
        ty.message(TENSOR_TYPE, tensor);
        ty.text(6, "IMAGE");
        ty.finish().to_vec()
    }

    fn read(ty: Vec<u8>) -> (ValueInfo, Vec<u8>) {
        let mut info = Message::default();
        info.text(NAME, "x");
        info.bytes(TYPE, ty);
        let mut outer = Message::default();
        outer.message(11, info);
        let bytes = outer.finish().to_vec();
        let place = Place::root("graph");
        let field = Fields::new(&bytes).next(&place).unwrap().unwrap();
        let info = read_value_info(&field, &place).unwrap();
        (info, field.payload(&place).unwrap().to_vec())
    }

    fn written(info: &ValueInfo) -> Vec<u8> {
        write_value_info(info).unwrap().finish().to_vec()
    }

    #[test]
    fn denotations_survive_and_follow_an_edit() {
        let (mut info, bytes) = read(denoted(&[("N", "DATA_BATCH"), ("C", "DATA_CHANNEL")]));
        assert_eq!(written(&info), bytes);
        let Some(ValueType::Tensor(ty)) = &mut info.ty else {
            panic!("expected a tensor type")
        };
        ty.dtype = Some(DType::Float16);
        ty.shape = Some(vec![Dim::Known(4), Dim::Symbol("C".to_owned())]);
        let text = String::from_utf8_lossy(&written(&info)).into_owned();
        assert!(
            ["DATA_BATCH", "DATA_CHANNEL", "IMAGE"]
                .iter()
                .all(|d| text.contains(d)),
            "{text}"
        );
        let mut outer = Message::default();
        outer.bytes(11, written(&info));
        let outer = outer.finish().to_vec();
        let place = Place::root("graph");
        let field = Fields::new(&outer).next(&place).unwrap().unwrap();
        let back = read_value_info(&field, &place).unwrap();
        assert_eq!(back.tensor_type().unwrap().to_string(), "float16[4, C]");
    }

    #[test]
    fn every_kind_of_dimension_is_kept() {
        let mut shape = Message::default();
        for value in [-1, 0, 7] {
            let mut dim = Message::default();
            dim.int(DIM_VALUE, value);
            shape.message(DIM, dim);
        }
        shape.message(DIM, Message::default());
        let mut empty_name = Message::default();
        empty_name.bytes(DIM_PARAM, vec![]);
        shape.message(DIM, empty_name);
        let mut tensor = Message::default();
        tensor.int(ELEM_TYPE, 0);
        tensor.message(SHAPE, shape);
        let mut ty = Message::default();
        ty.message(TENSOR_TYPE, tensor);
        let (info, bytes) = read(ty.finish().to_vec());
        assert_eq!(written(&info), bytes);
        assert_eq!(
            info.tensor_type().unwrap().to_string(),
            "undefined[-1, 0, 7, ?, ?]"
        );
    }

    #[test]
    fn other_types_are_carried() {
        let mut sequence = Message::default();
        sequence.message(4, Message::default());
        let mut tensor = Message::default();
        tensor.int(ELEM_TYPE, 99);
        let mut unknown_dtype = Message::default();
        unknown_dtype.message(TENSOR_TYPE, tensor);
        for ty in [sequence, unknown_dtype] {
            let (info, bytes) = read(ty.finish().to_vec());
            assert!(matches!(info.ty, Some(ValueType::Other(_))), "{info:?}");
            assert_eq!(written(&info), bytes);
        }
    }
}
