//! What to feed on the board: dtype, layout and scale of each input of the quantized model.

use std::fmt;

use qloupe_exec::Form;

use crate::plan::QuantPlan;
use crate::recipe::Layout;
use crate::samples::InputSpec;
use crate::session::Session;

/// What an input of the quantized model expects.
#[derive(Clone, Debug, PartialEq)]
pub struct BoardInput {
    /// The input.
    pub name: String,
    /// The dtype that the device reads.
    pub dtype: String,
    /// Scale and zero point: `q = round(x / scale) + zero_point`.
    pub params: Option<(f32, i32)>,
    /// What turns picture levels 0..255 into the real numbers `x`, in words.
    pub preprocessing: String,
}

/// The inputs of a plan's model.
pub fn board_inputs(session: &Session, plan: &QuantPlan) -> Vec<BoardInput> {
    let forms = plan.forms();
    let describe = |spec: &InputSpec| {
        let form = forms.get(&spec.name).unwrap_or(&Form::FLOAT);
        BoardInput {
            name: spec.name.clone(),
            dtype: match form {
                Form::Quantized(params) => params.dtype().name().to_owned(),
                Form::Fp16 { .. } => "float16".to_owned(),
                Form::Float { .. } => spec.dtype.name().to_owned(),
            },
            params: form.params().and_then(|p| p.as_per_tensor()),
            preprocessing: preprocessing(spec),
        }
    };
    session.inputs.iter().map(describe).collect()
}

fn preprocessing(spec: &InputSpec) -> String {
    if let Some(value) = spec.recipe.value {
        return format!("{value} in every element, as the recipe does");
    }
    let Ok(image) = &spec.image else {
        return "an array in the model's own layout and dtype".to_owned();
    };
    let layout = if image.layout == Layout::Nhwc {
        "NHWC"
    } else {
        "NCHW"
    };
    let list = |values: &[f32], default: &str| {
        let numbers: Vec<String> = values.iter().map(ToString::to_string).collect();
        match numbers.as_slice() {
            [] => default.to_owned(),
            [number] => number.clone(),
            numbers => format!("[{}]", numbers.join(", ")),
        }
    };
    let recipe = &spec.recipe;
    let (mean, std) = (list(&recipe.mean, "0"), list(&recipe.std, "1"));
    #[expect(clippy::float_cmp, reason = "exactly 1 changes nothing")]
    let level = if recipe.scale == 1.0 {
        "level".to_owned()
    } else {
        format!("level * {}", recipe.scale)
    };
    format!(
        "{layout} {}, x = ({level} - {mean}) / {std}",
        image.channel_order.name()
    )
}

impl BoardInput {
    /// The same as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name,
            "dtype": self.dtype,
            "scale": self.params.map(|p| p.0),
            "zero_point": self.params.map(|p| p.1),
            "preprocessing": self.preprocessing,
        })
    }
}

impl fmt::Display for BoardInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "feed \"{}\": {}", self.name, self.preprocessing)?;
        match self.params {
            Some((scale, zero_point)) => {
                let sign = if zero_point < 0 { '-' } else { '+' };
                let offset = zero_point.unsigned_abs();
                write!(
                    f,
                    "; on the board {} with q = round(x / {scale}) {sign} {offset}",
                    self.dtype
                )
            }
            None => write!(f, "; on the board {}", self.dtype),
        }
    }
}
