//! Writes stored tensors: as they were read, or in a new form, in the model or in a data file beside it.

use std::borrow::Cow;
use std::path::PathBuf;

use qloupe_ir::Constant;
use qloupe_tensor::Tensor;

use crate::OnnxErrorKind;
use crate::elements::{self, STRING_DATA};
use crate::stored_tensor::{
    DATA_LOCATION, DATA_TYPE, DIMS, EXTERNAL, EXTERNAL_DATA, NAME, RAW_DATA, StoredTensor,
};
use crate::wire_writer::{Message, Rope};

/// Smaller tensors stay in the model: a reader needs the shapes and axes among them.
const MIN_EXTERNAL_SIZE: usize = 1024;

/// Every field that holds elements, or says where they are.
const DATA_FIELDS: [u32; 8] = [4, 5, 7, RAW_DATA, 10, 11, EXTERNAL_DATA, DATA_LOCATION];

/// The alignment of tensors in a data file, which ONNX recommends for mapping.
const ALIGNMENT: usize = 4096;

/// Where elements go.
#[derive(Debug)]
pub(crate) enum Placement<'a> {
    /// Into the model. References to data files are kept when the model is written to the folder they are relative to.
    Inside {
        /// The folder, without symbolic links; `None` when the model is not written to a folder.
        folder: Option<PathBuf>,
    },
    /// Large tensors go into a data file.
    Beside {
        /// The name of the file.
        location: String,
        /// Its contents so far.
        data: Rope<'a>,
    },
}

impl<'a> Placement<'a> {
    /// A `TensorProto`. A tensor of an attribute keeps the name it may have in the file: `None`.
    pub(crate) fn write(
        &mut self,
        constant: &'a Constant,
        name: Option<&'a str>,
    ) -> Result<Rope<'a>, OnnxErrorKind> {
        match constant {
            Constant::Memory(tensor) => Ok(self.write_decoded(tensor, elements::to_raw(tensor), name)),
            Constant::Encoded(encoded) => {
                if let Some(stored) = StoredTensor::of(constant) {
                    return self.write_stored(stored, name);
                }
                let tensor = encoded.decode()?;
                let raw = elements::to_raw(&tensor).map(|raw| Cow::Owned(raw.into_owned()));
                Ok(self.write_decoded(&tensor, raw, name))
            }
        }
    }

    fn write_stored(
        &mut self,
        stored: &'a StoredTensor,
        name: Option<&'a str>,
    ) -> Result<Rope<'a>, OnnxErrorKind> {
        let new_name = name.filter(|&name| name != stored.name());
        let moved = match self {
            Self::Inside { folder } => {
                let stays = |folder: &PathBuf| stored.is_external_to(folder);
                stored.is_external() && !folder.as_ref().is_some_and(stays)
            }
            Self::Beside { .. } => stored.is_external() || stored.message().len() >= MIN_EXTERNAL_SIZE,
        };
        let raw = if moved { stored.raw()? } else { None };
        if new_name.is_none() && raw.is_none() {
            let mut rope = Rope::default();
            rope.push(Cow::Borrowed(stored.message()));
            return Ok(rope);
        }
        let mut replaced = Vec::new();
        if new_name.is_some() {
            replaced.push(NAME);
        }
        if raw.is_some() {
            replaced.extend(DATA_FIELDS);
        }
        let mut message = Message::without(stored.message(), &replaced)?;
        message.text(NAME, new_name.unwrap_or_default());
        if let Some(raw) = raw {
            self.place(&mut message, raw);
        }
        Ok(message.finish())
    }

    fn write_decoded(
        &mut self,
        tensor: &Tensor,
        raw: Option<Cow<'a, [u8]>>,
        name: Option<&'a str>,
    ) -> Rope<'a> {
        let mut message = Message::default();
        for &dim in tensor.shape() {
            message.int(DIMS, i64::try_from(dim).unwrap_or(i64::MAX));
        }
        message.int(DATA_TYPE, i64::from(tensor.dtype().to_onnx()));
        message.text(NAME, name.unwrap_or_default());
        match raw {
            Some(raw) => self.place(&mut message, raw),
            None => {
                for text in tensor.as_strings().unwrap_or_default() {
                    message.bytes(STRING_DATA.number, text.as_bytes().to_vec());
                }
            }
        }
        message.finish()
    }

    fn place(&mut self, message: &mut Message<'a>, raw: Cow<'a, [u8]>) {
        let Self::Beside { location, data } = self else {
            message.bytes(RAW_DATA, raw);
            return;
        };
        if raw.len() < MIN_EXTERNAL_SIZE {
            message.bytes(RAW_DATA, raw);
            return;
        }
        data.push(Cow::Owned(vec![
            0;
            data.len().next_multiple_of(ALIGNMENT)
                - data.len()
        ]));
        for (key, value) in [
            ("location", location.clone()),
            ("offset", data.len().to_string()),
            ("length", raw.len().to_string()),
        ] {
            let mut entry = Message::default();
            entry.text(1, key);
            entry.bytes(2, value.into_bytes());
            message.message(EXTERNAL_DATA, entry);
        }
        message.int(DATA_LOCATION, EXTERNAL);
        data.push(raw);
    }
}
