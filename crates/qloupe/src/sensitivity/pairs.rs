//! Sources whose errors do not simply add up: both at once do more, or less, than each by itself.

use qloupe_exec::{ExecError, Value};
use rayon::prelude::*;

use super::lane::{Changed, Lane};
use super::source::{Context, Source, Variant};
use super::{add, noise};
use crate::Error;
use crate::metrics::Moments;
use crate::report::Pair;

/// Sources of which pairs are tried: those that do most alone.
const N_TOP: usize = 6;
/// Pairs are told whose noise together differs from the sum of both by at least this part of it.
const LEAST_EXCESS: f64 = 0.25;

/// A source alone on a sample.
struct Alone {
    changed: Changed,
    outputs: Vec<Moments>,
}

/// Tries all pairs of the sources with the largest shares; the strongest interaction first.
pub(super) fn interacting_pairs(
    context: &Context<'_>,
    sources: &[Source],
    variants: &[Variant],
    shares: &[f64],
    lanes: &mut [Lane<'_>],
) -> Result<Vec<Pair>, Error> {
    let located = |e: ExecError| context.network.located(e);
    let mut top: Vec<usize> = (0..sources.len()).filter(|&idx| shares[idx] > 0.0).collect();
    top.sort_by(|&a, &b| shares[b].total_cmp(&shares[a]));
    top.truncate(N_TOP);
    top.sort_unstable();
    let alone = |lane: &mut Lane<'_>| top.iter().map(|&idx| alone(lane, &variants[idx])).collect();
    let alone: Result<Vec<Vec<Option<Alone>>>, _> = lanes.par_iter_mut().map(alone).collect();
    let alone = alone.map_err(located)?;
    let mut pairs = Vec::new();
    for (i, &first) in top.iter().enumerate() {
        for (j, &second) in top.iter().enumerate().skip(i + 1) {
            let run = |(lane, alone): (&mut Lane<'_>, &Vec<Option<Alone>>)| {
                let (Some(one), Some(two)) = (&alone[i], &alone[j]) else {
                    return Ok(None);
                };
                let both = both(lane, one, &variants[second])?;
                Ok(both.map(|both| [one.outputs.clone(), two.outputs.clone(), both]))
            };
            let measured: Result<Vec<_>, ExecError> = lanes.par_iter_mut().zip(&alone).map(run).collect();
            let measured = measured.map_err(located)?;
            let [one, two, both] = [0, 1, 2].map(|which| {
                let mut comparisons = Vec::new();
                let outputs = measured.iter().flatten();
                add(&mut comparisons, outputs.map(|m| m[which].clone()));
                noise(&comparisons)
            });
            let excess = (both - one - two) / (one + two).max(f64::MIN_POSITIVE);
            if excess.abs() >= LEAST_EXCESS {
                pairs.push(Pair {
                    first: sources[first].name.clone(),
                    second: sources[second].name.clone(),
                    excess,
                });
            }
        }
    }
    pairs.sort_by(|a, b| b.excess.abs().total_cmp(&a.excess.abs()));
    Ok(pairs)
}

fn alone(lane: &mut Lane<'_>, variant: &Variant) -> Result<Option<Alone>, ExecError> {
    let Some(changed) = lane.own(variant, &[])? else {
        return Ok(None);
    };
    let outputs = lane.alone(changed.clone())?;
    Ok(Some(Alone { changed, outputs }))
}

/// The outputs with the error of one source and, on what that makes of its inputs, of a second.
fn both(lane: &mut Lane<'_>, one: &Alone, second: &Variant) -> Result<Option<Vec<Moments>>, ExecError> {
    let reads = read_by(second);
    let read: Vec<&str> = reads.iter().map(String::as_str).collect();
    let given: Vec<(String, Value)> = lane.reached(one.changed.clone(), &read)?;
    let Some(after) = lane.own(second, &given)? else {
        return Ok(None);
    };
    let both = one.changed.iter().cloned().chain(after).collect();
    lane.alone(both).map(Some)
}

fn read_by(variant: &Variant) -> Vec<String> {
    match variant {
        Variant::Input(..) => Vec::new(),
        Variant::Unit { own, .. } => own.units()[0].inputs().to_vec(),
    }
}
