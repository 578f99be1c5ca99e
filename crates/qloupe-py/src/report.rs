//! The report of an analysis: as JSON, which Python takes apart, and in the formats of the facade.

use pyo3::prelude::*;
use qloupe::Error;
use qloupe::compare_reports::{self, TableOptions, parse_report};
use qloupe::report::{self, Gate, Options, ReportFormat, Thresholds, TxtStyle};

use crate::error::to_python;
use crate::model::Printed;

const TXT_STYLES: &[(&str, TxtStyle)] = &[("2", TxtStyle::V2), ("1.3", TxtStyle::V1_3)];

/// Where accuracy was lost.
#[pyclass(frozen, module = "qloupe._qloupe")]
pub(crate) struct Report {
    pub(crate) report: report::Report,
}

#[pymethods]
impl Report {
    /// Reads a report out of JSON.
    #[staticmethod]
    #[pyo3(signature = (text, file, /))]
    fn parse(py: Python<'_>, text: &str, file: &str) -> PyResult<Self> {
        let report = parse_report(text.as_bytes(), file);
        let report = report.map_err(|error| to_python(py, &error))?;
        Ok(Self { report })
    }

    /// Everything, as JSON.
    fn to_json(&self) -> String {
        format_of("json").map_or_else(String::new, |json| json.write(&self.report, &Options::default()))
    }

    /// The report in a format of `report_formats`.
    #[pyo3(signature = (format, /, *, colour=false, width=120, txt_style="2", thresholds=(0.99, 0.98)))]
    fn format(
        &self,
        py: Python<'_>,
        format: &str,
        colour: bool,
        width: usize,
        txt_style: &str,
        thresholds: (f64, f64),
    ) -> PyResult<String> {
        let unknown =
            |what, name: &str, choices: Vec<&str>| to_python(py, &Error::unknown_choice(what, name, choices));
        let ids = || report::FORMATS.iter().map(|format| format.id()).collect();
        let found = format_of(format).ok_or_else(|| unknown("report format", format, ids()))?;
        let style = TXT_STYLES
            .iter()
            .find(|(id, _)| *id == txt_style)
            .map(|(_, style)| *style);
        let styles = || TXT_STYLES.iter().map(|(id, _)| *id).collect();
        let options = Options {
            colour,
            width,
            thresholds: Thresholds {
                slight: thresholds.0,
                wrong: thresholds.1,
            },
            txt_style: style.ok_or_else(|| unknown("txt style", txt_style, styles()))?,
        };
        Ok(found.write(&self.report, &options))
    }

    /// Judges the report by `[VIEW.]METRIC=X`: whether it passes, and a sentence.
    #[pyo3(signature = (limit, /))]
    fn gate(&self, py: Python<'_>, limit: &str) -> PyResult<(bool, String)> {
        let raise = |error: report::GateError| to_python(py, &error.into());
        let gate: Gate = limit.parse().map_err(raise)?;
        let outcome = self.report.gate(&gate).map_err(raise)?;
        Ok((outcome.passed, outcome.to_string()))
    }

    /// The story of a layer in plain words, a paragraph an element.
    #[pyo3(signature = (layer, /))]
    fn story(&self, py: Python<'_>, layer: &str) -> PyResult<Vec<String>> {
        let story = self.report.story(layer);
        story.map_err(|error| to_python(py, &error))
    }

    /// What moved between this report and another one, the one after.
    #[pyo3(signature = (after, names, /))]
    fn compare(&self, after: &Self, names: (String, String)) -> ReportComparison {
        let (a, b) = ((&*names.0, &self.report), (&*names.1, &after.report));
        ReportComparison {
            comparison: compare_reports::ReportComparison::new(a, b),
        }
    }
}

/// What moved between two reports.
#[pyclass(frozen, module = "qloupe._qloupe")]
pub(crate) struct ReportComparison {
    comparison: compare_reports::ReportComparison,
}

#[pymethods]
impl ReportComparison {
    /// JSON and the tables that people read.
    #[pyo3(signature = (*, all, width))]
    fn printed(&self, all: bool, width: usize) -> Printed {
        let options = TableOptions {
            colour: false,
            width,
            all,
            quiet: false,
        };
        let comparison = &self.comparison;
        (comparison.to_json().to_string(), comparison.to_text(options))
    }

    /// Whether no network output lost more than so many dB, and a sentence.
    #[pyo3(signature = (limit_db, /))]
    fn regression(&self, py: Python<'_>, limit_db: f64) -> PyResult<(bool, String)> {
        let judged = self.comparison.regression(limit_db);
        let regression = judged.map_err(|error| to_python(py, &error))?;
        Ok((regression.passed, regression.words))
    }
}

fn format_of(id: &str) -> Option<&'static dyn ReportFormat> {
    report::find_format(id)
}
