//! The small image classifiers of `testdata/models`, with the samples that they are calibrated on.

use std::path::{Path, PathBuf};

use qloupe::prepare::Crop;
use qloupe::recipe::Recipe;
use qloupe::samples::Dataset;
use qloupe::session::Session;

pub(crate) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata")
}

pub(crate) fn session(model: &str) -> (Session, Dataset) {
    let recipe = Recipe::read(&testdata().join("fmnist/recipe.toml")).unwrap();
    let path = testdata().join("models").join(model).with_extension("onnx");
    let session = Session::open(&path, &Crop::default(), &Default::default(), &recipe).unwrap();
    let dataset = Dataset::open(&testdata().join("fmnist/calib"), &session.inputs).unwrap();
    (session, dataset)
}
