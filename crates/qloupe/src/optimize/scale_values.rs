//! Passes that scale channels of values: each proposes scales, and the best of them stay where they help.
//!
//! They are judged by what the level makes of the network afterwards: without its dead channels, if that helps, and with its
//! biases corrected.

use std::collections::{BTreeMap, BTreeSet};

use super::channel_ranges::channel_ranges;
use super::dead_channels::DeadChannels;
use super::equalize_layers::{self, Bound, equalize};
use super::equalize_members::{self, equalize_members};
use super::migrate_scales::{self, STRENGTHS, migrate};
use super::score::{LEAST_GAIN_DB, Referee};
use super::{MAX_RACE_SAMPLES, Pass, Work, bias_correction};
use crate::Error;
use crate::passes::Scaling;
use crate::passes::scale_values::{Constants, Finder, Joins, Region};
use crate::plan::Optimized;
use crate::prepare::Prepared;
use crate::quantize::with_plain_ranges;
use crate::targets::Support;

/// The best of several scalings has to win this much: less is chance on the samples that judge.
const LEAST_SCALING_GAIN_DB: f64 = 0.3;

/// The optimization level from which values are scaled.
const LEVEL: u8 = 2;

/// What a pass proposes: one list of scales or several that compete.
type Propose = fn(&[Region], &Constants<'_>, &BTreeMap<String, Vec<[f32; 2]>>) -> Vec<Vec<Scaling>>;

/// The passes, in the order in which they run.
const PASSES: &[(&str, Propose)] = &[
    (equalize_members::PASS, |regions, _, ranges| {
        let of_strength = |strength: &f32| equalize_members(regions, ranges, *strength);
        equalize_members::STRENGTHS.iter().map(of_strength).collect()
    }),
    (equalize_layers::PASS, |regions, constants, ranges| {
        [Bound::ByRange, Bound::Free]
            .map(|bound| equalize(regions, constants, ranges, bound))
            .into()
    }),
    (migrate_scales::PASS, |regions, constants, ranges| {
        let of_strength = |strength: &f32| migrate(regions, constants, ranges, *strength);
        STRENGTHS.iter().map(of_strength).collect()
    }),
];

/// Tries each pass and keeps those that help. Ranges of another tool are those of the original values: with them nothing is
/// scaled.
pub(super) fn scale_values(
    work: &Work<'_>,
    referee: &Referee,
    prepared: Prepared,
    shapes: &BTreeMap<String, Vec<usize>>,
    optimized: &mut Optimized,
) -> Result<Prepared, Error> {
    if work.options.optimization_level < LEVEL || work.options.ranges.is_some() {
        return Ok(prepared);
    }
    let mut best = prepared;
    let mut score = None;
    for (id, propose) in PASSES {
        let proposed = proposed(work, &best, shapes, *propose)?;
        if proposed.is_empty() {
            continue;
        }
        let (before, mut base) = match score {
            Some(known) => (known, best),
            None => judged(work, referee, best)?,
        };
        let mut winner: Option<(f64, Prepared, Vec<Scaling>)> = None;
        let n = proposed.len();
        for (idx, scalings) in proposed.into_iter().enumerate() {
            work.progress(id, idx, n);
            let trial = base.with_scalings(work.network(), &scalings)?;
            let (after, trial) = judged(work, referee, trial)?;
            if winner.as_ref().is_none_or(|(known, ..)| after > *known) {
                winner = Some((after, trial, scalings));
            }
        }
        score = Some(before);
        if let Some((after, trial, scalings)) = winner {
            let mut record = referee.record(id, before, after);
            record.kept &= after >= before + LEAST_SCALING_GAIN_DB;
            record.evidence = format!("{}, {} groups of values", record.evidence, scalings.len());
            if record.kept {
                base = trial;
                score = Some(after);
                optimized.scalings.extend(scalings);
            }
            optimized.passes.push(record);
        }
        best = base;
    }
    Ok(best)
}

/// The scales of a pass, those that scale nothing left out.
fn proposed(
    work: &Work<'_>,
    prepared: &Prepared,
    shapes: &BTreeMap<String, Vec<usize>>,
    propose: Propose,
) -> Result<Vec<Vec<Scaling>>, Error> {
    let program = &prepared.program;
    let finder = Finder {
        program,
        joins: &Joins::new(&prepared.model),
        topology: &prepared.topology,
        shapes,
        limits: is_integer_min(prepared),
    };
    let taken: BTreeSet<String> = prepared.maps.keys().cloned().collect();
    let regions = finder.regions(taken);
    if regions.is_empty() {
        return Ok(Vec::new());
    }
    let mut axes = BTreeMap::new();
    for region in &regions {
        let wholes = region.joins.iter().map(|join| &join.whole);
        axes.extend(
            region
                .reads
                .iter()
                .chain(wholes)
                .map(|name| (name.clone(), region.axis)),
        );
    }
    let ranges = channel_ranges(work, program, &axes)?;
    let mut proposed = propose(&regions, &Constants::new(program), &ranges);
    proposed.retain(|scalings| !scalings.is_empty());
    proposed.dedup();
    Ok(proposed)
}

/// Whether the target computes a Min in integers, which bounds for each channel need.
fn is_integer_min(prepared: &Prepared) -> bool {
    let support = prepared.target.support("Min", "");
    matches!(support, Support::Int8(_))
}

/// How near a graph comes to the float network once the level's other passes have run, and the graph.
pub(super) fn judged(
    work: &Work<'_>,
    referee: &Referee,
    prepared: Prepared,
) -> Result<(f64, Prepared), Error> {
    let network = work.network();
    let samples = &work.tuning()[..work.tuning().len().min(MAX_RACE_SAMPLES)];
    let plain = with_plain_ranges(prepared, work.numbered(), work.options)?;
    let level = work.options.optimization_level;
    let mut alive = if DeadChannels.level() <= level {
        DeadChannels.run(work, &plain)?
    } else {
        None
    };
    if let Some(zeroed) = &alive
        && referee.score(network, zeroed)? < referee.score(network, &plain)? + LEAST_GAIN_DB
    {
        alive = None;
    }
    let alive = alive.as_ref().unwrap_or(&plain);
    let corrected = if bias_correction::BiasCorrection.level() <= level {
        bias_correction::correct(network, alive, samples, &|_, _| ())?
    } else {
        None
    };
    let score = referee.score(network, corrected.as_ref().unwrap_or(alive))?;
    Ok((score, plain.prepared))
}
