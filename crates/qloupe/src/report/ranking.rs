//! The worst units of a report, and whether each makes its error or inherits it.

use super::view::figure_of;
use super::words::Mark;
use super::{Effect, Layer, Report, Thresholds, View};

/// Half of an error's energy: a unit whose local error is at most this far below its entire error makes most of it.
const HALF_DB: f64 = 3.010_299_956_639_812;

/// Where a unit's error comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The unit makes the error.
    Culprit,
    /// The unit's inputs bring the error.
    Victim,
}

impl Verdict {
    /// The verdict on a layer; `None` where its error is small, or where `entire` or `local` was not computed.
    ///
    /// A culprit's `local` cosine is below the threshold, or its `entire` cosine is and `local` holds at least half of
    /// the error's energy. A victim's `entire` cosine is below the threshold and it is no culprit.
    pub fn on(layer: &Layer, thresholds: &Thresholds) -> Option<Self> {
        let (entire, local) = (View::Entire.of_layer(layer)?, View::Local.of_layer(layer)?);
        let bad = |metrics| Mark::of(metrics, thresholds) != Mark::Good;
        let half = || {
            let (entire, local) = (figure_of(entire, "sqnr_db")?, figure_of(local, "sqnr_db")?);
            Some(local <= entire + HALF_DB)
        };
        if bad(local) || (bad(entire) && half() == Some(true)) {
            Some(Self::Culprit)
        } else if bad(entire) {
            Some(Self::Victim)
        } else {
            None
        }
    }

    /// The verdict in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Culprit => "loses accuracy itself",
            Self::Victim => "inherits error",
        }
    }
}

/// The `n` layers with the lowest `sqnr_db` in a view, the worst first. Exact layers and layers without numbers are not
/// among them.
pub(crate) fn worst_layers(report: &Report, view: View, n: usize) -> Vec<(&Layer, f64)> {
    let sqnr_db = |layer| view.of_layer(layer).and_then(|m| figure_of(m, "sqnr_db"));
    let mut ranked: Vec<_> = report
        .layers
        .iter()
        .filter_map(|layer| Some((layer, sqnr_db(layer)?)))
        .filter(|(_, db)| *db != f64::INFINITY)
        .collect();
    // NaN is the worst: nothing could be compared.
    let key = |db: f64| if db.is_nan() { f64::NEG_INFINITY } else { db };
    ranked.sort_by(|a, b| key(a.1).total_cmp(&key(b.1)));
    ranked.truncate(n);
    ranked
}

/// The `n` layers that make most of the noise at the network outputs, with what they do there.
pub(crate) fn most_effective(report: &Report, n: usize) -> Vec<(&Layer, Effect)> {
    let mut ranked: Vec<(&Layer, Effect)> = report
        .layers
        .iter()
        .filter_map(|layer| Some((layer, layer.effect?)))
        .collect();
    ranked.sort_by(|a, b| b.1.noise.total_cmp(&a.1.noise));
    ranked.truncate(n);
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Comparison;

    /// A layer whose entire and local errors are these, at a right angle to a reference of length 1.
    fn layer(entire: f32, local: f32) -> Layer {
        let metrics = |error| {
            let mut comparison = Comparison::new();
            comparison.observe(&[1.0, 0.0], &[1.0, error], None).unwrap();
            comparison.finish()
        };
        let mut layer = Layer::default();
        layer.views.entire = metrics(entire);
        layer.views.local = metrics(local);
        layer
    }

    #[test]
    fn the_verdict_weighs_local_against_entire() {
        struct Case {
            entire: f32,
            local: f32,
            expected: Option<Verdict>,
        }
        let cases = [
            Case {
                entire: 0.01,
                local: 0.01,
                expected: None,
            },
            Case {
                entire: 0.5,
                local: 0.01,
                expected: Some(Verdict::Victim),
            },
            Case {
                entire: 0.5,
                local: 0.5,
                expected: Some(Verdict::Culprit),
            },
            Case {
                entire: 0.16,
                local: 0.13,
                expected: Some(Verdict::Culprit),
            },
            Case {
                entire: 0.01,
                local: 0.5,
                expected: Some(Verdict::Culprit),
            },
        ];
        for case in cases {
            let verdict = Verdict::on(&layer(case.entire, case.local), &Thresholds::default());
            assert_eq!(verdict, case.expected, "{} {}", case.entire, case.local);
        }
        assert_eq!(Verdict::on(&Layer::default(), &Thresholds::default()), None);
    }

    #[test]
    fn the_worst_come_first_and_exact_layers_never() {
        let report = Report {
            layers: vec![
                layer(0.1, 0.0),
                layer(0.0, 0.0),
                layer(0.5, 0.2),
                Layer::default(),
            ],
            ..Report::default()
        };
        let entire: Vec<_> = worst_layers(&report, View::Entire, 5)
            .into_iter()
            .map(|w| w.1)
            .collect();
        assert_eq!(entire.len(), 2);
        assert!(entire[0] < entire[1], "{entire:?}");
        assert_eq!(worst_layers(&report, View::Local, 5).len(), 1);
        assert_eq!(worst_layers(&report, View::Entire, 1).len(), 1);
    }
}
