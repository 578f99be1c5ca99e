//! What a model's input expects, and how the recipe says to get there.

use qloupe_ir::{Dim, ValueInfo, suggestion};
use qloupe_tensor::{DType, Tensor, n_elements};

use super::SampleError;
use super::cast::cast;
use crate::recipe::{ChannelOrder, InputRecipe, Layout, Recipe, RecipeError, Resize};

/// Levels of an 8-bit channel.
const N_LEVELS: u16 = 256;
/// The largest input that the recipe may feed with one value.
const MAX_CONSTANT_ELEMENTS: usize = 1 << 28;

/// One input of a model with its preprocessing, checked against each other.
#[derive(Clone, Debug)]
pub struct InputSpec {
    /// The name.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The dimensions; `None` is open.
    pub shape: Vec<Option<usize>>,
    /// The recipe of this input; the defaults when it has none.
    pub recipe: InputRecipe,
    /// False when the recipe does not mention the input.
    pub has_recipe: bool,
    /// How pictures feed the input, or why they cannot.
    pub image: Result<ImageInput, String>,
    /// The tensor that the recipe feeds without a file: its value in every element, open dimensions are 1.
    pub constant: Option<Tensor>,
}

/// An input that pictures can feed: every default is resolved.
#[derive(Clone, Debug)]
pub struct ImageInput {
    /// Where the channels are.
    pub layout: Layout,
    /// What the channels are.
    pub channel_order: ChannelOrder,
    /// The height, `None` when it is the picture's own.
    pub height: Option<usize>,
    /// The width, `None` when it is the picture's own.
    pub width: Option<usize>,
    /// `(level * scale - mean) / std` of each channel, 256 values each.
    pub(super) normalized: Vec<f32>,
}

impl InputSpec {
    /// The specification of every input of a model, as of [`qloupe_ir::Graph::runtime_inputs`].
    ///
    /// # Errors
    /// A recipe that does not fit the model, an input that is not a tensor of known dtype and rank.
    pub fn of_model(inputs: &[&ValueInfo], recipe: &Recipe) -> Result<Vec<Self>, SampleError> {
        for name in recipe.inputs.keys() {
            let names = || inputs.iter().map(|input| input.name.as_str());
            if !names().any(|known| known == name) {
                return Err(SampleError::Recipe(RecipeError::UnknownInput {
                    origin: recipe.origin.clone(),
                    name: name.clone(),
                    help: suggestion(name, names()),
                }));
            }
        }
        let of = |input: &&ValueInfo| {
            let ty = input.tensor_type();
            let dtype = ty.and_then(|ty| ty.dtype);
            let shape = ty.and_then(|ty| Some(ty.shape.as_ref()?.iter().map(Dim::size).collect()));
            let (Some(dtype), Some(shape)) = (dtype, shape) else {
                return Err(SampleError::UntypedInput {
                    name: input.name.clone(),
                });
            };
            Ok(Self::new(&input.name, dtype, shape, recipe)?)
        };
        inputs.iter().map(of).collect()
    }

    /// The specification of one input.
    ///
    /// # Errors
    /// A recipe that does not fit the input: number of channels, size, channel order.
    pub fn new(
        name: &str,
        dtype: DType,
        shape: Vec<Option<usize>>,
        recipe: &Recipe,
    ) -> Result<Self, RecipeError> {
        let own = recipe.inputs.get(name);
        let mut spec = Self {
            name: name.to_owned(),
            dtype,
            shape,
            recipe: own.cloned().unwrap_or_default(),
            has_recipe: own.is_some(),
            image: Err(String::new()),
            constant: None,
        };
        let error = |(key, what)| RecipeError::Value {
            origin: recipe.origin.clone(),
            key: format!("input.{name}.{key}"),
            what,
        };
        spec.image = spec.resolve_image().map_err(error)?;
        spec.constant = spec.resolve_constant().map_err(|what| error(("value", what)))?;
        Ok(spec)
    }

    fn resolve_constant(&self) -> Result<Option<Tensor>, String> {
        let Some(value) = self.recipe.value else {
            return Ok(None);
        };
        let shape: Vec<usize> = self.shape.iter().map(|dim| dim.unwrap_or(1)).collect();
        let n = n_elements(&shape).filter(|&n| n <= MAX_CONSTANT_ELEMENTS);
        let n = n.ok_or_else(|| {
            format!("input \"{}\" is too large, expected at most {MAX_CONSTANT_ELEMENTS} elements, got shape {shape:?}", self.name)
        })?;
        cast(&shape, vec![value; n], self.dtype).map(Some)
    }

    /// The dimensions, open ones as `?`.
    pub(super) fn shape_text(&self) -> String {
        let dims = self
            .shape
            .iter()
            .map(|dim| dim.map_or("?".to_owned(), |size| size.to_string()));
        format!("[{}]", dims.collect::<Vec<_>>().join(", "))
    }

    /// The layout of a 4-dimensional input.
    fn layout(&self) -> Result<Layout, String> {
        if self.shape.len() != 4 {
            return Err(format!(
                "its shape is {}, expected 4 dimensions",
                self.shape_text()
            ));
        }
        let is_channels = |axis: usize| matches!(self.shape[axis], Some(1 | 3));
        match self.recipe.layout {
            Some(layout) => Ok(layout),
            None if is_channels(1) => Ok(Layout::Nchw),
            None if is_channels(3) => Ok(Layout::Nhwc),
            None => Err(format!(
                "its shape {} has no dimension of 1 or 3 channels, set layout in the recipe",
                self.shape_text()
            )),
        }
    }

    /// The outer error is the recipe's (key, what); the inner one tells why pictures cannot feed the input.
    fn resolve_image(&self) -> Result<Result<ImageInput, String>, (&'static str, String)> {
        let layout = match self.layout() {
            Ok(layout) => layout,
            Err(why) => {
                self.check_channels(1)?;
                return Ok(Err(why));
            }
        };
        let [channels, height, width] = match layout {
            Layout::Nchw => [1, 2, 3],
            Layout::Nhwc => [3, 1, 2],
        }
        .map(|axis| self.shape[axis]);
        let order = self.recipe.channel_order;
        let n_channels = channels.unwrap_or_else(|| order.map_or(3, ChannelOrder::n_channels));
        self.check_channels(n_channels)?;
        let channel_order = match (n_channels, order) {
            (1 | 3, Some(order)) if order.n_channels() == n_channels => order,
            (_, Some(order)) => {
                let what = format!(
                    "\"{}\" has {} channels, expected {n_channels} (channels of input \"{}\")",
                    order.name(),
                    order.n_channels(),
                    self.name
                );
                return Err(("channel_order", what));
            }
            (1, None) => ChannelOrder::Gray,
            (3, None) => ChannelOrder::Rgb,
            (n, None) => return Ok(Err(format!("it has {n} channels, expected 1 or 3"))),
        };
        let [height, width] = self.resolve_size(height, width)?;
        let image = ImageInput {
            layout,
            channel_order,
            height,
            width,
            normalized: self.normalized_levels(n_channels),
        };
        let levels = image.normalized.iter().map(|&value| f64::from(value)).collect();
        if let Err(why) = cast(&[image.normalized.len()], levels, self.dtype) {
            return Ok(Err(format!("after preprocessing, {why}")));
        }
        Ok(Ok(image))
    }

    fn resolve_size(
        &self,
        height: Option<usize>,
        width: Option<usize>,
    ) -> Result<[Option<usize>; 2], (&'static str, String)> {
        let wanted = self
            .recipe
            .size
            .map(|[height, width]| [Some(height), Some(width)]);
        let size = wanted.unwrap_or([height, width]);
        for (have, want) in [height, width].iter().zip(size) {
            if have.is_some() && *have != want {
                let what = format!(
                    "wrong size {:?}, expected {} (input \"{}\")",
                    self.recipe.size.unwrap_or_default(),
                    self.shape_text(),
                    self.name
                );
                return Err(("size", what));
            }
        }
        if let Resize::CenterCrop { short_side } = self.recipe.resize {
            let [Some(height), Some(width)] = size else {
                let what =
                    "\"center-crop\" needs a size where the model leaves it open, such as size = [224, 224]";
                return Err(("resize", what.to_owned()));
            };
            let least = height.max(width);
            if short_side < least {
                let what =
                    format!("wrong value, expected at least {least} (size of the cut), got {short_side}");
                return Err(("short_side", what));
            }
        }
        Ok(size)
    }

    fn check_channels(&self, n_channels: usize) -> Result<(), (&'static str, String)> {
        for (key, values) in [("mean", &self.recipe.mean), ("std", &self.recipe.std)] {
            if values.len() > 1 && values.len() != n_channels {
                let what = format!(
                    "{key} has {} values, expected {n_channels} (channels of input \"{}\")",
                    values.len(),
                    self.name
                );
                return Err((key, what));
            }
        }
        Ok(())
    }

    fn normalized_levels(&self, n_channels: usize) -> Vec<f32> {
        (0..n_channels)
            .flat_map(|channel| (0..N_LEVELS).map(move |level| (channel, f32::from(level))))
            .map(|(channel, level)| self.normalize(channel, level))
            .collect()
    }

    /// `(value * scale - mean) / std` of one channel.
    pub(super) fn normalize(&self, channel: usize, value: f32) -> f32 {
        let of = |values: &[f32], default| match values {
            [] => default,
            [one] => *one,
            many => many[channel],
        };
        let InputRecipe { scale, mean, std, .. } = &self.recipe;
        (value * scale - of(mean, 0.0)) / of(std, 1.0)
    }

    /// The note that tells which defaults pictures get, when there is no recipe.
    pub(super) fn default_note(&self) -> Option<String> {
        let image = self.image.as_ref().ok().filter(|_| !self.has_recipe)?;
        let colours = if image.channel_order == ChannelOrder::Gray {
            "gray"
        } else {
            "RGB"
        };
        let fit = match (image.width, image.height) {
            (Some(width), Some(height)) => format!("are stretched to {width}x{height} {colours}"),
            (None, None) => format!("keep their own size, {colours}"),
            (Some(width), None) => format!("are stretched to width {width} {colours}"),
            (None, Some(height)) => format!("are stretched to height {height} {colours}"),
        };
        Some(format!(
            "input \"{}\": no recipe, images {fit}, values 0..255",
            self.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(shape: &[usize], dtype: DType, recipe: &str) -> Result<InputSpec, RecipeError> {
        let recipe = Recipe::parse(&format!("[input.x]\n{recipe}"), "\"r.toml\"").unwrap();
        let shape = shape.iter().map(|&dim| (dim > 0).then_some(dim)).collect();
        InputSpec::new("x", dtype, shape, &recipe)
    }

    #[test]
    fn layout_and_order_are_guessed_from_the_shape() {
        struct Case {
            shape: &'static [usize],
            layout: Layout,
            order: ChannelOrder,
        }
        let cases = [
            Case {
                shape: &[0, 3, 8, 9],
                layout: Layout::Nchw,
                order: ChannelOrder::Rgb,
            },
            Case {
                shape: &[1, 8, 9, 3],
                layout: Layout::Nhwc,
                order: ChannelOrder::Rgb,
            },
            Case {
                shape: &[1, 1, 8, 9],
                layout: Layout::Nchw,
                order: ChannelOrder::Gray,
            },
            Case {
                shape: &[1, 8, 9, 1],
                layout: Layout::Nhwc,
                order: ChannelOrder::Gray,
            },
        ];
        for Case { shape, layout, order } in cases {
            let image = spec(shape, DType::Float32, "").unwrap().image.unwrap();
            assert_eq!((image.layout, image.channel_order), (layout, order), "{shape:?}");
            assert_eq!((image.height, image.width), (Some(8), Some(9)), "{shape:?}");
        }
    }

    #[test]
    fn a_recipe_that_does_not_fit_the_model_has_its_text() {
        struct Case {
            shape: &'static [usize],
            recipe: &'static str,
            error: &'static str,
        }
        #[rustfmt::skip]
        let cases = [
            Case { shape: &[1, 3, 8, 8], recipe: "mean = [1, 2]", error: "\"r.toml\", input.x.mean: mean has 2 values, expected 3 (channels of input \"x\")" },
            Case { shape: &[1, 2048], recipe: "std = [1, 2]", error: "\"r.toml\", input.x.std: std has 2 values, expected 1 (channels of input \"x\")" },
            Case { shape: &[1, 3, 8, 8], recipe: "channel_order = \"gray\"", error: "\"r.toml\", input.x.channel_order: \"gray\" has 1 channels, expected 3 (channels of input \"x\")" },
            Case { shape: &[1, 3, 8, 8], recipe: "size = [8, 9]", error: "\"r.toml\", input.x.size: wrong size [8, 9], expected [1, 3, 8, 8] (input \"x\")" },
            Case { shape: &[1, 3, 0, 0], recipe: "resize = \"center-crop\"\nshort_side = 9", error: "\"r.toml\", input.x.resize: \"center-crop\" needs a size where the model leaves it open, such as size = [224, 224]" },
            Case { shape: &[1, 3, 8, 10], recipe: "resize = \"center-crop\"\nshort_side = 9", error: "\"r.toml\", input.x.short_side: wrong value, expected at least 10 (size of the cut), got 9" },
        ];
        for Case { shape, recipe, error } in cases {
            assert_eq!(
                spec(shape, DType::Float32, recipe).unwrap_err().to_string(),
                error
            );
        }
    }

    #[test]
    fn inputs_that_pictures_cannot_feed_tell_why() {
        struct Case {
            shape: &'static [usize],
            dtype: DType,
            recipe: &'static str,
            why: &'static str,
        }
        #[rustfmt::skip]
        let cases = [
            Case { shape: &[0, 2048], dtype: DType::Int32, recipe: "", why: "its shape is [?, 2048], expected 4 dimensions" },
            Case { shape: &[1, 4, 8, 8], dtype: DType::Float32, recipe: "", why: "its shape [1, 4, 8, 8] has no dimension of 1 or 3 channels, set layout in the recipe" },
            Case { shape: &[1, 4, 8, 8], dtype: DType::Float32, recipe: "layout = \"nchw\"", why: "it has 4 channels, expected 1 or 3" },
            Case { shape: &[1, 3, 8, 8], dtype: DType::Int8, recipe: "", why: "after preprocessing, int8 cannot hold the value 128, expected whole numbers from -128 to 127" },
            Case { shape: &[1, 3, 8, 8], dtype: DType::UInt8, recipe: "std = 2", why: "after preprocessing, uint8 cannot hold the value 0.5, expected whole numbers from 0 to 255" },
            Case { shape: &[1, 3, 8, 8], dtype: DType::Bool, recipe: "", why: "after preprocessing, numbers cannot become bool" },
        ];
        for Case {
            shape,
            dtype,
            recipe,
            why,
        } in cases
        {
            assert_eq!(spec(shape, dtype, recipe).unwrap().image.unwrap_err(), why);
        }
        assert!(
            spec(&[1, 3, 8, 8], DType::Int8, "mean = 128")
                .unwrap()
                .image
                .is_ok()
        );
    }

    #[test]
    fn a_value_fills_the_input_in_its_dtype() {
        let state = spec(&[2, 0, 3], DType::Float32, "value = 0.5").unwrap();
        assert_eq!(
            state.constant,
            Some(Tensor::new(&[2, 1, 3], vec![0.5_f32; 6]).unwrap())
        );
        let rate = spec(&[], DType::Int64, "value = 16000").unwrap();
        assert_eq!(rate.constant, Some(Tensor::scalar(16000_i64)));
        let error = |shape, dtype, recipe| spec(shape, dtype, recipe).unwrap_err().to_string();
        assert_eq!(
            error(&[], DType::Int64, "value = 0.5"),
            "\"r.toml\", input.x.value: int64 cannot hold the value 0.5, expected whole numbers from -9007199254740992 to 9007199254740992"
        );
        assert_eq!(
            error(&[usize::MAX, 2], DType::Float32, "value = 0"),
            "\"r.toml\", input.x.value: input \"x\" is too large, expected at most 268435456 elements, got shape [18446744073709551615, 2]"
        );
    }

    #[test]
    fn the_recipe_and_the_model_must_know_the_same_inputs() {
        let recipe = Recipe::parse("[input.imges]", "\"r.toml\"").unwrap();
        let info = ValueInfo {
            name: "images".to_owned(),
            ty: None,
            doc_string: String::new(),
            extra: qloupe_ir::Extra::default(),
        };
        assert_eq!(
            InputSpec::of_model(&[&info], &recipe).unwrap_err().to_string(),
            "\"r.toml\", input.imges: the model has no input \"imges\", did you mean \"images\"?"
        );
        assert_eq!(
            InputSpec::of_model(&[&info], &Recipe::default())
                .unwrap_err()
                .to_string(),
            "input \"images\" is not a tensor of known dtype and number of dimensions, give its shape with --shape images=1,3,224,224"
        );
    }
}
