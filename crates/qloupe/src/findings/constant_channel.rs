//! Channels of a float weight that are all zero: they cost time and give nothing.

use super::{Case, Pattern};
use crate::report::{Finding, Severity};

/// Channels that are named.
const N_NAMED: usize = 6;

pub(super) struct ConstantChannel;

impl Pattern for ConstantChannel {
    fn id(&self) -> &'static str {
        "constant_channel"
    }

    fn title(&self) -> &'static str {
        "output channels whose float weights are all zero"
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (node, output) in case.nodes_of("Conv") {
            let weight = node
                .input(1)
                .and_then(|name| case.prepared.program.constant(name));
            let Some((weight, values)) = weight.and_then(|weight| Some((weight, weight.as_slice::<f32>()?)))
            else {
                continue;
            };
            let n_channels = weight.shape().first().copied().unwrap_or_default();
            let size = values.len() / n_channels.max(1);
            let is_dead = |channel: &usize| {
                values[channel * size..(channel + 1) * size]
                    .iter()
                    .all(|v| *v == 0.0)
            };
            let dead: Vec<usize> = (0..n_channels).filter(is_dead).collect();
            if dead.is_empty() || size == 0 {
                continue;
            }
            let named: Vec<String> = dead.iter().take(N_NAMED).map(ToString::to_string).collect();
            let more = if dead.len() > N_NAMED { ", .." } else { "" };
            found.push(Finding {
                id: self.id().to_owned(),
                severity: Severity::Info,
                layer: Some(
                    case.row(output)
                        .map_or(output, |row| row.name.as_str())
                        .to_owned(),
                ),
                cause: format!(
                    "{} of {n_channels} channels are constant in the float model",
                    dead.len()
                ),
                evidence: format!("the weights of channels {}{more} are all zero", named.join(", ")),
                fix: "nothing is lost by quantization here; the channels can be removed from the network"
                    .to_owned(),
                effect_db: None,
                action: None,
                tried: None,
            });
        }
        found
    }
}
