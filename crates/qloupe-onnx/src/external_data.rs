//! Tensor data in files beside the model: which paths are allowed, and when the files are mapped.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::mapped_file::MappedFile;

/// The folder of a model and the data files in it that its tensors use.
#[derive(Debug)]
pub(crate) struct ExternalFolder {
    /// Without symbolic links.
    folder: PathBuf,
    files: Mutex<BTreeMap<PathBuf, Arc<ExternalFile>>>,
}

/// A data file, mapped when a tensor is decoded for the first time.
#[derive(Debug)]
pub(crate) struct ExternalFile {
    /// The folder of the model.
    folder: PathBuf,
    path: PathBuf,
    mapping: OnceLock<Result<MappedFile, String>>,
}

/// Where a data file has the elements of a tensor.
#[derive(Clone, Debug)]
pub(crate) struct ExternalRange {
    /// The file.
    pub(crate) file: Arc<ExternalFile>,
    /// The file as the model names it.
    pub(crate) location: String,
    /// The bytes in the file.
    pub(crate) range: Range<usize>,
}

impl ExternalFolder {
    /// The folder of a model.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        Ok(Self {
            folder: folder.canonicalize()?,
            files: Mutex::default(),
        })
    }

    /// The place of `size_bytes` bytes in a data file. The file must exist, lie inside the folder and be long enough.
    ///
    /// # Errors
    /// What is wrong, to be read after the name of the file.
    pub(crate) fn locate(
        &self,
        location: &str,
        offset: u64,
        size_bytes: usize,
    ) -> Result<ExternalRange, String> {
        let relative = Path::new(location);
        let inside = |component| matches!(component, Component::Normal(_) | Component::CurDir);
        if location.is_empty() || is_windows_path(location) || !relative.components().all(inside) {
            return Err(
                "is no path inside the folder of the model, expected a relative one with \"/\" between its parts"
                    .to_owned(),
            );
        }
        let path = self
            .folder
            .join(relative)
            .canonicalize()
            .map_err(|e| format!("cannot be opened: {e}"))?;
        if !path.starts_with(&self.folder) {
            return Err(
                "leads out of the folder of the model: put the file itself beside the model".to_owned(),
            );
        }
        let metadata = path.metadata().map_err(|e| format!("cannot be opened: {e}"))?;
        if !metadata.is_file() {
            return Err("is not a regular file".to_owned());
        }
        let end = u64::try_from(size_bytes)
            .ok()
            .and_then(|size| offset.checked_add(size))
            .filter(|&end| end <= metadata.len());
        let range = end.and_then(|end| Some(usize::try_from(offset).ok()?..usize::try_from(end).ok()?));
        let Some(range) = range else {
            return Err(format!(
                "is too short, expected {size_bytes} bytes from byte {offset} on, got {} in all",
                metadata.len()
            ));
        };
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let file = files.entry(path.clone()).or_insert_with(|| {
            Arc::new(ExternalFile {
                folder: self.folder.clone(),
                path,
                mapping: OnceLock::new(),
            })
        });
        Ok(ExternalRange {
            file: Arc::clone(file),
            location: location.to_owned(),
            range,
        })
    }
}

impl ExternalRange {
    /// The bytes.
    ///
    /// # Errors
    /// What is wrong, to be read after the name of the file.
    pub(crate) fn bytes(&self) -> Result<&[u8], String> {
        if self.range.is_empty() {
            return Ok(&[]);
        }
        let map = || MappedFile::open(&self.file.path).map_err(|e| format!("cannot be opened: {e}"));
        let mapping = self
            .file
            .mapping
            .get_or_init(map)
            .as_ref()
            .map_err(Clone::clone)?;
        mapping
            .get(self.range.clone())
            .ok_or_else(|| format!("has become too short, {} bytes are left", mapping.len()))
    }

    /// Says that the bytes are not needed for now.
    pub(crate) fn release(&self) {
        if let Some(Ok(mapping)) = self.file.mapping.get() {
            mapping.release(self.range.clone());
        }
    }

    /// True when the model lies in `folder`, so that its path to the file stays valid there.
    pub(crate) fn is_relative_to(&self, folder: &Path) -> bool {
        self.file.folder == folder
    }
}

/// True for `C:\x`, `C:x`, `\\server\x` and `a\b`: what they mean must not depend on the machine.
fn is_windows_path(location: &str) -> bool {
    let is_drive = matches!(location.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    is_drive || location.contains('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_inside_the_folder_are_used() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("model");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(outer.path().join("secret"), [1; 10]).unwrap();
        std::fs::write(folder.join("weights"), [2; 10]).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
        let external = ExternalFolder::open(&folder).unwrap();

        struct Case {
            location: &'static str,
            offset: u64,
            error: &'static str,
        }
        let outside =
            "is no path inside the folder of the model, expected a relative one with \"/\" between its parts";
        let mut cases = vec![
            ("", 0, outside),
            ("../secret", 0, outside),
            ("sub/../../secret", 0, outside),
            ("/etc/passwd", 0, outside),
            ("C:\\w.bin", 0, outside),
            ("c:w.bin", 0, outside),
            ("\\\\server\\share\\w.bin", 0, outside),
            ("sub\\..\\..\\secret", 0, outside),
            ("sub", 0, "is not a regular file"),
            (
                "weights",
                7,
                "is too short, expected 4 bytes from byte 7 on, got 10 in all",
            ),
            (
                "weights",
                u64::MAX,
                "is too short, expected 4 bytes from byte 18446744073709551615 on, got 10 in all",
            ),
        ];
        if cfg!(unix) {
            cases.push((
                "link",
                0,
                "leads out of the folder of the model: put the file itself beside the model",
            ));
            cases.push((
                "gone",
                0,
                "cannot be opened: No such file or directory (os error 2)",
            ));
        }
        for (location, offset, error) in cases {
            let case = Case {
                location,
                offset,
                error,
            };
            let got = external
                .locate(case.location, case.offset, 4)
                .map(|_| ())
                .unwrap_err();
            assert_eq!(got, case.error, "{}", case.location);
        }
        assert_eq!(
            external.locate("./weights", 6, 4).unwrap().bytes().unwrap(),
            [2; 4]
        );
    }

    #[test]
    fn a_file_that_shrank_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let weights = folder.path().join("weights");
        std::fs::write(&weights, [2; 10]).unwrap();
        let external = ExternalFolder::open(folder.path()).unwrap();
        let range = external.locate("weights", 0, 10).unwrap();
        std::fs::write(&weights, [2; 3]).unwrap();
        assert_eq!(
            range.bytes().unwrap_err(),
            "has become too short, 3 bytes are left"
        );
    }
}
