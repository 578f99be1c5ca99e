//! Rewrites of the graph, which come before calibration: each is judged with the plain ranges of the tuning samples.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_tensor::{Range, Tensor};

use super::Work;
use super::score::Referee;
use crate::Error;
use crate::calibrate::Calibration;
use crate::passes::rescale_concat::find_rescales;
use crate::plan::Optimized;
use crate::prepare::Prepared;
use crate::quantize::planned;
use crate::runner::Runner;
use crate::samples::Batch;

/// The optimization level from which graphs are rewritten.
pub(super) const LEVEL: u8 = 1;

const RESCALE_CONCAT: &str = "rescale_concat";

/// Tries each rewrite and keeps those that help.
pub(super) fn restructure(
    work: &Work<'_>,
    referee: &Referee,
    prepared: Prepared,
    optimized: &mut Optimized,
) -> Result<Prepared, Error> {
    let ranges = ranges(work, &prepared)?;
    let shapes = shapes(work)?;
    let rescales = find_rescales(&prepared.program, &prepared.topology, &ranges, &shapes);
    if rescales.is_empty() {
        return Ok(prepared);
    }
    let network = work.network();
    let n_samples = work.tuning().len();
    let trial = prepared.with_rescales(network, &rescales)?;
    let trial_ranges = self::ranges(work, &trial)?;
    let before = planned(prepared, &ranges, work.options, n_samples)?;
    let after = planned(trial, &trial_ranges, work.options, n_samples)?;
    let scores = (referee.score(network, &before)?, referee.score(network, &after)?);
    let record = referee.record(RESCALE_CONCAT, scores.0, scores.1);
    let kept = record.kept;
    optimized.passes.push(record);
    if kept {
        optimized.rescales = rescales;
        Ok(after.prepared)
    } else {
        Ok(before.prepared)
    }
}

/// The ranges of all values on the tuning samples.
fn ranges(work: &Work<'_>, prepared: &Prepared) -> Result<BTreeMap<String, Range>, Error> {
    let names: BTreeSet<String> = prepared.value_names().into_iter().collect();
    let mut calibration = Calibration::new(&prepared.program, &names, true);
    for (idx, inputs) in work.tuning().iter().enumerate() {
        calibration.observe(&Batch::single(idx, inputs.clone()))?;
    }
    let sketches = calibration.finish().sketches.into_iter();
    Ok(sketches.map(|(name, sketch)| (name, sketch.range())).collect())
}

/// The shapes of all values of the first sample.
fn shapes(work: &Work<'_>) -> Result<BTreeMap<String, Vec<usize>>, Error> {
    let mut shapes = BTreeMap::new();
    let mut see = |name: &str, tensor: &Tensor| {
        shapes.insert(name.to_owned(), tensor.shape().to_vec());
        Ok(())
    };
    if let Some(inputs) = work.tuning().first() {
        Runner::Float.run(work.network(), inputs, Some(&mut see))?;
    }
    Ok(shapes)
}
