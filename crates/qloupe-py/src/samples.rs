//! Samples of a model: files or arrays in memory, read one by one.

use std::sync::Arc;

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use qloupe::samples::Dataset;

use crate::error::to_python;
use crate::tensor::to_arrays;

/// Samples for the inputs of one model. Nothing is kept in memory but arrays that were handed over.
#[pyclass(frozen, module = "qloupe._qloupe")]
pub(crate) struct Samples {
    pub(crate) dataset: Arc<Dataset>,
    /// Where they come from, in words.
    pub(crate) source: String,
}

#[pymethods]
impl Samples {
    fn __len__(&self) -> usize {
        self.dataset.len()
    }

    /// What the user should know: defaults that pictures get, arrays that are ignored.
    fn notes(&self) -> Vec<String> {
        self.dataset.notes().to_vec()
    }

    /// Where the samples come from.
    fn source(&self) -> &str {
        &self.source
    }

    /// The first samples, or all where there are fewer.
    #[pyo3(signature = (n, /))]
    fn first(&self, n: usize) -> Self {
        Self {
            dataset: Arc::new(self.dataset.first(n)),
            source: self.source.clone(),
        }
    }

    /// The file of a sample, when it holds no other.
    #[pyo3(signature = (index, /))]
    fn file(&self, index: usize) -> Option<String> {
        let file = (index < self.dataset.len())
            .then(|| self.dataset.file(index))
            .flatten();
        file.map(|file| file.display().to_string())
    }

    /// Reads a sample: its arrays by input name, as the model takes them.
    #[pyo3(signature = (index, /))]
    fn read<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyDict>> {
        if index >= self.dataset.len() {
            let what = format!("sample {index}: there are {} samples", self.dataset.len());
            return Err(PyIndexError::new_err(what));
        }
        let sample = py.detach(|| self.dataset.sample(index));
        let sample = sample.map_err(|error| to_python(py, &error.into()))?;
        to_arrays(py, sample)
    }
}
