//! The files behind a dataset: finding them, and reading one item of one input.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qloupe_ir::suggestion;
use qloupe_tensor::Tensor;

use super::array_input::{SampleAxis, check_dtype, finish, sample_axis};
use super::dataset_txt::parse_dataset_txt;
use super::error::{SampleError, SamplePlace, quoted};
use super::image_tensor::read_image;
use super::input_spec::InputSpec;
use super::pixels::{DecodeError, is_image_path};
use crate::array::{ArrayFile, ArrayInfo};

const DATASET_KINDS: &str = "a folder, .txt, .npy, .npz, .safetensors, .jpg, .png or .bmp";
const FILE_KINDS: &str = ".jpg, .png, .bmp, .npy, .npz or .safetensors";

/// One sample of one input.
#[derive(Debug)]
pub(super) struct Item {
    place: SamplePlace,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Image(PathBuf),
    /// An array of a file, whole or one part of its leading axis.
    Array(Arc<ArrayFile>, usize, Option<usize>),
}

impl Item {
    pub(super) fn read(&self, spec: &InputSpec) -> Result<Tensor, SampleError> {
        let place = || self.place.clone();
        match &self.content {
            Content::Image(path) => {
                let image = require_image(spec, &self.place)?;
                read_image(path, spec, image).map_err(|error| match error {
                    DecodeError::Read(source) => SampleError::Read {
                        place: place(),
                        source,
                    },
                    DecodeError::Decode(what) => SampleError::Decode { place: place(), what },
                })
            }
            Content::Array(file, array, part) => {
                let sample = match part {
                    Some(part) => file.read_sample(*array, *part),
                    None => file.read(*array),
                };
                let sample = sample.map_err(|source| SampleError::ArrayFile {
                    list: self.place.list.clone(),
                    source,
                })?;
                finish(sample, spec).map_err(|what| SampleError::Array {
                    place: place(),
                    input: spec.name.clone(),
                    what: part.map_or(what.clone(), |part| format!("sample {part}: {what}")),
                })
            }
        }
    }
}

/// Collects the items of every input.
pub(super) struct Sources<'a> {
    inputs: &'a [InputSpec],
    columns: Vec<Vec<Item>>,
    notes: Vec<String>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(inputs: &'a [InputSpec]) -> Self {
        Self {
            inputs,
            columns: inputs.iter().map(|_| Vec::new()).collect(),
            notes: Vec::new(),
        }
    }

    /// Adds all samples of a folder, a list, or a file that is not bound to one input.
    pub(super) fn add_dataset(&mut self, path: &Path) -> Result<(), SampleError> {
        let place = SamplePlace {
            list: None,
            file: path.display().to_string(),
        };
        let metadata = fs::metadata(path).map_err(|source| unreadable(place.clone(), source))?;
        if metadata.is_dir() {
            return self.add_folder(path, place);
        }
        if has_extension(path, &["txt"]) {
            return self.add_list(path, place);
        }
        if has_extension(path, &["npz", "safetensors"]) {
            return self.add_named_arrays(path, &place);
        }
        if !is_image_path(path) && !ArrayFile::is_array_path(path) {
            return Err(SampleError::Kind {
                place,
                expected: DATASET_KINDS,
            });
        }
        self.require_one_input(
            &place,
            "name each file's input with NAME=FILE, or use dataset.txt",
        )?;
        let shown = place.file;
        self.add_file(0, path, &shown, None)
    }

    /// Adds the samples of one file to one input.
    pub(super) fn add_file(
        &mut self,
        input: usize,
        path: &Path,
        shown: &str,
        list: Option<&str>,
    ) -> Result<(), SampleError> {
        let place = SamplePlace {
            list: list.map(str::to_owned),
            file: shown.to_owned(),
        };
        let metadata = fs::metadata(path).map_err(|source| unreadable(place.clone(), source))?;
        if is_image_path(path) && metadata.is_file() {
            require_image(&self.inputs[input], &place)?;
            self.columns[input].push(Item {
                place,
                content: Content::Image(path.to_owned()),
            });
            return Ok(());
        }
        if !ArrayFile::is_array_path(path) || !metadata.is_file() {
            return Err(SampleError::Kind {
                place,
                expected: FILE_KINDS,
            });
        }
        let file = open_arrays(path, list)?;
        let array = if has_extension(path, &["npy"]) {
            0
        } else {
            self.require_array(&file, input, &place)?
        };
        self.add_array(input, &Arc::new(file), array, &place)
    }

    /// The items of each input, and the notes.
    pub(super) fn finish(mut self) -> Result<(Vec<Vec<Item>>, Vec<String>), SampleError> {
        for (spec, column) in self.inputs.iter().zip(&self.columns) {
            if column.is_empty() {
                return Err(SampleError::UnfedInput {
                    name: spec.name.clone(),
                });
            }
            if column.len() != self.columns[0].len() {
                return Err(SampleError::Count {
                    input: self.inputs[0].name.clone(),
                    n_samples: self.columns[0].len(),
                    other: spec.name.clone(),
                    n_other: column.len(),
                });
            }
            let has_images = column
                .iter()
                .any(|item| matches!(item.content, Content::Image(_)));
            self.notes.extend(spec.default_note().filter(|_| has_images));
        }
        Ok((self.columns, self.notes))
    }

    fn add_folder(&mut self, path: &Path, place: SamplePlace) -> Result<(), SampleError> {
        self.require_one_input(&place, "use dataset.txt")?;
        let read = fs::read_dir(path).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<Vec<_>>>()
        });
        let mut files = read.map_err(|source| unreadable(place.clone(), source))?;
        files.retain(|file| is_image_path(file) && file.is_file());
        files.sort();
        if files.is_empty() {
            return Err(SampleError::Empty {
                place,
                expected: "jpg, png or bmp files",
            });
        }
        for file in files {
            self.add_file(0, &file, &file.display().to_string(), None)?;
        }
        Ok(())
    }

    fn add_list(&mut self, path: &Path, place: SamplePlace) -> Result<(), SampleError> {
        let text = fs::read_to_string(path).map_err(|source| unreadable(place.clone(), source))?;
        let list = |number: usize| format!("{}:{number}", place.file);
        let line_error = |number, what| SampleError::Line {
            list: list(number),
            what,
        };
        let lines = parse_dataset_txt(&text).map_err(|(number, what)| line_error(number, what))?;
        if lines.is_empty() {
            return Err(SampleError::Empty {
                place,
                expected: "a line for each sample",
            });
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        for (number, files) in lines {
            if files.len() != self.inputs.len() {
                let what = format!(
                    "wrong number of files, expected {} ({}), got {}",
                    self.inputs.len(),
                    quoted(self.inputs.iter().map(|input| input.name.as_str())),
                    files.len()
                );
                return Err(line_error(number, what));
            }
            for (input, file) in files.iter().enumerate() {
                let before = self.columns[input].len();
                self.add_file(input, &folder.join(file), file, Some(&list(number)))?;
                let n_samples = self.columns[input].len() - before;
                if n_samples != 1 {
                    let what = format!("\"{file}\" holds {n_samples} samples, expected 1 a line");
                    return Err(line_error(number, what));
                }
            }
        }
        Ok(())
    }

    fn add_named_arrays(&mut self, path: &Path, place: &SamplePlace) -> Result<(), SampleError> {
        let file = Arc::new(open_arrays(path, None)?);
        for ArrayInfo { name, .. } in file.arrays() {
            if !self.inputs.iter().any(|input| input.name == *name) {
                self.notes.push(format!(
                    "{place}: array \"{name}\" is no input of the model and is ignored"
                ));
            }
        }
        for input in 0..self.inputs.len() {
            let array = self.require_array(&file, input, place)?;
            self.add_array(input, &file, array, place)?;
        }
        Ok(())
    }

    fn add_array(
        &mut self,
        input: usize,
        file: &Arc<ArrayFile>,
        array: usize,
        place: &SamplePlace,
    ) -> Result<(), SampleError> {
        let spec = &self.inputs[input];
        let info = &file.arrays()[array];
        let axis = check_dtype(info.dtype, spec).and_then(|()| sample_axis(&info.shape, spec));
        let axis = axis.map_err(|what| SampleError::Array {
            place: place.clone(),
            input: spec.name.clone(),
            what,
        })?;
        let parts: Vec<Option<usize>> = match axis {
            SampleAxis::Whole => vec![None],
            SampleAxis::Leading(0) => {
                return Err(SampleError::Empty {
                    place: place.clone(),
                    expected: "a leading axis of at least 1",
                });
            }
            SampleAxis::Leading(n_samples) => (0..n_samples).map(Some).collect(),
        };
        self.columns[input].extend(parts.into_iter().map(|part| Item {
            place: place.clone(),
            content: Content::Array(Arc::clone(file), array, part),
        }));
        Ok(())
    }

    fn require_one_input(&self, place: &SamplePlace, remedy: &'static str) -> Result<(), SampleError> {
        if self.inputs.len() == 1 {
            return Ok(());
        }
        Err(SampleError::SeveralInputs {
            place: place.clone(),
            n_inputs: self.inputs.len(),
            names: quoted(self.inputs.iter().map(|input| input.name.as_str())),
            remedy,
        })
    }

    fn require_array(
        &self,
        file: &ArrayFile,
        input: usize,
        place: &SamplePlace,
    ) -> Result<usize, SampleError> {
        let name = &self.inputs[input].name;
        let held = || file.arrays().iter().map(|info| info.name.as_str());
        file.position(name).ok_or_else(|| SampleError::MissingArray {
            place: place.clone(),
            input: name.clone(),
            held: quoted(held()),
            help: suggestion(name, held()),
        })
    }
}

fn require_image<'s>(spec: &'s InputSpec, place: &SamplePlace) -> Result<&'s super::ImageInput, SampleError> {
    spec.image.as_ref().map_err(|why| SampleError::NotAnImageInput {
        place: place.clone(),
        input: spec.name.clone(),
        why: why.clone(),
    })
}

fn open_arrays(path: &Path, list: Option<&str>) -> Result<ArrayFile, SampleError> {
    ArrayFile::open(path).map_err(|source| SampleError::ArrayFile {
        list: list.map(str::to_owned),
        source,
    })
}

fn unreadable(place: SamplePlace, source: io::Error) -> SampleError {
    if source.kind() == io::ErrorKind::NotFound {
        SampleError::Missing { place }
    } else {
        SampleError::Read { place, source }
    }
}

fn has_extension(path: &Path, known: &[&str]) -> bool {
    path.extension()
        .is_some_and(|extension| known.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}
