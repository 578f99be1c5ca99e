//! Numbers as people read them. `json` and `csv` keep full precision and do not use this.

/// A cosine with the five digits of the vendor's tables, cut rather than rounded so that 0.999999 is not 1.00000.
pub(super) fn cosine(x: f64) -> String {
    if x.is_nan() {
        return "NaN".to_owned();
    }
    format!("{:.5}", (x * 1e5).trunc() / 1e5)
}

/// Decibels with one digit.
pub(super) fn decibels(x: f64) -> String {
    if x.is_finite() {
        format!("{x:.1}")
    } else {
        x.to_string()
    }
}

/// Any other number in at most 8 characters.
pub(super) fn plain(x: f64) -> String {
    let size = x.abs();
    if !x.is_finite() || size == 0.0 {
        x.to_string()
    } else if !(1e-3..1e5).contains(&size) {
        format!("{x:.1e}")
    } else if size < 10.0 {
        format!("{x:.4}")
    } else {
        format!("{x:.1}")
    }
}

/// The figure of a metric.
pub(super) fn of_metric(metric: &str, x: f64) -> String {
    match metric {
        "cosine" => cosine(x),
        "sqnr_db" | "sqnr_db_worst" => decibels(x),
        _ => plain(x),
    }
}

/// Bytes in decimal units.
pub(super) fn bytes(n: u64) -> String {
    let n = n as f64;
    match n {
        _ if n < 1e3 => format!("{n} B"),
        _ if n < 1e6 => format!("{:.1} kB", n / 1e3),
        _ if n < 1e9 => format!("{:.1} MB", n / 1e6),
        _ => format!("{:.1} GB", n / 1e9),
    }
}

/// A shape as errors and tables print it.
pub(super) fn shape(dims: &[usize]) -> String {
    format!("{dims:?}")
}

/// `1 sample`, `2 samples`.
pub(super) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_better_than_they_are() {
        assert_eq!(cosine(0.999_999), "0.99999");
        assert_eq!(cosine(1.0), "1.00000");
        assert_eq!(cosine(-0.5), "-0.50000");
        assert_eq!(decibels(f64::NEG_INFINITY), "-inf");
        assert_eq!(decibels(20.04), "20.0");
        let cases = [
            (0.0, "0"),
            (f64::INFINITY, "inf"),
            (1_874.986, "1875.0"),
            (0.012_34, "0.0123"),
            (1.5e-7, "1.5e-7"),
            (-3e30, "-3.0e30"),
        ];
        for (x, expected) in cases {
            assert_eq!(plain(x), expected);
        }
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(12_345_678), "12.3 MB");
        assert_eq!(count(1, "sample"), "1 sample");
    }
}
