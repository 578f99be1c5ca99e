//! Error over depth: a point for each layer and view, as inline SVG that needs no script.

use super::super::words::Mark;
use super::super::{Layer, View, figure, view::figure_of};
use super::{Page, markup};

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 300.0;
/// Room for the figures of the axis.
const LEFT: f64 = 44.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 26.0;

/// Decibels between two lines of the grid.
const STEP_DB: f64 = 10.0;
/// What lies beyond is drawn at the edge: an error of a three-thousandth is none, and would press the others together.
const LIMITS_DB: (f64, f64) = (-20.0, 70.0);
/// Layers up to which points are drawn large.
const N_LARGE_POINTS: usize = 120;

/// Vertical place of decibels.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// The scale of all finite figures, to whole steps.
    fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let finite = figures.filter(|db| db.is_finite());
        let bounds = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), db| {
            (low.min(db), high.max(db))
        });
        if bounds.0 > bounds.1 {
            return None;
        }
        let (low, high) = (bounds.0.max(LIMITS_DB.0), bounds.1.min(LIMITS_DB.1));
        let low = (low / STEP_DB).floor() * STEP_DB;
        Some(Self {
            low,
            high: ((high / STEP_DB).ceil() * STEP_DB).max(low + STEP_DB),
        })
    }

    /// More decibels are higher; exact values lie on the upper edge, NaN on the lower.
    fn y(&self, db: f64) -> f64 {
        let db = if db.is_nan() {
            self.low
        } else {
            db.clamp(self.low, self.high)
        };
        let part = (db - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - TOP)
    }
}

/// One layer of a plot.
struct Point<'a> {
    idx: usize,
    layer: &'a Layer,
    /// Decibels for each view of the plot.
    figures: Vec<Option<f64>>,
}

impl Page<'_> {
    /// The plots: errors at the layers, and what layers do to the network outputs.
    pub(super) fn depth(&self) -> String {
        let at_layers = [
            View::Entire,
            View::Local,
            View::Tensor,
            View::RuntimeEntire,
            View::RuntimeSimulator,
            View::RuntimeLocal,
        ];
        let mut text = self.plot(
            &at_layers,
            "Signal over error at each layer, in the order of execution. Higher is better. Where the line of \
             <em>entire</em> falls, accuracy is lost; if <em>local</em> is low at the same place, this layer does it. A ring marks \
             a cosine below the thresholds.",
        );
        text.push_str(&self.plot(
            &[View::Alone, View::Rescued],
            "Signal over error at the worst network output. <em>alone</em>: only this layer is quantized, low means that it \
             costs much. <em>rescued</em>: everything but this layer is quantized, high means that it is worth a higher precision.",
        ));
        text + &self.additivity()
    }

    /// Whether errors of units add up, and which units interact.
    fn additivity(&self) -> String {
        let Some(additivity) = &self.report.additivity else {
            return String::new();
        };
        let pairs: String = additivity
            .pairs
            .iter()
            .map(|pair| {
                format!(
                    "<li>{} and {}: {:+.0} % noise together</li>\n",
                    self.link(&pair.first),
                    self.link(&pair.second),
                    100.0 * pair.excess
                )
            })
            .collect();
        let pairs = if pairs.is_empty() {
            pairs
        } else {
            format!("<p>Units that do more or less together than each by itself:</p>\n<ul>\n{pairs}</ul>\n")
        };
        let correlation = additivity.rank_correlation.map_or_else(String::new, |rank| {
            format!(" Estimated and measured noise rank alike by {rank:.3} (Spearman).")
        });
        format!(
            "<p>The sum of what all units do alone is {:.0} % of what they do together, on {}.{correlation}</p>\n{pairs}",
            100.0 * additivity.explained,
            figure::count(additivity.n_samples, "sample")
        )
    }

    fn plot(&self, wanted: &[View], caption: &str) -> String {
        let views: Vec<View> = wanted
            .iter()
            .copied()
            .filter(|view| self.views.contains(view))
            .collect();
        let points: Vec<Point<'_>> = self
            .report
            .layers
            .iter()
            .enumerate()
            .filter_map(|(idx, layer)| {
                let sqnr_db = |view: &View| figure_of(view.of_layer(layer)?, "sqnr_db");
                let figures: Vec<_> = views.iter().map(sqnr_db).collect();
                figures
                    .iter()
                    .any(Option::is_some)
                    .then_some(Point { idx, layer, figures })
            })
            .collect();
        let all = points
            .iter()
            .flat_map(|point| point.figures.iter().copied().flatten());
        let Some(scale) = Scale::of(all) else {
            return String::new();
        };
        let x = |at: usize| {
            // One point stands in the middle.
            let (at, n) = if points.len() > 1 {
                (at, points.len() - 1)
            } else {
                (1, 2)
            };
            LEFT + (WIDTH - LEFT - RIGHT) * at as f64 / n as f64
        };
        let lines: String = views
            .iter()
            .enumerate()
            .map(|(column, view)| {
                let at = |(at, point): (usize, &Point<'_>)| {
                    let db = point.figures[column]?;
                    Some(format!("{:.1},{:.1}", x(at), scale.y(db)))
                };
                let points: Vec<String> = points.iter().enumerate().filter_map(at).collect();
                format!(
                    "<polyline class=\"{}\" points=\"{}\"/>\n",
                    view_class(*view),
                    points.join(" ")
                )
            })
            .collect();
        let radius = if points.len() <= N_LARGE_POINTS { 3.2 } else { 1.6 };
        let columns: String = points
            .iter()
            .enumerate()
            .map(|(at, point)| {
                self.column(
                    point,
                    &views,
                    x(at),
                    (WIDTH - LEFT - RIGHT) / points.len() as f64,
                    radius,
                    &scale,
                )
            })
            .collect();
        let legend: String = views
            .iter()
            .map(|view| {
                format!(
                    "<li class=\"{}\"><strong>{}</strong> <span class=\"muted\">{}</span></li>\n",
                    view_class(*view),
                    view.id(),
                    markup(view.words())
                )
            })
            .collect();
        format!(
            "<figure>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"sqnr in dB over layers\">\n{grid}{lines}{columns}</svg>\n\
             <ul class=\"legend\">\n{legend}</ul>\n<figcaption>{caption}</figcaption>\n</figure>\n",
            grid = grid(&scale, points.len()),
        )
    }

    /// The points of a layer, in a link to its panel that is as high as the plot.
    fn column(
        &self,
        point: &Point<'_>,
        views: &[View],
        x: f64,
        width: f64,
        radius: f64,
        scale: &Scale,
    ) -> String {
        let mut marks = String::new();
        let mut words = vec![format!("{} ({})", point.layer.name, point.layer.op_type)];
        for (view, db) in views.iter().zip(&point.figures) {
            let Some(db) = *db else { continue };
            words.push(format!("{} {} dB", view.id(), figure::decibels(db)));
            let y = scale.y(db);
            let mark = view
                .of_layer(point.layer)
                .map_or(Mark::Good, |metrics| Mark::of(metrics, &self.options.thresholds));
            let is_judged = !matches!(view, View::Alone | View::Rescued);
            if is_judged && mark != Mark::Good {
                let ring = super::cells::class_of(mark);
                marks.push_str(&format!(
                    "<circle class=\"ring {ring}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{:.1}\"/>",
                    radius + 3.0
                ));
            }
            marks.push_str(&format!(
                "<circle class=\"{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>",
                view_class(*view)
            ));
        }
        format!(
            "<a href=\"#layer{idx}\"><title>{title}</title><rect class=\"column\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{width:.1}\" \
             height=\"{height}\"/>{marks}</a>\n",
            idx = point.idx,
            title = markup(&words.join("; ")),
            left = x - width / 2.0,
            height = HEIGHT - TOP - BOTTOM,
        )
    }
}

/// The class of a view in the style sheet.
pub(super) fn view_class(view: View) -> String {
    format!("view-{}", view.id().replace('.', "-"))
}

/// Lines and figures of both axes.
fn grid(scale: &Scale, n_points: usize) -> String {
    let mut text = String::new();
    let n_lines = ((scale.high - scale.low) / STEP_DB) as usize;
    for line in 0..=n_lines {
        let db = scale.low + STEP_DB * line as f64;
        let y = scale.y(db);
        text.push_str(&format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{}\" y=\"{:.1}\" class=\"right\">{db} dB</text>\n",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 3.5,
        ));
    }
    text.push_str(&format!(
        "<text x=\"{LEFT}\" y=\"{bottom}\">first layer</text><text x=\"{}\" y=\"{bottom}\" class=\"right\">last of {n_points}</text>\n",
        WIDTH - RIGHT,
        bottom = HEIGHT - 8.0,
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_holds_every_figure() {
        assert!(
            Scale::of([f64::INFINITY, f64::NAN].into_iter()).is_none(),
            "nothing to draw"
        );
        let scale = Scale::of([12.0, 47.0, f64::INFINITY].into_iter()).unwrap();
        assert_eq!((scale.low as i32, scale.high as i32), (10, 50));
        let bottom = HEIGHT - BOTTOM;
        let cases = [
            (10.0, bottom),
            (f64::NAN, bottom),
            (f64::NEG_INFINITY, bottom),
            (f64::INFINITY, TOP),
            (50.0, TOP),
        ];
        for (db, y) in cases {
            assert!((scale.y(db) - y).abs() < 1e-9, "{db}: {}", scale.y(db));
        }
        let flat = Scale::of([40.0].into_iter()).unwrap();
        assert_eq!((flat.low as i32, flat.high as i32), (40, 50));
        let deep = Scale::of([-300.0, 400.0].into_iter()).unwrap();
        assert_eq!((deep.low as i32, deep.high as i32), (-20, 70));
    }
}
