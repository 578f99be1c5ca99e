//! Arrays from elsewhere: `.npy`, `.npz` and `.safetensors`.

use std::fs;
use std::sync::OnceLock;

use qloupe::array::ArrayFile;
use tempfile::TempDir;

/// Arrays that are read of a file.
const N_ARRAYS: usize = 4;

/// The first bytes tell which of the formats it is taken for.
///
/// # Panics
/// On a bug only.
pub(crate) fn exercise(bytes: &[u8]) {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => panic!("no folder for arrays: {error}"),
    });
    let name = if bytes.starts_with(b"\x93NUMPY") {
        "a.npy"
    } else if bytes.starts_with(b"PK") {
        "a.npz"
    } else {
        "a.safetensors"
    };
    let path = folder.path().join(name);
    if let Err(error) = fs::write(&path, bytes) {
        panic!("{}: {error}", path.display());
    }
    let Ok(file) = ArrayFile::open(&path) else {
        return;
    };
    for (idx, info) in file.arrays().iter().enumerate().take(N_ARRAYS) {
        let _ = file.read(idx);
        let n_samples = info.shape.first().copied().unwrap_or(0);
        for sample in [0, n_samples / 2, n_samples.saturating_sub(1)] {
            if sample < n_samples {
                let _ = file.read_sample(idx, sample);
            }
        }
    }
}
