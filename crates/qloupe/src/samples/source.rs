//! The files behind a dataset: finding them, and reading one item of one input.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qloupe_ir::suggestion;
use qloupe_tensor::{DType, Tensor};

use super::array_input::{SampleAxis, check_dtype, finish, sample_axis};
use super::dataset_txt::parse_dataset_txt;
use super::error::{SampleError, SamplePlace, quoted};
use super::image_tensor::read_image;
use super::input_spec::InputSpec;
use super::pixels::{DecodeError, is_image_path};
use crate::array::ArrayFile;
use crate::leading_axis;

const DATASET_KINDS: &str = "a folder, .txt, .npy, .npz, .safetensors, .jpg, .png or .bmp";
/// What messages call an array that is in no file.
const GIVEN: &str = "given array";
const FILE_KINDS: &str = ".jpg, .png, .bmp, .npy, .npz or .safetensors";

/// One sample of one input.
#[derive(Clone, Debug)]
pub(super) struct Item {
    place: SamplePlace,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Image(PathBuf),
    /// An array of a file, whole or one part of its leading axis.
    Array(Arc<ArrayFile>, usize, Option<usize>),
    /// The same of an array that was handed over.
    Given(Tensor, Option<usize>),
}

impl Item {
    /// How many such samples one run takes: 1 of arrays that hold a whole batch; `None` where the batch is open.
    pub(super) fn n_rows(&self, spec: &InputSpec) -> Option<usize> {
        let is_row = match &self.content {
            Content::Image(_) => true,
            Content::Array(file, array, part) => is_row(file.arrays()[*array].shape.len(), *part, spec),
            Content::Given(tensor, part) => is_row(tensor.rank(), *part, spec),
        };
        let n = spec.shape.first().copied().filter(|_| is_row).unwrap_or(Some(1));
        n.map(|n| n.max(1))
    }

    /// The file as the user wrote it, when it is one sample and no more.
    pub(super) fn only_file(&self) -> Option<&Path> {
        match &self.content {
            Content::Image(path) => Some(path),
            Content::Array(file, array, part) => {
                let is_only = part.is_none() || file.arrays()[*array].shape.first() == Some(&1);
                is_only.then(|| file.path())
            }
            Content::Given(..) => None,
        }
    }

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
                self.finish(sample, spec, *part)
            }
            Content::Given(tensor, part) => {
                let sample = match part {
                    Some(part) => leading_axis::cut(tensor, *part, 1)
                        .and_then(Result::ok)
                        .and_then(|row| row.reshape(&tensor.shape()[1..]).ok())
                        .expect("invariant: the axis and the dtype were checked"),
                    None => tensor.clone(),
                };
                self.finish(sample, spec, *part)
            }
        }
    }

    fn finish(&self, sample: Tensor, spec: &InputSpec, part: Option<usize>) -> Result<Tensor, SampleError> {
        finish(sample, spec).map_err(|what| SampleError::Array {
            place: self.place.clone(),
            input: spec.name.clone(),
            what: part.map_or(what.clone(), |part| format!("sample {part}: {what}")),
        })
    }
}

/// True for one sample without its batch axis.
fn is_row(rank: usize, part: Option<usize>, spec: &InputSpec) -> bool {
    rank + 1 == spec.shape.len() || (rank == spec.shape.len() && part.is_some())
}

/// Collects the items of every input.
pub(super) struct Sources<'a> {
    inputs: &'a [InputSpec],
    columns: Vec<Vec<Item>>,
    notes: Vec<String>,
    /// Arrays of a file that feed no input but are used.
    used: Vec<String>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(inputs: &'a [InputSpec]) -> Self {
        Self {
            inputs,
            columns: inputs.iter().map(|_| Vec::new()).collect(),
            notes: Vec::new(),
            used: Vec::new(),
        }
    }

    /// Does not tell of this array that it is ignored.
    pub(super) fn use_array(&mut self, name: &str) {
        self.used.push(name.to_owned());
    }

    /// The inputs that files feed; the recipe feeds the others.
    fn fed(&self) -> impl Iterator<Item = (usize, &'a InputSpec)> + use<'a> {
        self.inputs
            .iter()
            .enumerate()
            .filter(|(_, spec)| spec.constant.is_none())
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
        let input = self.require_one_input(
            &place,
            "name each file's input with NAME=FILE, or use dataset.txt",
        )?;
        self.add_file(input, path, &place.file, None)
    }

    /// Adds the one sample of a line of a list: a file for each input that files feed, or one file of named arrays.
    pub(super) fn add_line(
        &mut self,
        folder: &Path,
        files: &[String],
        list: &str,
    ) -> Result<(), SampleError> {
        let line_error = |what| SampleError::Line {
            list: list.to_owned(),
            what,
        };
        let before: Vec<usize> = self.columns.iter().map(Vec::len).collect();
        let fed: Vec<(usize, &InputSpec)> = self.fed().collect();
        if fed.len() == files.len() {
            for ((input, _), file) in fed.iter().zip(files) {
                self.add_file(*input, &folder.join(file), file, Some(list))?;
            }
        } else if let [file] = files
            && has_extension(Path::new(file), &["npz", "safetensors"])
        {
            let place = SamplePlace {
                list: Some(list.to_owned()),
                file: file.clone(),
            };
            self.add_named_arrays(&folder.join(file), &place)?;
        } else {
            return Err(line_error(format!(
                "wrong number of files, expected {} ({}), got {}",
                fed.len(),
                quoted(fed.iter().map(|(_, input)| input.name.as_str())),
                files.len()
            )));
        }
        for (position, (input, _)) in fed.iter().enumerate() {
            let n_samples = self.columns[*input].len() - before[*input];
            if n_samples != 1 {
                let file = files.get(position).unwrap_or(&files[0]);
                return Err(line_error(format!(
                    "\"{file}\" holds {n_samples} samples, expected 1 a line"
                )));
            }
        }
        Ok(())
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
        if let Some(value) = self.inputs[input].recipe.value {
            let input = self.inputs[input].name.clone();
            return Err(SampleError::FedByRecipe { place, input, value });
        }
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
        let first = self.fed().next().map_or(0, |(input, _)| input);
        for (input, spec) in self.fed() {
            let column = &self.columns[input];
            if column.is_empty() {
                return Err(SampleError::UnfedInput {
                    name: spec.name.clone(),
                });
            }
            if column.len() != self.columns[first].len() {
                return Err(SampleError::Count {
                    input: self.inputs[first].name.clone(),
                    n_samples: self.columns[first].len(),
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
        let input = self.require_one_input(&place, "use dataset.txt")?;
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
            self.add_file(input, &file, &file.display().to_string(), None)?;
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
            self.add_line(folder, &files, &list(number))?;
        }
        Ok(())
    }

    fn add_named_arrays(&mut self, path: &Path, place: &SamplePlace) -> Result<(), SampleError> {
        let file = Arc::new(open_arrays(path, place.list.as_deref())?);
        let is_fed = |name: &str| self.fed().any(|(_, input)| input.name == name);
        let unused = |name: &&str| !is_fed(name) && !self.used.iter().any(|used| used == name);
        let names = file.arrays().iter().map(|info| info.name.as_str());
        let notes: Vec<String> = names
            .filter(unused)
            .map(|name| self.ignored(name, place))
            .collect();
        self.notes.extend(notes);
        for (input, _) in self.fed() {
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
        let info = &file.arrays()[array];
        let parts = self.parts(input, (info.dtype, &info.shape), place)?;
        self.columns[input].extend(parts.into_iter().map(|part| Item {
            place: place.clone(),
            content: Content::Array(Arc::clone(file), array, part),
        }));
        Ok(())
    }

    /// Adds the samples of an array that was handed over to the input of its name.
    pub(super) fn add_given(&mut self, input: usize, tensor: &Tensor) -> Result<(), SampleError> {
        let place = SamplePlace {
            list: None,
            file: GIVEN.to_owned(),
        };
        if let Some(value) = self.inputs[input].recipe.value {
            let input = self.inputs[input].name.clone();
            return Err(SampleError::FedByRecipe { place, input, value });
        }
        let parts = self.parts(input, (tensor.dtype(), tensor.shape()), &place)?;
        self.columns[input].extend(parts.into_iter().map(|part| Item {
            place: place.clone(),
            content: Content::Given(tensor.clone(), part),
        }));
        Ok(())
    }

    /// The samples of an array of this dtype and shape for an input.
    fn parts(
        &self,
        input: usize,
        (dtype, shape): (DType, &[usize]),
        place: &SamplePlace,
    ) -> Result<Vec<Option<usize>>, SampleError> {
        let spec = &self.inputs[input];
        let axis = check_dtype(dtype, spec).and_then(|()| sample_axis(shape, spec));
        let axis = axis.map_err(|what| SampleError::Array {
            place: place.clone(),
            input: spec.name.clone(),
            what,
        })?;
        match axis {
            SampleAxis::Whole => Ok(vec![None]),
            SampleAxis::Leading(0) => Err(SampleError::Empty {
                place: place.clone(),
                expected: "a leading axis of at least 1",
            }),
            SampleAxis::Leading(n_samples) => Ok((0..n_samples).map(Some).collect()),
        }
    }

    fn ignored(&self, array: &str, place: &SamplePlace) -> String {
        let fed_by_recipe = self.inputs.iter().find(|input| input.name == array);
        match fed_by_recipe.and_then(|input| input.recipe.value) {
            Some(value) => format!("{place}: array \"{array}\" is ignored, the recipe feeds value = {value}"),
            None => format!("{place}: array \"{array}\" is no input of the model and is ignored"),
        }
    }

    /// The only input that files feed.
    fn require_one_input(&self, place: &SamplePlace, remedy: &'static str) -> Result<usize, SampleError> {
        let fed: Vec<(usize, &InputSpec)> = self.fed().collect();
        if let [(input, _)] = fed[..] {
            return Ok(input);
        }
        Err(SampleError::SeveralInputs {
            place: place.clone(),
            n_inputs: fed.len(),
            names: quoted(fed.iter().map(|(_, input)| input.name.as_str())),
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

pub(super) fn open_arrays(path: &Path, list: Option<&str>) -> Result<ArrayFile, SampleError> {
    ArrayFile::open(path).map_err(|source| SampleError::ArrayFile {
        list: list.map(str::to_owned),
        source,
    })
}

pub(super) fn unreadable(place: SamplePlace, source: io::Error) -> SampleError {
    if source.kind() == io::ErrorKind::NotFound {
        SampleError::Missing { place }
    } else {
        SampleError::Read { place, source }
    }
}

pub(super) fn has_extension(path: &Path, known: &[&str]) -> bool {
    path.extension()
        .is_some_and(|extension| known.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}
