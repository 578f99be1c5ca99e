//! Memory-mapped files: the only `unsafe` of this crate.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::Mmap;

/// Less than this stays in memory: giving it back would take longer than it is worth.
#[cfg(unix)]
const MIN_RELEASED_BYTES: usize = 1 << 18;

/// The bytes of a file, read by the operating system when they are touched.
pub(crate) struct MappedFile(Mmap);

impl MappedFile {
    /// Maps a file for reading.
    ///
    /// # Errors
    /// The file cannot be opened or mapped, or is no regular file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a regular file",
            ));
        }
        // SAFETY: the mapping is private to this process and read-only, and it is never handed out as anything but
        // `&[u8]`, for which every bit pattern is valid. What remains is that another process changes the file in
        // place while it is mapped: no length or offset is trusted twice, a changed weight is only a changed weight,
        // and a file that becomes shorter ends the process with a bus error instead of reading foreign memory. The
        // writer of this crate never changes a file in place, it renames a finished one over it.
        let mapping = unsafe { Mmap::map(&file)? };
        Ok(Self(mapping))
    }

    /// Gives the memory of a range back to the operating system, which reads it again if it is touched again.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if range.len() >= MIN_RELEASED_BYTES && self.get(range.clone()).is_some() {
            // SAFETY: the mapping is read-only, so that nothing that was written to it can be lost: whoever still looks
            // at the range finds what the file holds, as after mapping it. An error leaves the memory as it was.
            let _ = unsafe {
                self.0
                    .unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedFile({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_released_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = MappedFile::open(&path).unwrap();
        assert_eq!(&*file, bytes);
        file.release(5000..900_000);
        file.release(900_000..2_000_000);
        assert_eq!(&*file, bytes);
    }

    #[test]
    fn a_file_is_mapped_and_a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, b"abc").unwrap();
        assert_eq!(&*MappedFile::open(&path).unwrap(), b"abc");
        std::fs::write(&path, b"").unwrap();
        assert!(MappedFile::open(&path).unwrap().is_empty());
        assert!(MappedFile::open(folder.path()).is_err());
    }
}
