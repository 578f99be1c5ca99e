//! Rewrites of the graph, which come before calibration: each is judged with the plain ranges of the tuning samples.

use std::collections::BTreeMap;

use qloupe_tensor::Tensor;

use super::Work;
use super::absorb_biases::absorb_biases;
use super::float_answers;
use super::scale_values::scale_values;
use super::score::Referee;
use crate::Error;
use crate::passes::rescale_concat::{PASS as RESCALE_CONCAT, find_rescales};
use crate::plan::Optimized;
use crate::prepare::Prepared;
use crate::quantize::with_plain_ranges;
use crate::runner::Runner;

/// The optimization level from which graphs are rewritten.
pub(super) const LEVEL: u8 = 1;

/// Tries each rewrite and keeps those that help.
pub(super) fn restructure(
    work: &Work<'_>,
    referee: &Referee,
    prepared: Prepared,
    optimized: &mut Optimized,
) -> Result<Prepared, Error> {
    // Where what follows the last products may be float, it needs no scale.
    let prepared = if float_answers::applies(work.options().target) {
        prepared
    } else {
        rescale_concats(work, referee, prepared, optimized)?
    };
    let shapes = shapes(work)?;
    let prepared = scale_values(work, referee, prepared, &shapes, optimized)?;
    absorb_biases(work, referee, prepared, &shapes, optimized)
}

fn rescale_concats(
    work: &Work<'_>,
    referee: &Referee,
    prepared: Prepared,
    optimized: &mut Optimized,
) -> Result<Prepared, Error> {
    let network = work.network();
    let before = with_plain_ranges(prepared, work.numbered(), work.options)?;
    let own_ranges = before
        .plan
        .values
        .iter()
        .filter_map(|value| Some((value.name.clone(), value.range?)));
    let Prepared {
        program, topology, ..
    } = &before.prepared;
    let rescales = find_rescales(program, topology, &own_ranges.collect(), &shapes(work)?);
    if rescales.is_empty() {
        return Ok(before.prepared);
    }
    let trial = before.prepared.with_rescales(network, &rescales)?;
    let after = with_plain_ranges(trial, work.numbered(), work.options)?;
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
