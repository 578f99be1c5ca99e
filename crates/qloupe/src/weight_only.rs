//! Weights as integers beside float16 values: which scales they get.
//!
//! No value is quantized, so nothing has to be calibrated. With a dataset, passes that correct what the weights do run as for
//! integers, and `auto` tries both kinds of scales.

use qloupe_tensor::Tensor;
use rayon::prelude::*;

use crate::Error;
use crate::bench::make_one_sample;
use crate::optimize::{self, Work, least_error_scales};
use crate::plan::{WeightPlan, n_shared_scales};
use crate::prepare::Prepared;
use crate::quantize::{QuantizeOptions, Quantized, Stages, with_plain_ranges, with_whole_ranges};
use crate::samples::Dataset;
use crate::session::Session;

/// What finds the scales of weights: of the whole range of their elements, of the least squared error, or what is better.
const WHOLE_RANGE: &str = "min_max";
const LEAST_ERROR: &str = "mse";
const BETTER: &str = "auto";

/// Makes the plan of a target with integer weights and float16 values; passes learn from the dataset.
///
/// # Errors
/// An algorithm or ranges that only values have; a sample that cannot be read, a run that fails, a weight that is not finite.
pub(crate) fn quantize_weights(
    session: &Session,
    dataset: &Dataset,
    options: &QuantizeOptions,
    stages: Stages<'_>,
) -> Result<Quantized, Error> {
    check(options)?;
    let network = &session.network;
    let whole = with_whole_ranges(session, dataset, options, stages)?;
    let work = Work::new(session, dataset, options, stages)?;
    let chosen = match options.algorithm.id() {
        BETTER => {
            let other = Quantized::new(whole.prepared.copied(network)?, whole.plan.clone());
            let least = with_least_error(other)?;
            let better = optimize::better_of(&work, [(WHOLE_RANGE, whole), (LEAST_ERROR, least)])?;
            named(better, BETTER)
        }
        LEAST_ERROR => with_least_error(whole)?,
        _ => named(whole, WHOLE_RANGE),
    };
    optimize::correct_weights(&work, chosen)
}

/// As [`quantize_weights`], from the weights alone. One run tells what values are float, and their ranges: of these inputs, or of
/// some that are made up, whose ranges are left out.
///
/// # Errors
/// As [`quantize_weights`].
pub fn quantize_weights_alone(
    session: &Session,
    inputs: Option<&[(String, Tensor)]>,
    options: &QuantizeOptions,
) -> Result<Quantized, Error> {
    check(options)?;
    let prepared = Prepared::new(&session.network, options.target, options.optimization_level)?;
    let made_up = match inputs {
        Some(_) => Vec::new(),
        None => make_one_sample(session)?,
    };
    let mut whole = with_plain_ranges(prepared, [(0, inputs.unwrap_or(&made_up))], options)?;
    if inputs.is_none() {
        whole.plan.n_samples = 0;
        whole.plan.values.iter_mut().for_each(|value| value.range = None);
    }
    match options.algorithm.id() {
        WHOLE_RANGE => Ok(named(whole, WHOLE_RANGE)),
        _ => with_least_error(whole),
    }
}

/// Refuses what only quantized values have.
fn check(options: &QuantizeOptions) -> Result<(), Error> {
    let (target, algorithm) = (options.target.id, options.algorithm.id());
    if ![WHOLE_RANGE, LEAST_ERROR, BETTER].contains(&algorithm) {
        return Err(Error::Options(format!(
            "algorithm {algorithm} finds ranges of values, target {target} quantizes weights only, expected {BETTER}, \
             {WHOLE_RANGE} or {LEAST_ERROR}"
        )));
    }
    if let Some(ranges) = &options.ranges {
        return Err(Error::Options(format!(
            "{}: ranges are of values, target {target} quantizes weights only, expected a target with integer values",
            ranges.display()
        )));
    }
    Ok(())
}

fn named(mut quantized: Quantized, algorithm: &str) -> Quantized {
    algorithm.clone_into(&mut quantized.plan.algorithm);
    quantized
}

/// The plan with scales of the least squared error of each weight.
fn with_least_error(quantized: Quantized) -> Result<Quantized, Error> {
    let mut quantized = named(quantized, LEAST_ERROR);
    let Quantized { prepared, plan, .. } = &mut quantized;
    let search = |weight: &mut WeightPlan| -> Result<(), Error> {
        let unit = prepared
            .units
            .iter()
            .find(|unit| unit.weights.contains(&weight.name));
        let (Some(unit), Some(stored)) = (unit, prepared.program.constant(&weight.name)) else {
            return Ok(());
        };
        let node = &prepared.program.graph().nodes[unit.main_idx];
        let n_shared = n_shared_scales(node, stored.shape(), weight.params.granularity());
        let best = least_error_scales(stored, &weight.params, n_shared, &|_| 1.0)?;
        weight.params = prepared.target.stored_weight_params(best);
        Ok(())
    };
    plan.weights.par_iter_mut().try_for_each(search)?;
    Ok(quantized)
}
