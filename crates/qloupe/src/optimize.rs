//! What wins accuracy back: the race of calibration algorithms, and passes that change weights. Each is judged on samples
//! that it did not see, and undone where it hurts.

mod absorb_biases;
mod answers;
mod bias_correction;
mod channel_ranges;
mod clip_saturated;
mod dead_channels;
mod equalize_layers;
mod equalize_members;
mod float_answers;
mod lanes;
mod migrate_scales;
mod patches;
mod proposal_costs;
mod race;
mod scale_search;
mod scale_values;
mod score;
mod structure;
mod weight_rounding;

use qloupe_tensor::{QuantScheme, Tensor};

use crate::Error;
use crate::calibrate::{self, Statistics};
use crate::plan::{Optimized, QuantPlan};
use crate::prepare::{Network, Prepared};
use crate::quantize::{QuantizeOptions, Quantized, Stages};
use crate::samples::Dataset;
use crate::session::Session;

use answers::answers;
use proposal_costs::Judged;
pub(crate) use scale_search::least_error_scales;
use score::{LEAST_GAIN_DB, Referee};

/// Samples that passes learn from, at most.
const MAX_TUNING_SAMPLES: usize = 32;
/// Samples that the biases of the plans that compete are corrected on, at most.
const MAX_RACE_SAMPLES: usize = 8;
/// Samples that judge passes, at most: every fourth of the dataset, and those that passes do not learn from.
const MAX_HELD_BACK_SAMPLES: usize = 32;
/// Golden outputs of the samples that judge algorithms stay within this, where they are more than those held back.
const MAX_JUDGING_BYTES: usize = 256 << 20;
const HELD_BACK_EVERY: usize = 4;

/// A step that changes weights or ranges to win accuracy back.
pub trait Pass: Sync {
    /// The id.
    fn id(&self) -> &'static str;
    /// One line for lists.
    fn title(&self) -> &'static str;
    /// The optimization level from which it runs.
    fn level(&self) -> u8;
    /// When it runs.
    fn stage(&self) -> Stage;
    /// The network after the pass; `None` where it finds nothing to do.
    ///
    /// # Errors
    /// A run that fails.
    fn run(&self, work: &Work<'_>, quantized: &Quantized) -> Result<Option<Quantized>, Error>;
}

/// When a pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before algorithms compete.
    Weights,
    /// On the ranges that won.
    Ranges,
    /// Last, to correct what the plan does to the network: each pass begins at the network that has been corrected by none,
    /// does what those before it do and more, and takes their place unless it is worse by more than chance.
    Correction,
}

/// Every pass, in the order in which they run.
pub const PASSES: &[&dyn Pass] = &[
    &float_answers::FloatAnswers,
    &dead_channels::DeadChannels,
    &clip_saturated::ClipSaturated,
    &bias_correction::BiasCorrection,
    &weight_rounding::WeightRounding,
];

/// The samples that passes work with.
pub struct Work<'a> {
    session: &'a Session,
    options: &'a QuantizeOptions,
    stages: Stages<'a>,
    tuning: Vec<Vec<(String, Tensor)>>,
    /// Their numbers in the dataset.
    tuning_idxs: Vec<usize>,
    /// Judges on the samples that are held back.
    referee: Option<Referee>,
    /// Judges whole algorithms, on those that passes learn from as well: every range is of all samples anyway, and where one
    /// sample has the score that matters, a few are not enough.
    race_referee: Option<Referee>,
}

impl std::fmt::Debug for Work<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work")
            .field("n_tuning", &self.tuning.len())
            .field("n_held_back", &self.referee.as_ref().map(Referee::n_samples))
            .finish_non_exhaustive()
    }
}

impl<'a> Work<'a> {
    /// Reads a bounded number of samples. Every fourth, and what is not learned from, is held back; of fewer than four, all do
    /// both. None are read where nothing is to be judged.
    ///
    /// # Errors
    /// A sample that cannot be read, a run that fails.
    pub fn new(
        session: &'a Session,
        dataset: &Dataset,
        options: &'a QuantizeOptions,
        stages: Stages<'a>,
    ) -> Result<Self, Error> {
        let n = if options.optimization_level == 0 && !races(options) {
            0
        } else {
            dataset.n_batches()
        };
        let is_held_back = |idx: &usize| idx % HELD_BACK_EVERY == HELD_BACK_EVERY - 1;
        let (mut held_back, others): (Vec<usize>, Vec<usize>) = (0..n).partition(is_held_back);
        let mut tuning = others.clone();
        spread(&mut tuning, MAX_TUNING_SAMPLES);
        held_back.extend(others.iter().filter(|idx| !tuning.contains(idx)));
        held_back.sort_unstable();
        if held_back.is_empty() {
            held_back.clone_from(&tuning);
        }
        let read = |idxs: Vec<usize>| {
            idxs.into_iter()
                .map(|idx| Ok(dataset.batch(idx)?.inputs))
                .collect()
        };
        spread(&mut held_back, MAX_HELD_BACK_SAMPLES);
        let tuning_idxs = tuning.clone();
        let tuning: Result<_, Error> = read(tuning);
        let held_back: Result<_, Error> = read(held_back);
        let held_back: Vec<Vec<(String, Tensor)>> = held_back?;
        let tuning: Vec<Vec<(String, Tensor)>> = tuning?;
        let referee = match n {
            0 => None,
            _ => Some(Referee::new(&session.network, held_back)?),
        };
        let race_referee = match &referee {
            Some(referee) if races(options) && n >= HELD_BACK_EVERY => {
                let n_most = MAX_JUDGING_BYTES / referee.bytes_of_sample().max(1);
                let n_more = n_most.saturating_sub(referee.n_samples());
                Some(referee.with_samples(&session.network, tuning.iter().take(n_more).cloned())?)
            }
            _ => None,
        };
        Ok(Self {
            session,
            options,
            stages,
            tuning,
            tuning_idxs,
            referee,
            race_referee,
        })
    }

    pub(crate) fn network(&self) -> &'a Network {
        &self.session.network
    }

    pub(crate) fn options(&self) -> &'a QuantizeOptions {
        self.options
    }

    /// The same samples for other choices.
    pub(crate) fn set_options(&mut self, options: &'a QuantizeOptions) {
        self.options = options;
    }

    pub(crate) fn tuning(&self) -> &[Vec<(String, Tensor)>] {
        &self.tuning
    }

    /// The tuning samples with their numbers in the dataset.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, &[(String, Tensor)])> {
        self.tuning_idxs
            .iter()
            .copied()
            .zip(self.tuning.iter().map(Vec::as_slice))
    }

    pub(crate) fn progress(&self, stage: &str, done: usize, all: usize) {
        (self.stages)(stage, done, all);
    }
}

/// Keeps at most `n` items, evenly spread.
fn spread(items: &mut Vec<usize>, n: usize) {
    let len = items.len();
    if len > n {
        *items = (0..n).map(|i| items[i * len / n]).collect();
    }
}

/// Rewrites the graph where that helps, before anything is calibrated.
///
/// # Errors
/// A run that fails.
pub(crate) fn restructure(work: &Work<'_>, prepared: Prepared) -> Result<(Prepared, Optimized), Error> {
    let mut optimized = Optimized::default();
    match &work.referee {
        Some(referee) if work.options.optimization_level >= structure::LEVEL => {
            let prepared = structure::restructure(work, referee, prepared, &mut optimized)?;
            Ok((prepared, optimized))
        }
        _ => Ok((prepared, optimized)),
    }
}

/// Runs the race and the passes of the optimization level.
///
/// # Errors
/// A run that fails.
pub(crate) fn optimize(
    work: &Work<'_>,
    quantized: Quantized,
    statistics: &Statistics,
) -> Result<Quantized, Error> {
    let options = work.options;
    let (Some(scheme), Some(referee)) = (options.target.activation, &work.referee) else {
        return Ok(quantized);
    };
    let mut base = quantized;
    for pass in passes_of(options, Stage::Weights) {
        base = tried(work, referee, *pass, base)?;
    }
    if races(options) {
        base = raced(work, referee, base, statistics, &scheme)?;
    }
    for pass in passes_of(options, Stage::Ranges) {
        base = tried(work, referee, *pass, base)?;
    }
    corrected(work, referee, base)
}

/// Runs the passes that correct what integer weights do to a network whose values are float16.
///
/// # Errors
/// A run that fails.
pub(crate) fn correct_weights(work: &Work<'_>, quantized: Quantized) -> Result<Quantized, Error> {
    match &work.referee {
        Some(referee) => corrected(work, referee, quantized),
        None => Ok(quantized),
    }
}

/// The better of two networks on samples held back, and what is said of them; the first where there are no samples.
///
/// # Errors
/// A run that fails.
pub(crate) fn better_of(
    work: &Work<'_>,
    [first, second]: [(&str, Quantized); 2],
) -> Result<Quantized, Error> {
    let Some(referee) = &work.referee else {
        return Ok(first.1);
    };
    let mut scores = [0.0; 2];
    for (score, (_, quantized)) in scores.iter_mut().zip([&first, &second]) {
        *score = referee.score(work.network(), quantized)?;
    }
    let race = format!(
        "{} {:.2} dB, {} {:.2} dB, on {} samples held back",
        first.0,
        scores[0],
        second.0,
        scores[1],
        referee.n_samples()
    );
    let is_second = scores[1] > scores[0] + LEAST_GAIN_DB;
    let mut best = if is_second { second.1 } else { first.1 };
    best.plan.optimized.race = race;
    Ok(best)
}

/// The network after the last of the passes of the last stage that held-back samples do not speak against. Each lowers the error
/// of every product on the samples it learned from, so where these and the samples held back differ by no more than chance, it
/// stays.
fn corrected(work: &Work<'_>, referee: &Referee, base: Quantized) -> Result<Quantized, Error> {
    let options = work.options;
    let mut score = referee.judge(work.network(), &base)?;
    let mut best: Option<Quantized> = None;
    let mut records = Vec::new();
    for pass in passes_of(options, Stage::Correction) {
        let Some(trial) = pass.run(work, &base)? else {
            continue;
        };
        let after = referee.judge(work.network(), &trial)?;
        let record = referee.record_of_correction(pass.id(), &score, &after);
        if record.kept {
            best = Some(trial);
            score = after;
        }
        records.push(record);
    }
    let mut best = best.unwrap_or(base);
    best.plan.optimized.passes.extend(records);
    Ok(best)
}

/// True where algorithms compete: ranges of another tool are used as they are.
pub(crate) fn races(options: &QuantizeOptions) -> bool {
    options.algorithm.races() && options.ranges.is_none()
}

/// The passes of a stage that the options allow: ranges of another tool are used as they are.
fn passes_of(options: &QuantizeOptions, stage: Stage) -> impl Iterator<Item = &'static &'static dyn Pass> {
    let (level, keeps_ranges) = (options.optimization_level, options.ranges.is_some());
    PASSES
        .iter()
        .filter(move |pass| pass.level() <= level && pass.stage() == stage)
        .filter(move |pass| !(keeps_ranges && pass.stage() == Stage::Ranges))
}

/// The network after a pass, or as it was where that is better; what was done is noted.
fn tried(work: &Work<'_>, referee: &Referee, pass: &dyn Pass, base: Quantized) -> Result<Quantized, Error> {
    let Some(trial) = pass.run(work, &base)? else {
        return Ok(base);
    };
    let (before, after) = (
        referee.score(work.network(), &base)?,
        referee.score(work.network(), &trial)?,
    );
    let record = referee.record(pass.id(), before, after);
    let mut next = if record.kept { trial } else { base };
    next.plan.optimized.passes.push(record);
    Ok(next)
}

/// A plan with its figures: of all samples that judge algorithms, and of those held back.
struct Contender {
    among_all: f64,
    held_back: f64,
    plan: QuantPlan,
}

/// The best of the raced ranges and those of each single algorithm, judged with and without corrected biases where the level
/// corrects them: ranges that look alike before may not be so after. What was raced value by value has to win on samples held back.
fn raced(
    work: &Work<'_>,
    referee: &Referee,
    quantized: Quantized,
    statistics: &Statistics,
    scheme: &QuantScheme,
) -> Result<Quantized, Error> {
    let samples = &work.tuning[..work.tuning.len().min(MAX_RACE_SAMPLES)];
    let Quantized {
        mut prepared,
        plan,
        notes,
    } = quantized;
    let network = work.network();
    let corrects = bias_correction::BiasCorrection.level() <= work.options.optimization_level;
    let answers = answers(&prepared);
    let mut figures = Vec::new();
    let mut judge = |name: &str, plan: QuantPlan, prepared: Prepared| {
        let contender = Quantized::new(prepared, plan);
        let corrected = if corrects {
            bias_correction::correct(network, &contender, samples, &|_, _| ())?
        } else {
            None
        };
        let all = work.race_referee.as_ref().unwrap_or(referee);
        let mut among_all = all.score(network, &contender)?;
        let mut judged = &contender;
        if let Some(corrected) = &corrected {
            let score = all.score(network, corrected)?;
            if score > among_all {
                (among_all, judged) = (score, corrected);
            }
        }
        let held_back = referee.score(network, judged)?;
        figures.push(format!("{name} {among_all:.2} dB"));
        work.progress("race", figures.len(), calibrate::ALL.len());
        let judged = Contender {
            among_all,
            held_back,
            plan: contender.plan,
        };
        Ok::<(Prepared, Contender), Error>((contender.prepared, judged))
    };
    let mut best: Option<Contender> = None;
    for algorithm in race::contenders() {
        let plan = race::with_algorithm(&prepared, &plan, statistics, algorithm, scheme, &answers)?;
        let judged;
        (prepared, judged) = judge(algorithm.id(), plan, prepared)?;
        if best
            .as_ref()
            .is_none_or(|best| judged.among_all > best.among_all + LEAST_GAIN_DB)
        {
            best = Some(judged);
        }
    }
    let leader = best.as_ref().map_or(&plan, |best| &best.plan);
    let judged = Judged {
        network,
        prepared: &prepared,
        referee,
        samples: &work.tuning,
    };
    let told = |done, all| work.progress("race of values", done, all);
    let races = race::race(&judged, leader, statistics, scheme, &answers, &told)?;
    let mixed_plan = race::mixed(&prepared, leader, &races)?;
    let mixed;
    (prepared, mixed) = judge("mixed", mixed_plan, prepared)?;
    let wins = |leader: &Contender| {
        mixed.held_back > leader.held_back + LEAST_GAIN_DB
            && mixed.among_all > leader.among_all + LEAST_GAIN_DB
    };
    if best.as_ref().is_none_or(wins) {
        best = Some(mixed);
    }
    let mut plan = best.map_or(plan, |best| best.plan);
    let all = work.race_referee.as_ref().unwrap_or(referee);
    let after = if corrects {
        " with biases corrected where that helps,"
    } else {
        ""
    };
    plan.optimized.race = format!("{},{after} on {} samples", figures.join(", "), all.n_samples());
    Ok(Quantized {
        prepared,
        plan,
        notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_names_every_algorithm_and_pass() {
        let text = include_str!("../../../docs/QUANTIZER.md");
        let algorithms = calibrate::ALL.iter().map(|algorithm| algorithm.id());
        for id in algorithms.chain(PASSES.iter().map(|pass| pass.id())) {
            assert!(
                text.contains(&format!("`{id}`")),
                "{id} is not in docs/QUANTIZER.md"
            );
        }
    }
}
