//! Owns writing of output files: whole or not at all, and telling before long work that it cannot succeed.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use qloupe_onnx::AtomicFile;

use crate::Error;

/// Why an output file cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The folder is missing.
    #[error("{file:?} cannot be written: folder {folder:?} does not exist")]
    MissingFolder {
        /// The output.
        file: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// What should be the folder is a file.
    #[error("{file:?} cannot be written: {folder:?} is not a folder")]
    NotAFolder {
        /// The output.
        file: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// The output is a folder.
    #[error("{file:?} cannot be written: it is a folder, expected a file name")]
    IsFolder {
        /// The output.
        file: PathBuf,
    },
    /// The operating system refuses: no permission, no space.
    #[error("{file:?} cannot be written: {source}")]
    Io {
        /// The output.
        file: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// Writes a model again: data in files beside it is embedded where the copy lies in another folder, so that it needs them no more.
///
/// # Errors
/// A model that cannot be read, a file that cannot be written.
pub fn copy_model(source: &Path, target: &Path) -> Result<(), Error> {
    check_writable(target)?;
    let model = qloupe_onnx::read_model(source)?;
    Ok(qloupe_onnx::write_model(&model, target)?)
}

/// Writes a file whole or not at all: to a temporary name in the same folder, then renamed.
///
/// A symbolic link is followed. What is not a plain file (`/dev/stdout`, a pipe) is written in place.
///
/// # Errors
/// [`WriteError`]; nothing is left behind.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let io_error = |source| WriteError::Io {
        file: path.to_owned(),
        source,
    };
    match destination(path)? {
        Destination::InPlace => fs::write(path, bytes).map_err(io_error),
        Destination::Rename(target) => {
            let written =
                AtomicFile::create(&target, |file| file.write_all(bytes)).and_then(AtomicFile::finish);
            written.map_err(io_error)
        }
    }
}

/// Tells that [`write_atomically`] would fail, without touching the output.
///
/// # Errors
/// [`WriteError`] as the write would give it, but for lack of space.
pub fn check_writable(path: &Path) -> Result<(), WriteError> {
    let io_error = |source| WriteError::Io {
        file: path.to_owned(),
        source,
    };
    match destination(path)? {
        Destination::InPlace => OpenOptions::new()
            .append(true)
            .open(path)
            .map(drop)
            .map_err(io_error),
        Destination::Rename(target) => {
            // Dropped without its name: nothing stays.
            AtomicFile::create(&target, |_| Ok(()))
                .map(drop)
                .map_err(io_error)
        }
    }
}

enum Destination {
    InPlace,
    Rename(PathBuf),
}

fn destination(path: &Path) -> Result<Destination, WriteError> {
    let file = path.to_owned();
    if let Ok(metadata) = fs::metadata(path) {
        if metadata.is_dir() {
            return Err(WriteError::IsFolder { file });
        }
        if !metadata.is_file() {
            return Ok(Destination::InPlace);
        }
        let target = fs::canonicalize(path).map_err(|source| WriteError::Io { file, source })?;
        return Ok(Destination::Rename(target));
    }
    if path.file_name().is_none()
        || path
            .as_os_str()
            .to_string_lossy()
            .ends_with(std::path::is_separator)
    {
        return Err(WriteError::IsFolder { file });
    }
    let folder = folder_of(path);
    match fs::metadata(&folder) {
        Ok(metadata) if metadata.is_dir() => Ok(Destination::Rename(file)),
        Ok(_) => Err(WriteError::NotAFolder { file, folder }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(WriteError::MissingFolder { file, folder })
        }
        Err(source) => Err(WriteError::Io { file, source }),
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.bin");
        for bytes in [b"first".as_slice(), b"second"] {
            check_writable(&path).unwrap();
            write_atomically(&path, bytes).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    #[cfg(unix)]
    fn a_link_is_followed_and_a_device_stays_a_device() {
        use std::os::unix::fs::FileTypeExt;
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_atomically(&link, b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());

        let null = Path::new("/dev/null");
        check_writable(null).unwrap();
        write_atomically(null, b"gone").unwrap();
        assert!(fs::metadata(null).unwrap().file_type().is_char_device());
    }

    #[test]
    fn each_refusal_has_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display();
        fs::write(folder.path().join("file"), "").unwrap();
        struct Case {
            path: String,
            text: String,
        }
        let cases = [
            Case {
                path: format!("{root}/nope/x.onnx"),
                text: format!(
                    "\"{root}/nope/x.onnx\" cannot be written: folder \"{root}/nope\" does not exist"
                ),
            },
            Case {
                path: format!("{root}/file/x.onnx"),
                text: format!("\"{root}/file/x.onnx\" cannot be written: \"{root}/file\" is not a folder"),
            },
            Case {
                path: format!("{root}"),
                text: format!("\"{root}\" cannot be written: it is a folder, expected a file name"),
            },
        ];
        for Case { path, text } in cases {
            assert_eq!(check_writable(Path::new(&path)).unwrap_err().to_string(), text);
            assert_eq!(
                write_atomically(Path::new(&path), b"").unwrap_err().to_string(),
                text
            );
        }
        let refused = WriteError::Io {
            file: "x.onnx".into(),
            source: io::Error::new(io::ErrorKind::PermissionDenied, "permission denied"),
        };
        assert_eq!(
            refused.to_string(),
            "\"x.onnx\" cannot be written: permission denied"
        );
    }
}
