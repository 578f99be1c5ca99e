//! How formats print: colours, width, where a cosine becomes suspicious, the vendor's layouts.

/// How formats print.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// ANSI colours, in the terminal table.
    pub colour: bool,
    /// Columns of the terminal.
    pub width: usize,
    /// Where a cosine becomes suspicious.
    pub thresholds: Thresholds,
    /// Which of the vendor's layouts `txt` follows.
    pub txt_style: TxtStyle,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            colour: false,
            width: 100,
            thresholds: Thresholds::default(),
            txt_style: TxtStyle::V2,
        }
    }
}

/// Cosines below which a row is marked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Below: slightly inconsistent, yellow.
    pub slight: f64,
    /// Below: this layer is wrong, red.
    pub wrong: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            slight: 0.99,
            wrong: 0.98,
        }
    }
}

/// The layouts of the vendor's `error_analysis.txt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TxtStyle {
    /// `quant_error` and `runtime_error`, cosine only.
    V1_3,
    /// `simulator_error` and `runtime_error`, cosine and Euclidean distance.
    #[default]
    V2,
}
