//! Lists from elsewhere that lead to samples: `dataset.txt`, `labels.csv` and the recipe.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use qloupe::array::write_npy;
use qloupe::recipe::Recipe;
use qloupe::samples::{Dataset, InputSpec, Labelled};
use qloupe_tensor::{DType, Tensor};
use tempfile::TempDir;

/// Samples that are read of a list.
const N_SAMPLES: usize = 3;

/// The first byte says which file the others are: `d`ataset.txt, `l`abels.csv, or a recipe.
///
/// # Panics
/// On a bug only.
pub(crate) fn exercise(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind {
        b'd' => with_file("dataset.txt", bytes, |path| {
            for inputs in [&specs(&["x"]), &specs(&["x", "y"])] {
                read_samples(path, inputs);
            }
        }),
        b'l' => with_file("labels.csv", bytes, |path| {
            let _ = Labelled::open(path, &[], &specs(&["x"]));
            let sample = path.with_file_name("a.png").display().to_string();
            let _ = Labelled::open(path, &[sample], &specs(&["x"]));
        }),
        _ => recipe(bytes),
    }
}

fn recipe(bytes: &[u8]) {
    let Ok(recipe) = Recipe::parse(&String::from_utf8_lossy(bytes), "\"recipe.toml\"") else {
        return;
    };
    for name in recipe.inputs.keys() {
        for shape in [
            &[Some(1), Some(3), Some(4), Some(5)][..],
            &[None, None, None, Some(1)],
            &[Some(2)],
        ] {
            let Ok(spec) = InputSpec::new(name, DType::Float32, shape.to_vec(), &recipe) else {
                continue;
            };
            with_file("dataset.txt", b"a.png\na.npy\n", |path| {
                read_samples(path, &[spec])
            });
        }
    }
}

fn read_samples(path: &Path, inputs: &[InputSpec]) {
    let Ok(dataset) = Dataset::open(path, inputs) else {
        return;
    };
    for idx in 0..dataset.len().min(N_SAMPLES) {
        let _ = dataset.sample(idx);
    }
}

fn specs(names: &[&str]) -> Vec<InputSpec> {
    let spec = |name: &&str| {
        let shape = vec![Some(1), Some(3), Some(4), Some(5)];
        InputSpec::new(name, DType::Float32, shape, &Recipe::default())
    };
    names.iter().filter_map(|name| spec(name).ok()).collect()
}

/// Hands out a file of these bytes; a picture and an array lie beside it. One folder serves all.
fn with_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| match make_folder() {
        Ok(folder) => folder,
        Err(error) => panic!("no folder for samples: {error}"),
    });
    let path = folder.path().join(name);
    if let Err(error) = fs::write(&path, bytes) {
        panic!("{}: {error}", path.display());
    }
    read(&path);
}

fn make_folder() -> std::io::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let picture = include_bytes!("sample.png");
    fs::write(folder.path().join("a.png"), picture)?;
    fs::write(folder.path().join("b c.png"), picture)?;
    let array = Tensor::new(&[1, 3, 4, 5], vec![0.5_f32; 60]).map_err(std::io::Error::other)?;
    write_npy(&folder.path().join("a.npy"), &array).map_err(std::io::Error::other)?;
    Ok(folder)
}
