//! The views of error by name.

use super::{Layer, Metrics, Output, Report, RuntimeViews, Views};
use crate::metrics;

/// One way of measuring error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Everything quantized.
    Entire,
    /// One quantize-dequantize of the golden value.
    Tensor,
    /// One unit quantized, fed golden inputs.
    Local,
    /// Only this unit quantized.
    Alone,
    /// Everything but this unit quantized.
    Rescued,
    /// Golden against device.
    RuntimeEntire,
    /// Simulator against device.
    RuntimeSimulator,
    /// One unit of the device.
    RuntimeLocal,
}

impl View {
    /// Every view, in the order of tables.
    pub const ALL: [Self; 8] = [
        Self::Entire,
        Self::Tensor,
        Self::Local,
        Self::Alone,
        Self::Rescued,
        Self::RuntimeEntire,
        Self::RuntimeSimulator,
        Self::RuntimeLocal,
    ];

    /// The name on the command line and in tables.
    pub fn id(self) -> &'static str {
        match self {
            Self::Entire => "entire",
            Self::Tensor => "tensor",
            Self::Local => "local",
            Self::Alone => "alone",
            Self::Rescued => "rescued",
            Self::RuntimeEntire => "runtime.entire",
            Self::RuntimeSimulator => "runtime.simulator",
            Self::RuntimeLocal => "runtime.local",
        }
    }

    /// What runs and where the error is read, in a few words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Entire => "everything quantized",
            Self::Tensor => "the golden value quantized once",
            Self::Local => "this unit quantized, fed golden inputs",
            Self::Alone => "only this unit quantized, at the worst network output",
            Self::Rescued => "everything but this unit quantized, at the worst network output",
            Self::RuntimeEntire => "golden against device",
            Self::RuntimeSimulator => "simulator against device",
            Self::RuntimeLocal => "this unit on the device",
        }
    }

    /// The view with this name.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|view| view.id() == id)
    }

    /// The view's metrics of a layer; `None` if they were not computed. Of `alone` and `rescued`, which have one result
    /// for each network output, the worst by `sqnr_db`.
    pub fn of_layer(self, layer: &Layer) -> Option<&Metrics> {
        self.of(&layer.views, layer.runtime.as_ref())
    }

    /// The view's metrics of a network output; `None` if they were not computed.
    pub fn of_output(self, output: &Output) -> Option<&Metrics> {
        self.of(&output.views, output.runtime.as_ref())
    }

    /// The views that some layer of the report has.
    pub fn of_report(report: &Report) -> Vec<Self> {
        let present = |view: &Self| report.layers.iter().any(|layer| view.of_layer(layer).is_some());
        Self::ALL.into_iter().filter(present).collect()
    }

    pub(crate) fn of<'a>(self, views: &'a Views, runtime: Option<&'a RuntimeViews>) -> Option<&'a Metrics> {
        let metrics = match self {
            Self::Entire => Some(&views.entire),
            Self::Tensor => Some(&views.tensor),
            Self::Local => Some(&views.local),
            Self::Alone => worst(views.alone.values()),
            Self::Rescued => worst(views.rescued.values()),
            Self::RuntimeEntire => runtime.map(|r| &r.entire),
            Self::RuntimeSimulator => runtime.map(|r| &r.simulator),
            Self::RuntimeLocal => runtime.map(|r| &r.local),
        };
        metrics.filter(|m| !m.is_empty())
    }
}

/// The figure of a metric; `None` if the metric does not apply to the value.
pub(crate) fn figure_of(metrics: &Metrics, metric: &str) -> Option<f64> {
    metrics.get(metric).map(|m| m.value)
}

fn worst<'a>(results: impl Iterator<Item = &'a Metrics>) -> Option<&'a Metrics> {
    let sqnr_db = metrics::metric("sqnr_db")?;
    results.reduce(|worst, next| {
        let figure = |m| figure_of(m, sqnr_db.id()).unwrap_or(f64::INFINITY);
        if sqnr_db.direction().is_worse(figure(next), figure(worst)) {
            next
        } else {
            worst
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_views() {
        for view in View::ALL {
            assert_eq!(View::from_id(view.id()), Some(view));
        }
        assert_eq!(View::from_id("single"), None);
    }

    #[test]
    fn alone_is_the_worst_network_output() {
        let mut layer = Layer::default();
        assert_eq!(View::Alone.of_layer(&layer), None);
        for (output, test) in [("a", 1.5), ("b", 2.0), ("c", 1.1)] {
            let mut comparison = metrics::Comparison::new();
            comparison.observe(&[1.0], &[test], None).unwrap();
            layer.views.alone.insert(output.to_owned(), comparison.finish());
        }
        assert_eq!(View::Alone.of_layer(&layer), Some(&layer.views.alone["b"]));
    }
}
