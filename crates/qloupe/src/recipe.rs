//! Owns the recipe file: how pictures and arrays become what the model's inputs expect.
//!
//! Everything that can be wrong without looking at the model is found when the file is read; what depends on the model
//! is found by [`crate::samples::InputSpec::new`], before any sample is read.

mod keys;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use qloupe_tensor::DType;
use toml::Table;

use self::keys::Keys;
pub use crate::samples::Interpolation;

/// The largest height and width that a recipe may ask for.
const MAX_SIZE: usize = 16_384;
/// What Ultralytics fills letterboxes with.
const LETTERBOX_PAD: u8 = 114;

/// A recipe: preprocessing by input name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recipe {
    /// Where the recipe comes from, for messages: its file, quoted, or nothing.
    pub origin: String,
    /// `[input.NAME]`.
    pub inputs: BTreeMap<String, InputRecipe>,
}

/// `[input.NAME]`: the preprocessing of one input, `x' = (x * scale - mean) / std` per channel.
#[derive(Clone, Debug, PartialEq)]
pub struct InputRecipe {
    /// Factor before the mean is subtracted; 1 keeps mean and std in 0..255 units.
    pub scale: f32,
    /// One number, or one for each channel in the model's order; empty: 0.
    pub mean: Vec<f32>,
    /// One number, or one for each channel in the model's order; empty: 1.
    pub std: Vec<f32>,
    /// Where the channels are; guessed from the model when absent.
    pub layout: Option<Layout>,
    /// What the channels are; RGB or gray by their number when absent.
    pub channel_order: Option<ChannelOrder>,
    /// How pictures get the input's size.
    pub resize: Resize,
    /// The filter of the resize.
    pub interpolation: Interpolation,
    /// `[height, width]` where the model leaves them open.
    pub size: Option<[usize; 2]>,
    /// The dtype of array files of this input, when it is not the model's: they are converted.
    pub dtype: Option<DType>,
    /// Arrays go through scale, mean and std as pictures do; else they are taken as they are.
    pub normalize_arrays: bool,
    /// Every element of the input, which then takes no file: an initial state, a sampling rate.
    pub value: Option<f64>,
}

/// Where the channels of an input are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Batch, channels, height, width.
    Nchw,
    /// Batch, height, width, channels.
    Nhwc,
}

/// What the channels of an input are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel of brightness.
    Gray,
}

impl ChannelOrder {
    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rgb => "rgb",
            Self::Bgr => "bgr",
            Self::Gray => "gray",
        }
    }

    /// The number of channels.
    pub fn n_channels(self) -> usize {
        if self == Self::Gray { 1 } else { 3 }
    }
}

/// How a picture gets the input's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resize {
    /// Height and width are scaled on their own.
    #[default]
    Stretch,
    /// Scaled to fit inside and centred, the rest filled, as Ultralytics does.
    Letterbox {
        /// The level that fills.
        pad: u8,
    },
    /// The shorter side is scaled to `short_side`, then the centre is cut out, as torchvision does.
    CenterCrop {
        /// Pixels of the shorter side before the cut.
        short_side: usize,
    },
    /// Scaled to the input's height; on the right filled or, where too wide, squeezed, as PaddleOCR does.
    KeepHeight {
        /// The level that fills; absent: 0 after normalization.
        pad: Option<u8>,
    },
}

impl Default for InputRecipe {
    fn default() -> Self {
        Self {
            scale: 1.0,
            mean: Vec::new(),
            std: Vec::new(),
            layout: None,
            channel_order: None,
            resize: Resize::Stretch,
            interpolation: Interpolation::Bilinear,
            size: None,
            dtype: None,
            normalize_arrays: false,
            value: None,
        }
    }
}

/// What is wrong with a recipe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{file:?} cannot be read: {source}")]
    Read {
        /// The file.
        file: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The text is not TOML.
    #[error("{origin}, line {line}: {what}")]
    Syntax {
        /// The recipe.
        origin: String,
        /// From 1.
        line: usize,
        /// The parser's words.
        what: String,
    },
    /// A key that does not exist.
    #[error("{origin}: key \"{key}\" is unknown{help}")]
    UnknownKey {
        /// The recipe.
        origin: String,
        /// The key with its tables.
        key: String,
        /// `, did you mean "x"?` or nothing.
        help: String,
    },
    /// A value that cannot be, on its own or for the model.
    #[error("{}{key}: {what}", prefix(origin))]
    Value {
        /// The recipe; empty when it is not from a file.
        origin: String,
        /// The key with its tables.
        key: String,
        /// `<what is wrong>, expected <X>, got <Y>`.
        what: String,
    },
    /// An input that the model does not have.
    #[error("{}input.{name}: the model has no input \"{name}\"{help}", prefix(origin))]
    UnknownInput {
        /// The recipe; empty when it is not from a file.
        origin: String,
        /// The name.
        name: String,
        /// `, did you mean "x"?` or nothing.
        help: String,
    },
}

fn prefix(origin: &str) -> String {
    if origin.is_empty() {
        String::new()
    } else {
        format!("{origin}, ")
    }
}

impl Recipe {
    /// Reads a recipe file.
    ///
    /// # Errors
    /// [`RecipeError`] with the file, the key and the value.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        let text = std::fs::read_to_string(path).map_err(|source| RecipeError::Read {
            file: path.to_owned(),
            source,
        })?;
        Self::parse(&text, &format!("{path:?}"))
    }

    /// Parses a recipe; `origin` names it in messages.
    ///
    /// # Errors
    /// [`RecipeError`] with the origin, the key and the value.
    pub fn parse(text: &str, origin: &str) -> Result<Self, RecipeError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let end = error.span().map_or(0, |span| span.start).min(text.len());
            RecipeError::Syntax {
                origin: origin.to_owned(),
                line: text.as_bytes()[..end]
                    .iter()
                    .filter(|&&byte| byte == b'\n')
                    .count()
                    + 1,
                what: error.message().lines().collect::<Vec<_>>().join(", "),
            }
        })?;
        let mut keys = Keys::new(origin, "", table);
        let mut inputs = BTreeMap::new();
        for (name, value) in keys.table("input")? {
            let toml::Value::Table(table) = value else {
                return Err(keys.error(
                    &format!("input.{name}"),
                    format!("wrong value, expected a table [input.NAME], got {value}"),
                ));
            };
            let path = format!("input.{name}");
            inputs.insert(name, parse_input(Keys::new(origin, path, table))?);
        }
        keys.finish()?;
        Ok(Self {
            origin: origin.to_owned(),
            inputs,
        })
    }
}

#[derive(Clone, Copy)]
enum ResizeKind {
    Stretch,
    Letterbox,
    CenterCrop,
    KeepHeight,
}

fn parse_input(mut keys: Keys<'_>) -> Result<InputRecipe, RecipeError> {
    let dtypes: Vec<(&str, DType)> = DType::all()
        .filter(|dtype| dtype.is_float() || dtype.integer_range().is_some_and(|_| dtype.size_bits() >= 8))
        .chain([DType::Int64, DType::UInt64])
        .map(|dtype| (dtype.name(), dtype))
        .collect();
    let recipe = InputRecipe {
        scale: keys.number("scale")?.unwrap_or(1.0),
        mean: keys.numbers("mean")?,
        std: keys.numbers("std")?,
        layout: keys.choice("layout", &[("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)])?,
        channel_order: keys.choice(
            "channel_order",
            &[ChannelOrder::Rgb, ChannelOrder::Bgr, ChannelOrder::Gray].map(|order| (order.name(), order)),
        )?,
        resize: parse_resize(&mut keys)?,
        interpolation: keys
            .choice(
                "interpolation",
                &[
                    ("bilinear", Interpolation::Bilinear),
                    ("bicubic", Interpolation::Bicubic),
                    ("nearest", Interpolation::Nearest),
                ],
            )?
            .unwrap_or_default(),
        size: keys.pair("size", MAX_SIZE)?,
        dtype: keys.choice("dtype", &dtypes)?,
        normalize_arrays: keys.bool("normalize_arrays")?.unwrap_or(false),
        value: keys.real("value")?,
    };
    let alone = InputRecipe {
        value: recipe.value,
        ..InputRecipe::default()
    };
    if recipe.value.is_some() && recipe != alone {
        return Err(keys.error(
            "value",
            "an input with a value takes no file, expected no other key beside it",
        ));
    }
    if recipe.std.contains(&0.0) {
        return Err(keys.error("std", "value 0 divides by zero, expected numbers other than 0"));
    }
    if recipe.scale == 0.0 {
        return Err(keys.error(
            "scale",
            "value 0 makes every pixel equal, expected a number other than 0",
        ));
    }
    keys.finish()?;
    Ok(recipe)
}

fn parse_resize(keys: &mut Keys<'_>) -> Result<Resize, RecipeError> {
    let kind = keys
        .choice(
            "resize",
            &[
                ("stretch", ResizeKind::Stretch),
                ("letterbox", ResizeKind::Letterbox),
                ("center-crop", ResizeKind::CenterCrop),
                ("keep-height", ResizeKind::KeepHeight),
            ],
        )?
        .unwrap_or(ResizeKind::Stretch);
    let pad = keys
        .integer("pad", 0, usize::from(u8::MAX))?
        .map(|pad| u8::try_from(pad).expect("invariant: at most 255"));
    let short_side = keys.integer("short_side", 1, MAX_SIZE)?;
    if pad.is_some() && !matches!(kind, ResizeKind::Letterbox | ResizeKind::KeepHeight) {
        return Err(keys.error("pad", "only resize = \"letterbox\" and \"keep-height\" fill"));
    }
    match (kind, short_side) {
        (ResizeKind::CenterCrop, Some(short_side)) => Ok(Resize::CenterCrop { short_side }),
        (ResizeKind::CenterCrop, None) => Err(keys.error(
            "resize",
            "\"center-crop\" needs short_side, such as short_side = 256",
        )),
        (_, Some(_)) => Err(keys.error("short_side", "only resize = \"center-crop\" has a short side")),
        (ResizeKind::Stretch, _) => Ok(Resize::Stretch),
        (ResizeKind::Letterbox, _) => Ok(Resize::Letterbox {
            pad: pad.unwrap_or(LETTERBOX_PAD),
        }),
        (ResizeKind::KeepHeight, _) => Ok(Resize::KeepHeight { pad }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = r#"
            [input."x:0"]
            scale = 2
            mean = [1, 2.5, 3]
            std = 58
            layout = "nhwc"
            channel_order = "bgr"
            resize = "center-crop"
            short_side = 256
            interpolation = "bicubic"
            size = [48, 192]
            dtype = "float64"
            normalize_arrays = true
            [input.y]
            resize = "letterbox"
            [input.z]
            resize = "keep-height"
            pad = 0
            [input.rate]
            value = 16000
        "#;
        let recipe = Recipe::parse(text, "\"r.toml\"").unwrap();
        let expected = InputRecipe {
            scale: 2.0,
            mean: vec![1.0, 2.5, 3.0],
            std: vec![58.0],
            layout: Some(Layout::Nhwc),
            channel_order: Some(ChannelOrder::Bgr),
            resize: Resize::CenterCrop { short_side: 256 },
            interpolation: Interpolation::Bicubic,
            size: Some([48, 192]),
            dtype: Some(DType::Float64),
            normalize_arrays: true,
            value: None,
        };
        assert_eq!(recipe.inputs["x:0"], expected);
        assert_eq!(recipe.inputs["y"].resize, Resize::Letterbox { pad: 114 });
        assert_eq!(recipe.inputs["z"].resize, Resize::KeepHeight { pad: Some(0) });
        assert_eq!(recipe.inputs["rate"].value, Some(16000.0));
    }

    #[test]
    fn each_refusal_has_its_text() {
        struct Case {
            text: &'static str,
            error: &'static str,
        }
        #[rustfmt::skip]
        let cases = [
            Case { text: "a = 1\nb =", error: "\"r.toml\", line 2: string values must be quoted, expected literal string" },
            Case { text: "inputs = {}", error: "\"r.toml\": key \"inputs\" is unknown, did you mean \"input\"?" },
            Case { text: "input = 3", error: "\"r.toml\", input: wrong value, expected a table, got 3" },
            Case { text: "[input]\nx = 3", error: "\"r.toml\", input.x: wrong value, expected a table [input.NAME], got 3" },
            Case { text: "[input.x]\nstdd = 3", error: "\"r.toml\": key \"input.x.stdd\" is unknown, did you mean \"std\"?" },
            Case { text: "[input.x]\nstd = [1, 0, 1]", error: "\"r.toml\", input.x.std: value 0 divides by zero, expected numbers other than 0" },
            Case { text: "[input.x]\nscale = 0", error: "\"r.toml\", input.x.scale: value 0 makes every pixel equal, expected a number other than 0" },
            Case { text: "[input.x]\nmean = nan", error: "\"r.toml\", input.x.mean: wrong value, expected a finite number, got nan" },
            Case { text: "[input.x]\nmean = [-inf]", error: "\"r.toml\", input.x.mean: wrong value, expected a finite number, got -inf" },
            Case { text: "[input.x]\nmean = []", error: "\"r.toml\", input.x.mean: the list is empty, expected a number for each channel" },
            Case { text: "[input.x]\nmean = \"a\"", error: "\"r.toml\", input.x.mean: wrong value, expected a number, got \"a\"" },
            Case { text: "[input.x]\nresize = \"strech\"", error: "\"r.toml\", input.x.resize: \"strech\" is unknown, expected one of \"stretch\", \"letterbox\", \"center-crop\", \"keep-height\", did you mean \"stretch\"?" },
            Case { text: "[input.x]\nlayout = 1", error: "\"r.toml\", input.x.layout: wrong value, expected one of \"nchw\", \"nhwc\", got 1" },
            Case { text: "[input.x]\nresize = \"center-crop\"", error: "\"r.toml\", input.x.resize: \"center-crop\" needs short_side, such as short_side = 256" },
            Case { text: "[input.x]\nshort_side = 256", error: "\"r.toml\", input.x.short_side: only resize = \"center-crop\" has a short side" },
            Case { text: "[input.x]\nshort_side = 0", error: "\"r.toml\", input.x.short_side: wrong value, expected a whole number from 1 to 16384, got 0" },
            Case { text: "[input.x]\npad = 1", error: "\"r.toml\", input.x.pad: only resize = \"letterbox\" and \"keep-height\" fill" },
            Case { text: "[input.x]\nsize = 224", error: "\"r.toml\", input.x.size: wrong value, expected [height, width], got 224" },
            Case { text: "[input.x]\nnormalize_arrays = 1", error: "\"r.toml\", input.x.normalize_arrays: wrong value, expected true or false, got 1" },
            Case { text: "[input.x]\nvalue = \"0\"", error: "\"r.toml\", input.x.value: wrong value, expected a number, got \"0\"" },
            Case { text: "[input.x]\nvalue = inf", error: "\"r.toml\", input.x.value: wrong value, expected a finite number, got inf" },
            Case { text: "[input.x]\nvalue = 0\nmean = 1", error: "\"r.toml\", input.x.value: an input with a value takes no file, expected no other key beside it" },
        ];
        for Case { text, error } in cases {
            assert_eq!(
                Recipe::parse(text, "\"r.toml\"").unwrap_err().to_string(),
                error,
                "{text}"
            );
        }
        assert_eq!(
            Recipe::read(Path::new("none.toml")).unwrap_err().to_string(),
            "\"none.toml\" cannot be read: No such file or directory (os error 2)"
        );
    }
}
