//! The lists of the facade: what names mean something, and what they mean.

use pyo3::prelude::*;
use qloupe::metrics::Direction;
use qloupe::{calibrate, export, metrics as facade_metrics, report, targets as facade_targets};

/// The calibration algorithms: id, what it does, names that other tools give it.
#[pyfunction]
pub(crate) fn algorithms() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    calibrate::ALL
        .iter()
        .map(|a| (a.id(), a.title(), a.aliases().to_vec()))
        .collect()
}

/// The formats of `Quantized.export`: id, what it is, whether it needs a `cfg` and a dataset.
#[pyfunction]
pub(crate) fn export_formats() -> Vec<(&'static str, &'static str, bool, bool)> {
    let needs = |format: &dyn export::ExportFormat, option| format.needs().contains(&option);
    export::ALL
        .iter()
        .map(|&format| {
            let cfg = needs(format, export::ExportOption::Cfg);
            (
                format.id(),
                format.title(),
                cfg,
                needs(format, export::ExportOption::Dataset),
            )
        })
        .collect()
}

/// The error metrics: id, unit, formula, and which values are good: `higher`, `lower` or `toward_zero`.
#[pyfunction]
pub(crate) fn metrics() -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    let direction = |metric: &dyn facade_metrics::Metric| match metric.direction() {
        Direction::Higher => "higher",
        Direction::Lower => "lower",
        Direction::TowardZero => "toward_zero",
    };
    facade_metrics::ALL
        .iter()
        .map(|&m| (m.id(), m.unit(), m.formula(), direction(m)))
        .collect()
}

/// The formats of `Report.format`: id, and the extension of files that are written in it.
#[pyfunction]
pub(crate) fn report_formats() -> Vec<(&'static str, Option<&'static str>)> {
    report::FORMATS
        .iter()
        .map(|format| (format.id(), format.extension()))
        .collect()
}

/// The targets: id and what they are.
#[pyfunction]
pub(crate) fn targets() -> Vec<(&'static str, &'static str)> {
    facade_targets::ALL.iter().map(|t| (t.id, t.title)).collect()
}

/// The number of threads that runs use.
#[pyfunction]
pub(crate) fn thread_count() -> usize {
    rayon::current_num_threads()
}
