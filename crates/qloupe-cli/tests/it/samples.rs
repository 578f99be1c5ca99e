//! Samples and recipes that do not fit are refused with their place, and nothing is written.

use qloupe::array::{Compression, write_npy, write_npz};
use qloupe_tensor::Tensor;

use crate::sandbox::{ANALYZE, BUILD, Sandbox};

/// A command that would write a model, a plan, an array file, reports, a dump.
const INFER_ALL: &str = "infer model.onnx --recipe recipe.toml --out out.npz";

fn array(sandbox: &Sandbox, name: &str, shape: &[usize], change: impl Fn(&mut [f32])) {
    let mut values = vec![0.0; shape.iter().product()];
    change(&mut values);
    write_npy(&sandbox.path(name), &Tensor::new(shape, values).unwrap()).unwrap();
}

#[test]
fn arrays_that_do_not_fit_the_input_are_refused() {
    let sandbox = Sandbox::new();
    let float64 = Tensor::new(&[2, 1, 28, 28], vec![0.0_f64; 2 * 28 * 28]).unwrap();
    write_npy(&sandbox.path("float64.npy"), &float64).unwrap();
    array(&sandbox, "rgb.npy", &[2, 3, 28, 28], |_| ());
    array(&sandbox, "good.npy", &[2, 1, 28, 28], |_| ());
    let named = (
        "inptu".to_owned(),
        Tensor::new(&[1, 1, 28, 28], vec![0.0_f32; 28 * 28]).unwrap(),
    );
    write_npz(&sandbox.path("named.npz"), &[named], Compression::Stored).unwrap();
    sandbox.write("cut.npy", &sandbox.read("good.npy")[..1000]);
    sandbox.write("text.npy", "no array");
    struct Case {
        input: &'static str,
        text: &'static str,
    }
    let cases = [
        Case {
            input: "float64.npy",
            text: "\"float64.npy\", input \"input\": wrong dtype, expected float32, got float64; convert it, or set dtype = \"float64\" in [input.input] of the recipe",
        },
        Case {
            input: "rgb.npy",
            text: "\"rgb.npy\", input \"input\": wrong shape, expected [?, 1, 28, 28] (or a leading axis of samples before it), got [2, 3, 28, 28]",
        },
        Case {
            input: "inptu=good.npy",
            text: "the model has no input \"inptu\", did you mean \"input\"?",
        },
        Case {
            input: "named.npz",
            text: "\"named.npz\" has no array \"input\" for the input of that name, it holds \"inptu\", did you mean \"inptu\"?",
        },
        Case {
            input: "cut.npy",
            text: "\"cut.npy\": wrong size for float32 of shape [2, 1, 28, 28], expected 6400 bytes, got 1000",
        },
        Case {
            input: "text.npy",
            text: "\"text.npy\": not a NumPy array",
        },
        Case {
            input: "none.npy",
            text: "\"none.npy\" does not exist",
        },
        Case {
            input: "recipe.toml",
            text: "\"recipe.toml\" is of unknown kind, expected a folder, .txt, .npy, .npz, .safetensors, .jpg, .png or .bmp",
        },
    ];
    for Case { input, text } in cases {
        sandbox.refuse(&format!("{INFER_ALL} --input {input}"), text);
        if !input.contains('=') {
            sandbox.refuse(
                &format!("{BUILD} --dataset {input} -o out.onnx").replace("--dataset calib ", ""),
                text,
            );
        }
    }
}

#[test]
fn numbers_that_are_not_finite_are_counted() {
    let sandbox = Sandbox::new();
    array(&sandbox, "nan.npy", &[3, 1, 28, 28], |values| {
        values[28 * 28] = f32::NAN;
        values[28 * 28 + 5] = f32::INFINITY;
    });
    let text =
        "\"nan.npy\", input \"input\": sample 1: 2 values are NaN or infinite, expected finite numbers";
    sandbox.refuse(&format!("{INFER_ALL} --input nan.npy"), text);
    sandbox.refuse(
        &format!("{ANALYZE} --report out.json").replace("calib", "nan.npy"),
        text,
    );
    sandbox.refuse(&format!("{BUILD} -o out.onnx").replace("calib", "nan.npy"), text);
}

#[test]
fn a_picture_that_cannot_be_read_is_named_with_its_line() {
    struct Case {
        list: &'static str,
        text: &'static str,
    }
    let sandbox = Sandbox::new();
    let whole = sandbox.read("calib/t10k_0001.png");
    sandbox.write("calib/cut.png", &whole[..100]);
    sandbox.write("calib/text.png", "no picture");
    let cases = [
        Case {
            list: "t10k_0000.png\ncut.png\nt10k_0001.png\n",
            text: "calib/list.txt:2: \"cut.png\" cannot be decoded: unexpected end of file",
        },
        Case {
            list: "t10k_0000.png\n\ntext.png\nt10k_0001.png\n",
            text: "calib/list.txt:3: \"text.png\" cannot be decoded: not a jpg, png or bmp picture",
        },
        Case {
            list: "t10k_0000.png\nnone.png\nt10k_0001.png\n",
            text: "calib/list.txt:2: \"none.png\" does not exist",
        },
        Case {
            list: "t10k_0000.png\n\"t10k_0001.png\n",
            text: "calib/list.txt:2: a quote is not closed, expected \"",
        },
        Case {
            list: "t10k_0000.png t10k_0001.png\n",
            text: "calib/list.txt:1: wrong number of files, expected 1 (\"input\"), got 2",
        },
        Case {
            list: "\n \n",
            text: "\"calib/list.txt\" holds no samples, expected a line for each sample",
        },
    ];
    sandbox.write("calib/list.txt", "");
    for Case { list, text } in cases {
        sandbox.write("calib/list.txt", list);
        sandbox.refuse(
            &format!("{BUILD} -o out.onnx").replace("--dataset calib", "--dataset calib/list.txt"),
            text,
        );
        sandbox.refuse(&format!("{INFER_ALL} --input calib/list.txt"), text);
        let analyze =
            format!("{ANALYZE} --report out.json").replace("--dataset calib", "--dataset calib/list.txt");
        sandbox.refuse(&analyze, text);
    }
}

#[test]
fn a_folder_without_pictures_is_refused() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("empty")).unwrap();
    let text = "\"empty\" holds no samples, expected jpg, png or bmp files";
    sandbox.refuse(&format!("{INFER_ALL} --input empty"), text);
    sandbox.refuse(&format!("{BUILD} -o out.onnx").replace("calib", "empty"), text);
}

/// The calibration set has a broken picture, but nothing is calibrated before the other samples were found.
#[test]
fn samples_to_compare_on_are_found_before_calibration() {
    let sandbox = Sandbox::new();
    sandbox.write("calib/cut.png", "no picture");
    sandbox.refuse(
        &ANALYZE.replace("--input test", "--input none"),
        "\"none\" does not exist",
    );
}

#[test]
fn recipes_that_cannot_be_are_refused() {
    struct Case {
        recipe: &'static str,
        text: &'static str,
    }
    let sandbox = Sandbox::new();
    let cases = [
        Case {
            recipe: "[input.input]\nstd = 0",
            text: "\"recipe.toml\", input.input.std: value 0 divides by zero, expected numbers other than 0",
        },
        Case {
            recipe: "[input.inptu]\nstd = 2",
            text: "\"recipe.toml\", input.inptu: the model has no input \"inptu\", did you mean \"input\"?",
        },
        Case {
            recipe: "[input.input]\nmean = [1, 2, 3]",
            text: "\"recipe.toml\", input.input.mean: mean has 3 values, expected 1 (channels of input \"input\")",
        },
        Case {
            recipe: "[input.input]\nstdd = 2",
            text: "\"recipe.toml\": key \"input.input.stdd\" is unknown, did you mean \"std\"?",
        },
        Case {
            recipe: "mean = ",
            text: "\"recipe.toml\", line 1: string values must be quoted, expected literal string",
        },
    ];
    for Case { recipe, text } in cases {
        sandbox.write("recipe.toml", recipe);
        sandbox.refuse(&format!("{INFER_ALL} --input test"), text);
        sandbox.refuse(&format!("{BUILD} -o out.onnx"), text);
    }
    std::fs::remove_file(sandbox.path("recipe.toml")).unwrap();
    sandbox.refuse(
        &format!("{INFER_ALL} --input test"),
        "\"recipe.toml\" cannot be read: No such file or directory (os error 2)",
    );
}
