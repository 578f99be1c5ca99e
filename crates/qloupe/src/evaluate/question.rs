//! What is asked of a network: which task, read from which output.

use qloupe_ir::suggestion;
use qloupe_tensor::Tensor;

use super::tasks::{self, Judge, Refusal, Subject, Task};
use crate::Error;
use crate::prepare::Network;
use crate::runner::Runner;
use crate::samples::{Batch, Label, Labelled};

/// What the user chose; the rest is found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<'a> {
    /// The id of a task.
    pub task: Option<&'a str>,
    /// An output.
    pub output: Option<&'a str>,
    /// The names of the classes.
    pub class_names: Option<&'a [String]>,
}

/// A task, the output it is read from, and the judge of its answers.
#[derive(Debug)]
pub struct Question {
    /// The id of the task.
    pub task: &'static str,
    /// The name of the output.
    pub output: String,
    /// Who says whether an answer is right.
    pub judge: Box<dyn Judge>,
    output_idx: usize,
}

impl Question {
    /// Runs the first sample in float and finds the first output and task that fit the labels.
    ///
    /// # Errors
    /// An unknown task or output, a label that is wrong, labels and outputs that fit no task.
    pub fn choose(network: &Network, labelled: &Labelled, choice: Choice<'_>) -> Result<Self, Error> {
        let wanted = choice.task.map(find_task).transpose()?;
        let names = || network.model.graph.output_names();
        if let Some(name) = choice.output.filter(|name| names().all(|known| known != *name)) {
            let help = suggestion(name, names());
            return Err(Error::Options(format!(
                "--output: {} has no output \"{name}\"{help}",
                network.file
            )));
        }
        let from_metadata = super::class_names::of_metadata(&network.model.metadata_props);
        let class_names = choice.class_names.or(from_metadata.as_deref());
        let batch = labelled.dataset.batch(0)?;
        let outputs = Runner::Float.run(network, &batch.inputs, None)?;
        let tasks: Vec<&dyn Task> = wanted.map_or_else(|| tasks::ALL.to_vec(), |task| vec![task]);
        let mut refusals = Vec::new();
        for (output_idx, (name, tensor)) in outputs.iter().enumerate() {
            if choice.output.is_some_and(|wanted| wanted != name) {
                continue;
            }
            let samples = split(&batch, name, tensor)?;
            for task in &tasks {
                let judge = task.judge(&Subject {
                    output: &samples[0],
                    labels: &labelled.labels,
                    class_names,
                    metadata: &network.model.metadata_props,
                });
                match judge {
                    Ok(judge) => {
                        return Ok(Self {
                            task: task.id(),
                            output: name.clone(),
                            judge,
                            output_idx,
                        });
                    }
                    Err(Refusal::Label(what)) => return Err(Error::Options(what)),
                    Err(Refusal::Unfit(why)) => refusals.push((name, task.id(), why)),
                }
            }
        }
        Err(unfit(&refusals, &labelled.labels))
    }

    /// The output that is judged, of each sample of a batch.
    pub(super) fn outputs(
        &self,
        network: &Network,
        runner: &Runner,
        batch: &Batch,
    ) -> Result<Vec<Tensor>, Error> {
        let outputs = runner.run(network, &batch.inputs, None)?;
        split(batch, &self.output, &outputs[self.output_idx].1)
    }
}

fn find_task(id: &str) -> Result<&'static dyn Task, Error> {
    let found = tasks::ALL.iter().copied().find(|task| task.id() == id);
    found.ok_or_else(|| Error::unknown_choice("task", id, tasks::ALL.iter().map(|task| task.id())))
}

fn split(batch: &Batch, name: &str, output: &Tensor) -> Result<Vec<Tensor>, Error> {
    let samples = batch.split(output);
    if samples.len() == batch.n_samples {
        return Ok(samples);
    }
    Err(Error::Options(format!(
        "output \"{name}\" does not tell samples apart, expected a first axis that counts them, got shape {:?}",
        output.shape()
    )))
}

fn unfit(refusals: &[(&String, &str, String)], labels: &[Label]) -> Error {
    let reasons: Vec<String> = refusals
        .iter()
        .map(|(output, task, why)| format!("\n  {task} of \"{output}\": {why}"))
        .collect();
    let first = labels.first().map_or("", |label| label.place.as_str());
    let n = labels.len();
    Error::Options(format!(
        "no task fits the outputs and the {n} labels from {first}:{}",
        reasons.concat()
    ))
}
