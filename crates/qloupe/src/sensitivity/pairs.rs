//! Sources whose errors do not simply add up: both at once do more, or less, than each by itself.

use qloupe_exec::Value;
use rayon::prelude::*;

use super::lane::Lane;
use super::source::{Context, Source, Variant};
use super::{add, noise};
use crate::Error;
use crate::report::Pair;

/// Sources of which pairs are tried: those that do most alone.
const N_TOP: usize = 6;
/// Pairs are told whose noise together differs from the sum of both by at least this part of it.
const LEAST_EXCESS: f64 = 0.25;

/// Tries all pairs of the sources with the largest shares; the strongest interaction first.
pub(super) fn interacting_pairs(
    context: &Context<'_>,
    sources: &[Source],
    shares: &[f64],
    lanes: &mut [Lane<'_>],
) -> Result<Vec<Pair>, Error> {
    let mut top: Vec<usize> = (0..sources.len()).filter(|&idx| shares[idx] > 0.0).collect();
    top.sort_by(|&a, &b| shares[b].total_cmp(&shares[a]));
    top.truncate(N_TOP);
    top.sort_unstable();
    let compile = |&idx: &usize| sources[idx].compile(context);
    let variants: Vec<Variant> = top.iter().map(compile).collect::<Result<_, _>>()?;
    let mut pairs = Vec::new();
    for (i, first) in variants.iter().enumerate() {
        for (j, second) in variants.iter().enumerate().skip(i + 1) {
            let reads = read_by(second);
            let run = |lane: &mut Lane<'_>| {
                let Some(one) = lane.own(first, &[])? else {
                    return Ok(None);
                };
                let Some(two) = lane.own(second, &[])? else {
                    return Ok(None);
                };
                let read: Vec<&str> = reads.iter().map(String::as_str).collect();
                let given: Vec<(String, Value)> = lane.reached(one.clone(), &read)?;
                let Some(after) = lane.own(second, &given)? else {
                    return Ok(None);
                };
                let both = one.iter().cloned().chain(after).collect();
                Ok(Some([lane.alone(one)?, lane.alone(two)?, lane.alone(both)?]))
            };
            let measured: Result<Vec<_>, qloupe_exec::ExecError> = lanes.par_iter_mut().map(run).collect();
            let measured = measured.map_err(|e| context.network.located(e))?;
            let mut noises = [0.0; 3];
            for (which, sum) in noises.iter_mut().enumerate() {
                let mut comparisons = Vec::new();
                add(
                    &mut comparisons,
                    measured.iter().flatten().map(|m| m[which].clone()),
                );
                *sum = noise(&comparisons);
            }
            let [one, two, both] = noises;
            let excess = (both - one - two) / (one + two).max(f64::MIN_POSITIVE);
            if excess.abs() >= LEAST_EXCESS {
                pairs.push(Pair {
                    first: sources[top[i]].name.clone(),
                    second: sources[top[j]].name.clone(),
                    excess,
                });
            }
        }
    }
    pairs.sort_by(|a, b| b.excess.abs().total_cmp(&a.excess.abs()));
    Ok(pairs)
}

fn read_by(variant: &Variant) -> Vec<String> {
    match variant {
        Variant::Input(..) => Vec::new(),
        Variant::Unit { own, .. } => own.units()[0].inputs().to_vec(),
    }
}
