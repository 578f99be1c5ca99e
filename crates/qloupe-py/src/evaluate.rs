//! Task accuracy, and plans side by side.

use std::path::PathBuf;

use pyo3::prelude::*;
use qloupe::compare_plans::{Examination, compare_plans};
use qloupe::evaluate::{self, Choice, Contender, Evaluation, PRECISIONS, Question};
use qloupe::quantize::{QuantizeOptions, Stages, quantize_to_fp16};
use qloupe::runner::Runner;
use qloupe::samples::{Dataset, Labelled};
use qloupe::session::Session;
use qloupe::{Error, Mode};

use crate::error::to_python;
use crate::model::Printed;
use crate::quantized::Quantized;
use crate::work;

const MODES: &[(&str, Mode)] = &[("integer", Mode::Integer), ("fake-quant", Mode::FakeQuant)];

/// How quantized units compute.
pub(crate) fn mode_of(name: &str) -> Result<Mode, Error> {
    let found = MODES.iter().find(|(id, _)| *id == name).map(|(_, mode)| *mode);
    found.ok_or_else(|| Error::unknown_choice("mode", name, MODES.iter().map(|(id, _)| *id)))
}

/// What is asked.
pub(crate) struct Asked {
    pub(crate) labels: PathBuf,
    pub(crate) samples: Vec<String>,
    pub(crate) precisions: Option<Vec<String>>,
    pub(crate) task: Option<String>,
    pub(crate) output: Option<String>,
    pub(crate) classes: Option<Vec<String>>,
}

impl Asked {
    /// The precisions to run, in the order of the table: all that can be, unless they were named.
    fn precisions(&self, has_quantized: bool) -> Result<Vec<&'static str>, Error> {
        let Some(named) = &self.precisions else {
            let can_run = |name: &&str| *name != "int8" || has_quantized;
            return Ok(PRECISIONS.iter().copied().filter(can_run).collect());
        };
        if let Some(unknown) = named.iter().find(|name| !PRECISIONS.contains(&name.as_str())) {
            return Err(Error::unknown_choice(
                "precision",
                unknown,
                PRECISIONS.iter().copied(),
            ));
        }
        if named.iter().any(|name| name == "int8") && !has_quantized {
            let what = "precision int8 needs a plan, expected quantized=Model.build(..), got none";
            return Err(Error::Options(what.to_owned()));
        }
        let is_named = |name: &&str| named.iter().any(|wanted| wanted == name);
        Ok(PRECISIONS.iter().copied().filter(is_named).collect())
    }
}

/// How often a model is right in each precision.
pub(crate) fn evaluate(
    py: Python<'_>,
    session: &Session,
    quantized: Option<&Quantized>,
    asked: &Asked,
    mode: &str,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<Printed> {
    let raise = |error: Error| to_python(py, &error);
    let mode_name = mode.to_owned();
    let mode = mode_of(mode).map_err(raise)?;
    let precisions = asked.precisions(quantized.is_some()).map_err(raise)?;
    work::run(py, progress, |stages| {
        let labelled = Labelled::open(&asked.labels, &asked.samples, &session.inputs)?;
        let choice = Choice {
            task: asked.task.as_deref(),
            output: asked.output.as_deref(),
            class_names: asked.classes.as_deref(),
        };
        let question = Question::choose(&session.network, &labelled, choice)?;
        let mut contenders = Vec::new();
        let mut int8 = None;
        for precision in precisions {
            let runner = match (precision, quantized) {
                ("int8", Some(quantized)) => {
                    int8 = Some(quantized.describe(&mode_name));
                    quantized.new_runner(mode)?
                }
                ("fp16", _) => {
                    let first = labelled.dataset.batch(0)?;
                    quantize_to_fp16(session, &first.inputs)?.runner(session, Mode::FakeQuant)?
                }
                _ => Runner::Float,
            };
            contenders.push(Contender { precision, runner });
        }
        let done = |done, all| stages("evaluate", done, all);
        let scores = evaluate::evaluate(&session.network, &labelled, &question, &contenders, &done)?;
        let evaluation = Evaluation {
            model: session.network.file.clone(),
            task: question.task,
            about: question.judge.about(),
            output: question.output,
            labels: asked.labels.display().to_string(),
            n_samples: labelled.dataset.len(),
            int8,
            scores,
            notes: labelled.dataset.notes().to_vec(),
        };
        Ok((evaluation.to_json().to_string(), evaluation.to_text()))
    })
}

/// Plans of several algorithms and methods: calibrated on the first dataset, judged on the second.
pub(crate) fn compare(
    session: &Session,
    (calibration, samples): (&Dataset, &Dataset),
    options: &[QuantizeOptions],
    labels: Option<(PathBuf, Vec<String>)>,
    mode: Mode,
    stages: Stages<'_>,
) -> Result<Printed, Error> {
    let labelled = match labels {
        Some((labels, files)) => Some(Labelled::open(&labels, &files, &session.inputs)?),
        None => None,
    };
    let question = match &labelled {
        Some(labelled) => Some(Question::choose(&session.network, labelled, Choice::default())?),
        None => None,
    };
    let examination = Examination {
        samples,
        mode,
        task: labelled.as_ref().zip(question.as_ref()),
    };
    let comparison = compare_plans(session, calibration, options, examination, stages)?;
    Ok((comparison.to_json().to_string(), comparison.to_text(false)))
}
