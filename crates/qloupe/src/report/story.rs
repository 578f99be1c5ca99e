//! One unit's story in plain words: what its numbers say, in the order in which a person would ask.

use super::confidence::flip_words;
use super::figure;
use super::view::figure_of;
use super::{Cause, Layer, Report, Thresholds, Verdict, View};
use crate::Error;
use qloupe_ir::suggestion;

/// A gain below this is none.
const LEAST_GAIN_DB: f64 = 0.05;
/// Causes that are told one by one.
const N_CAUSES: usize = 4;

impl Report {
    /// The story of a layer, a paragraph an element.
    ///
    /// # Errors
    /// A name that no layer, node or output has; the nearest is suggested.
    pub fn story(&self, name: &str) -> Result<Vec<String>, Error> {
        let named = |layer: &&Layer| layer.name == name || layer.node == name;
        let Some(layer) = self.layers.iter().find(named) else {
            let names = self
                .layers
                .iter()
                .flat_map(|layer| [layer.name.as_str(), layer.node.as_str()]);
            let help = suggestion(name, names.filter(|name| !name.is_empty()));
            return Err(Error::Options(format!(
                "{} has no layer \"{name}\"{help}",
                self.model.file
            )));
        };
        if let Some(into) = &layer.fused_into {
            let mut story = vec![format!(
                "\"{}\" does not exist on {}: it is fused into \"{into}\", whose story this is.",
                layer.name, self.target
            )];
            story.extend(self.story(into)?);
            return Ok(story);
        }
        let paragraphs = [
            Some(self.what_it_is(layer)),
            layer
                .reason
                .as_ref()
                .map(|reason| format!("There are no numbers: {reason}.")),
            whose_error(layer),
            why(layer),
            self.what_it_costs(layer),
            self.with_whom(layer),
            self.what_to_do(layer),
        ];
        Ok(paragraphs.into_iter().flatten().collect())
    }

    fn what_it_is(&self, layer: &Layer) -> String {
        let place = self
            .layers
            .iter()
            .position(|other| other.name == layer.name)
            .unwrap_or_default()
            + 1;
        let made_by = match (layer.op_type.as_str(), layer.unit.len()) {
            ("Input", _) => "is an input of the network".to_owned(),
            (op_type, 0 | 1) => format!("is written by \"{}\" ({op_type})", layer.node),
            (op_type, n) => format!(
                "is written by \"{}\" ({op_type}), which {} runs as one with {} more nodes",
                layer.node,
                self.target,
                n - 1
            ),
        };
        let stored = match (layer.scale.as_slice(), layer.zero_point.as_slice(), layer.range) {
            ([scale], [zero_point], Some(range)) => format!(
                "It is stored as {} with scale {scale:.6} and zero point {zero_point}, for a calibrated range of {:.4} to {:.4}",
                layer.dtype, range.min, range.max
            ),
            (scales, _, _) if scales.len() > 1 => {
                format!("It is stored as {} with {} scales", layer.dtype, scales.len())
            }
            _ => format!("It is stored as {}", layer.dtype),
        };
        let seen = layer.seen.map_or_else(String::new, |seen| {
            format!("; the samples span {:.4} to {:.4}", seen.min, seen.max)
        });
        format!(
            "\"{}\", row {place} of {}, {made_by}; its shape is {}. {stored}{seen}.",
            layer.name,
            self.layers.len(),
            figure::shape(&layer.shape)
        )
    }

    fn what_it_costs(&self, layer: &Layer) -> Option<String> {
        let effect = layer.effect?;
        let rank = 1 + self
            .layers
            .iter()
            .filter_map(|other| other.effect)
            .filter(|other| other.noise > effect.noise)
            .count();
        let n = self.layers.iter().filter(|other| other.effect.is_some()).count();
        let gain = if effect.gain_db >= LEAST_GAIN_DB {
            format!(
                "With everything else quantized and this unit float the outputs would be {:.2} dB better.",
                effect.gain_db
            )
        } else if effect.gain_db <= -LEAST_GAIN_DB {
            format!(
                "With everything else quantized and this unit float the outputs would be {:.2} dB worse: its error makes up for others.",
                -effect.gain_db
            )
        } else {
            "Making it float while everything else stays quantized changes nothing at the outputs.".to_owned()
        };
        let own = View::Alone
            .of_layer(layer)
            .and_then(|metrics| figure_of(metrics, "sqnr_db"));
        let own = own.map_or_else(String::new, |db| {
            format!(" (the worst output then has {db:.1} dB)")
        });
        Some(format!(
            "Alone it makes {:.1}% of the noise at the network outputs{own}: number {rank} of {n} units{}. {gain}",
            100.0 * effect.share,
            flips_alone(layer)
        ))
    }

    fn with_whom(&self, layer: &Layer) -> Option<String> {
        let pairs = &self.additivity.as_ref()?.pairs;
        let told = pairs
            .iter()
            .filter(|pair| pair.first == layer.name || pair.second == layer.name)
            .map(|pair| {
                let other = if pair.first == layer.name {
                    &pair.second
                } else {
                    &pair.first
                };
                let verb = if pair.excess > 0.0 { "more" } else { "less" };
                format!(
                    "\"{other}\" ({:.0}% {verb} noise together than the sum)",
                    100.0 * pair.excess.abs()
                )
            });
        let told: Vec<String> = told.collect();
        (!told.is_empty()).then(|| format!("It interacts with {}.", told.join(", ")))
    }

    fn what_to_do(&self, layer: &Layer) -> Option<String> {
        let findings = self
            .findings
            .iter()
            .filter(|finding| finding.layer.as_deref() == Some(layer.name.as_str()));
        let told: Vec<String> = findings
            .map(|finding| {
                format!(
                    "{} ({}): {}. To do: {}.",
                    finding.severity.name(),
                    finding.id,
                    finding.cause,
                    finding.fix
                )
            })
            .collect();
        if !told.is_empty() {
            return Some(told.join("\n"));
        }
        let effect = layer.effect?;
        Some(if effect.gain_db >= 1.0 {
            format!(
                "To win this back, set precision = \"fp16\" for \"{}\" in the plan; `qloupe hybrid propose` finds the least set that reaches a goal.",
                layer.name
            )
        } else {
            "There is nothing to do here: raising this unit would win little.".to_owned()
        })
    }
}

/// The answers that the unit changes by itself.
fn flips_alone(layer: &Layer) -> String {
    let told = layer
        .flips
        .iter()
        .map(|(part, flips)| format!("; at {part} {}", flip_words(flips)));
    told.collect()
}

fn sqnr_db(layer: &Layer, view: View) -> Option<f64> {
    figure_of(view.of_layer(layer)?, "sqnr_db")
}

/// Whether the error is its own.
fn whose_error(layer: &Layer) -> Option<String> {
    let (entire, local) = (sqnr_db(layer, View::Entire)?, sqnr_db(layer, View::Local)?);
    let verdict = match Verdict::on(layer, &Thresholds::default()) {
        Some(Verdict::Culprit) => "The unit makes this error itself.",
        Some(Verdict::Victim) => "The error comes with its inputs: look further up.",
        None => "Neither is suspicious.",
    };
    let inherited = layer.causes.iter().find(|cause| cause.source == "inherited");
    let inherited = inherited.map_or_else(String::new, |cause| {
        format!(" {:.0}% of the entire error is inherited.", 100.0 * cause.share)
    });
    Some(format!(
        "With the whole network quantized it has {} dB (signal over error), by itself on golden inputs {} dB. {verdict}{inherited}",
        figure::decibels(entire),
        figure::decibels(local)
    ))
}

/// What the local error is made of.
fn why(layer: &Layer) -> Option<String> {
    let own: Vec<&Cause> = layer
        .causes
        .iter()
        .filter(|cause| cause.source != "inherited" && cause.source != "residual")
        .collect();
    if own.is_empty() {
        return None;
    }
    let told: Vec<String> = own
        .iter()
        .take(N_CAUSES)
        .map(|cause| {
            let detail = if cause.detail.is_empty() {
                String::new()
            } else {
                format!(" ({})", cause.detail)
            };
            format!(
                "{:.0}% {}{detail}",
                100.0 * cause.share,
                cause.source.replace('_', " ")
            )
        })
        .collect();
    Some(format!("Its own error is made of {}.", told.join("; ")))
}

#[cfg(test)]
mod tests {
    use crate::report::sample::sample;

    #[test]
    fn a_story_is_told_of_every_layer_and_of_nothing_else() {
        let report = sample();
        for layer in &report.layers {
            let story = report.story(&layer.name).unwrap();
            assert!(story[0].contains(&layer.name), "{story:?}");
        }
        let wrong = report.story("/model.22/Concat_5_output").unwrap_err().to_string();
        assert!(
            wrong.contains("has no layer \"/model.22/Concat_5_output\""),
            "{wrong}"
        );
    }
}
