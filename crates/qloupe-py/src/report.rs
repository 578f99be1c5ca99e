//! The report of an analysis: as JSON, which Python takes apart, and in the formats of the facade.

use pyo3::prelude::*;
use qloupe::Error;
use qloupe::report::{self, Gate, Options, ReportFormat, Thresholds, TxtStyle};

use crate::error::to_python;

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
    fn parse(py: Python<'_>, text: &str, file: String) -> PyResult<Self> {
        let parsed = serde_json::from_str(text).map_err(|error| Error::File {
            path: file.into(),
            what: format!("is no report: {error}"),
        });
        let report: report::Report = parsed.map_err(|error| to_python(py, &error))?;
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
}

fn format_of(id: &str) -> Option<&'static dyn ReportFormat> {
    report::find_format(id)
}
