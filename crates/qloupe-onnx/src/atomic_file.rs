//! Files that appear under their name only when they are complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A complete file under a temporary name. Dropped without [`AtomicFile::finish`], it is removed.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    temporary: PathBuf,
    is_finished: bool,
}

impl AtomicFile {
    /// Writes the contents of the file under a temporary name in the same folder, down to the disk.
    ///
    /// # Errors
    /// What the operating system answers; nothing is left behind.
    pub fn create(
        path: &Path,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let (temporary, file) = create_temporary(path)?;
        let created = Self {
            path: path.to_owned(),
            temporary,
            is_finished: false,
        };
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        Ok(created)
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// What the operating system answers; nothing is left behind.
    pub fn finish(mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.path)?;
        self.is_finished = true;
        sync_folder(&self.path)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.is_finished {
            // Nothing is left to do for a file that cannot be removed.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A new file beside `path`, under a name that no other file has.
fn create_temporary(path: &Path) -> io::Result<(PathBuf, File)> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path has no file name",
        ));
    };
    for attempt in 0_u32.. {
        let mut temporary_name = std::ffi::OsString::from(".");
        temporary_name.push(name);
        temporary_name.push(format!(".{}-{attempt}.tmp", std::process::id()));
        let temporary = path.with_file_name(temporary_name);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return Ok((temporary, opened?)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Makes a rename durable. Only Unix can open a folder.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_name_appears_when_the_file_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "old").unwrap();
        let file = AtomicFile::create(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["x"]);
    }

    #[test]
    fn nothing_is_left_of_a_failed_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let error = AtomicFile::create(&path, |_| Err(io::Error::other("disk full"))).unwrap_err();
        assert_eq!(error.to_string(), "disk full");
        assert!(names(folder.path()).is_empty());
        drop(AtomicFile::create(&path, |file| file.write_all(b"new")).unwrap());
        assert!(names(folder.path()).is_empty());
    }
}
