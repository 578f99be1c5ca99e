//! Fixes that are tried: each edit that a finding proposes is made, run, and measured.

use qloupe_tensor::Range;

use crate::exam::Exam;
use crate::passes::rescale_concat::find_rescales;
use crate::plan::QuantPlan;
use crate::prepare::Prepared;
use crate::quantize::{QuantizeOptions, Quantized, Stages, quantize, with_plain_ranges};
use crate::report::{Action, Finding, Tried};
use crate::samples::Dataset;
use crate::session::Session;
use crate::unit_costs::{unit_costs, unit_of};
use crate::{Error, calibrate};

/// What tries fixes.
pub struct Fixer<'a> {
    session: &'a Session,
    base: &'a Quantized,
    exam: Exam,
    costs: Vec<f64>,
    /// The samples of the calibration and how it was done, for fixes that do it again.
    calibration: Option<(&'a Dataset, QuantizeOptions)>,
}

impl std::fmt::Debug for Fixer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fixer")
            .field("n_samples", &self.exam.n_samples())
            .finish_non_exhaustive()
    }
}

impl<'a> Fixer<'a> {
    /// Fixes of a plan, to be judged on the samples of an exam.
    pub fn new(session: &'a Session, base: &'a Quantized, exam: Exam) -> Self {
        Self {
            session,
            base,
            costs: unit_costs(&base.prepared),
            exam,
            calibration: None,
        }
    }

    /// Lets fixes quantize again, as `options` say but for what is fixed.
    #[must_use]
    pub fn with_calibration(mut self, dataset: &'a Dataset, options: QuantizeOptions) -> Self {
        self.calibration = Some((dataset, options));
        self
    }

    /// Tries the actions of the first findings that have one, each on the plan as it is, and notes what each brought. To
    /// quantize again is tried beside those, where there are samples for it.
    ///
    /// # Errors
    /// A run that fails.
    pub fn try_all(&self, findings: &mut [Finding], n_tried: usize, stages: Stages<'_>) -> Result<(), Error> {
        let before = self.exam.judge(&self.session.network, self.base)?;
        let mut known: Vec<(Action, Tried)> = Vec::new();
        let mut n_done = 0;
        for finding in findings.iter_mut() {
            let requantizes = matches!(finding.action, Some(Action::Requantize { .. }));
            let is_tried = |_: &Action| n_tried > 0 && (requantizes || n_done < n_tried);
            let Some(action) = finding.action.clone().filter(is_tried) else {
                continue;
            };
            let again = known.iter().find(|(tried, _)| *tried == action);
            if let Some((_, tried)) = again {
                finding.tried = Some(tried.clone());
                continue;
            }
            let Some(fixed) = self.apply(std::slice::from_ref(&action))? else {
                continue;
            };
            let after = self.exam.judge(&self.session.network, &fixed)?;
            let tried = Tried {
                number: known.len() + 1,
                before_db: before.mean_db,
                after_db: after.mean_db,
                gain_db: after.mean_db - before.mean_db,
                worst_before_db: before.worst_db,
                worst_after_db: after.worst_db,
                cost: self.cost(&action),
            };
            finding.tried = Some(tried.clone());
            known.push((action, tried));
            if !requantizes {
                n_done += 1;
                stages("fix", n_done, n_tried);
            }
        }
        Ok(())
    }

    /// The part of all multiply-accumulates that an action takes out of the integers.
    fn cost(&self, action: &Action) -> f64 {
        match action {
            Action::SetPrecision { value, .. } => {
                unit_of(&self.base.prepared, value).map_or(0.0, |idx| self.costs[idx])
            }
            _ => 0.0,
        }
    }

    /// The plan after some actions; `None` where the first cannot be done.
    ///
    /// # Errors
    /// A graph that cannot be rewritten.
    pub fn apply(&self, actions: &[Action]) -> Result<Option<Quantized>, Error> {
        let network = &self.session.network;
        let again = actions.iter().find_map(|action| match action {
            Action::Requantize {
                algorithm,
                optimization_level,
            } => Some((algorithm, *optimization_level)),
            _ => None,
        });
        let (mut prepared, mut plan) = match again {
            Some(settings) => match self.requantized(settings)? {
                Some(Quantized { prepared, plan, .. }) => (prepared, plan),
                None => return Ok(None),
            },
            None => (self.base.prepared.copied(network)?, self.base.plan.clone()),
        };
        for action in actions {
            if matches!(action, Action::Requantize { .. }) {
                continue;
            }
            if let Action::RescaleConcat { value } = action {
                match self.rescaled(prepared, &plan, value)? {
                    Ok(rescaled) => Quantized { prepared, plan, .. } = rescaled,
                    Err(_) => return Ok(None),
                }
                continue;
            }
            match edited(&prepared, &plan, action)? {
                Some(edited) => plan = edited,
                None => return Ok(None),
            }
        }
        Ok(Some(Quantized::new(prepared, plan)))
    }

    /// The network quantized again; `None` without samples for that.
    fn requantized(&self, (algorithm, level): (&String, u8)) -> Result<Option<Quantized>, Error> {
        let Some((dataset, options)) = &self.calibration else {
            return Ok(None);
        };
        let options = QuantizeOptions {
            algorithm: calibrate::find(algorithm)?,
            optimization_level: level,
            ..options.clone()
        };
        quantize(self.session, dataset, &options, &|_, _, _| ()).map(Some)
    }

    /// The plan after fixes that [`Fixer::try_all`] tried, by their numbers.
    ///
    /// # Errors
    /// [`Error::Options`] for a number that no fix has, and for fixes that exclude each other; a graph that cannot be rewritten.
    pub fn apply_numbered(&self, findings: &[Finding], numbers: &[usize]) -> Result<Quantized, Error> {
        let number_of = |finding: &Finding| finding.tried.as_ref().map(|tried| tried.number);
        let action = |number: &usize| -> Result<Action, Error> {
            let found = findings
                .iter()
                .find(|finding| number_of(finding) == Some(*number));
            found.and_then(|finding| finding.action.clone()).ok_or_else(|| {
                let n = findings.iter().filter_map(number_of).max();
                let expected = n.map_or_else(
                    || "none was tried".to_owned(),
                    |n| format!("expected 1 to {n} of those that were tried"),
                );
                Error::Options(format!("there is no fix {number}, {expected}"))
            })
        };
        let actions: Vec<Action> = numbers.iter().map(action).collect::<Result<_, _>>()?;
        self.apply(&actions)?.ok_or_else(|| {
            Error::Options("these fixes cannot be made together, expected one of them".to_owned())
        })
    }

    /// The graph with a rescaled Concat. Values that it inserts get the ranges of the samples, the others keep theirs.
    fn rescaled(
        &self,
        prepared: Prepared,
        plan: &QuantPlan,
        value: &str,
    ) -> Result<Result<Quantized, Prepared>, Error> {
        let network = &self.session.network;
        let ranges = plan
            .values
            .iter()
            .filter_map(|v| Some((v.name.clone(), v.range?)))
            .collect();
        let mut shapes = std::collections::BTreeMap::new();
        let mut see = |name: &str, tensor: &qloupe_tensor::Tensor| {
            shapes.insert(name.to_owned(), tensor.shape().to_vec());
            Ok(())
        };
        if let Some(inputs) = self.exam.samples().next() {
            crate::runner::Runner::Float.run(network, inputs, Some(&mut see))?;
        }
        let found = find_rescales(&prepared.program, &prepared.topology, &ranges, &shapes);
        let wanted: Vec<_> = found
            .into_iter()
            .filter(|rescale| rescale.value == value)
            .collect();
        if wanted.is_empty() {
            return Ok(Err(prepared));
        }
        let mut options = QuantizeOptions::new(prepared.target);
        options.method = plan.method;
        options.optimization_level = plan.optimization_level;
        let rewritten = prepared.with_rescales(network, &wanted)?;
        let mut fixed = with_plain_ranges(rewritten, self.exam.samples().enumerate(), &options)?;
        for own in &mut fixed.plan.values {
            if let Some(kept) = plan.value(&own.name).filter(|_| own.name != value) {
                own.clone_from(kept);
            }
        }
        for own in &mut fixed.plan.weights {
            if let Some(kept) = plan.weights.iter().find(|weight| weight.name == own.name) {
                own.clone_from(kept);
            }
        }
        fixed.plan.algorithm.clone_from(&plan.algorithm);
        fixed.plan.n_samples = plan.n_samples;
        fixed.plan.optimized = plan.optimized.clone();
        fixed.plan.optimized.rescales.extend(wanted);
        Ok(Ok(fixed))
    }
}

/// The plan after an edit that leaves the graph as it is; `None` where it does not apply.
fn edited(prepared: &Prepared, plan: &QuantPlan, action: &Action) -> Result<Option<QuantPlan>, Error> {
    // Reports tell of values of the user's graph; the plan may know them in other units.
    let is_mapped = |value: &String| prepared.maps.contains_key(value);
    match action {
        Action::SetRange { value, .. } if is_mapped(value) => Ok(None),
        Action::SetRange { value, range } => {
            let range = Range {
                min: range.min as f32,
                max: range.max as f32,
            };
            plan.with_range(prepared, value, range)
        }
        Action::RefitWeights { value, per_channel } => match unit_of(prepared, value) {
            Some(idx) => plan.with_fitted_weights(prepared, idx, *per_channel),
            None => Ok(None),
        },
        Action::SetPrecision { value, precision } => {
            let mut plan = plan.clone();
            Ok(plan.set_real(value, precision, "fix").then_some(plan))
        }
        Action::Requantize { .. } | Action::RescaleConcat { .. } => Ok(None),
    }
}
