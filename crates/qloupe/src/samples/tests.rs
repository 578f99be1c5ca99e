//! Tests of datasets from files to tensors, and of each refusal's text.

use std::fs;
use std::path::PathBuf;

use qloupe_tensor::DType;

use super::labels::read_labels;
use super::*;
use crate::array::{Compression, write_npy, write_npz};
use crate::recipe::Recipe;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata")
}

fn spec(name: &str, shape: &[usize], recipe: &Recipe) -> InputSpec {
    let shape = shape.iter().map(|&dim| (dim > 0).then_some(dim)).collect();
    InputSpec::new(name, DType::Float32, shape, recipe).unwrap()
}

fn plain(name: &str, shape: &[usize]) -> InputSpec {
    spec(name, shape, &Recipe::default())
}

#[test]
fn a_folder_and_its_list_give_the_same_normalized_samples() {
    let recipe = Recipe::read(&testdata().join("fmnist/recipe.toml")).unwrap();
    let inputs = [spec("input", &[0, 1, 28, 28], &recipe)];
    let folder = Dataset::open(&testdata().join("fmnist/calib"), &inputs).unwrap();
    let list = Dataset::open(&testdata().join("fmnist/calib/dataset.txt"), &inputs).unwrap();
    assert_eq!((folder.len(), list.len()), (20, 20));
    assert!(folder.notes().is_empty());
    let labels = testdata().join("fmnist/calib/labels.csv");
    let lines = read_labels(&labels).unwrap();
    assert_eq!(lines.len(), 20);
    for (idx, line) in lines.iter().enumerate() {
        let sample = folder.sample(idx).unwrap();
        assert_eq!(sample, list.sample(idx).unwrap());
        let (name, tensor) = &sample[0];
        assert_eq!((name.as_str(), tensor.shape()), ("input", &[1, 1, 28, 28][..]));
        let raw = image::open(line.path(&labels)).unwrap().into_luma8().into_raw();
        for (got, level) in tensor.as_slice::<f32>().unwrap().iter().zip(raw) {
            assert_eq!(got.to_bits(), ((f32::from(level) - 72.93) / 90.015).to_bits());
        }
    }
}

#[test]
fn lines_of_text_keep_their_height() {
    let recipe = Recipe::read(&testdata().join("ocr_lines/recipe.toml")).unwrap();
    let inputs = [spec("x", &[0, 3, 0, 0], &recipe)];
    let dataset = Dataset::open(&testdata().join("ocr_lines"), &inputs).unwrap();
    assert_eq!(dataset.len(), 8);
    // line_001.png is 69x25: 48 high it is 133 wide, the rest up to 192 is 0.
    let (_, tensor) = &dataset.sample(0).unwrap()[0];
    assert_eq!(tensor.shape(), [1, 3, 48, 192]);
    let row = &tensor.as_slice::<f32>().unwrap()[..192];
    assert!(row[..133].iter().all(|&value| value != 0.0 && value.abs() <= 1.0));
    assert!(row[133..].iter().all(|&value| value == 0.0));
}

#[test]
fn defaults_are_told() {
    let inputs = [plain("x", &[1, 3, 224, 200])];
    let folder = Dataset::open(&testdata().join("ocr_lines"), &inputs).unwrap();
    assert_eq!(
        folder.notes(),
        ["input \"x\": no recipe, images are stretched to 200x224 RGB, values 0..255"]
    );
    assert_eq!(folder.sample(0).unwrap()[0].1.shape(), [1, 3, 224, 200]);
    let gray = Dataset::open(
        &testdata().join("ocr_lines/line_001.png"),
        &[plain("x", &[0, 1, 0, 0])],
    )
    .unwrap();
    assert_eq!(
        gray.notes(),
        ["input \"x\": no recipe, images keep their own size, gray, values 0..255"]
    );
    assert_eq!(gray.sample(0).unwrap()[0].1.shape(), [1, 1, 25, 69]);
}

#[test]
fn arrays_feed_inputs_by_name_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (x, y) = (
        Tensor::new(&[2, 3], vec![1_f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap(),
        Tensor::new(&[2, 2, 1], vec![1_f32, 2.0, 3.0, 4.0]).unwrap(),
    );
    let inputs = [plain("x", &[1, 3]), plain("y", &[2, 1])];
    let second = vec![
        (
            "x".to_owned(),
            Tensor::new(&[1, 3], vec![4_f32, 5.0, 6.0]).unwrap(),
        ),
        ("y".to_owned(), Tensor::new(&[2, 1], vec![3_f32, 4.0]).unwrap()),
    ];
    let arrays = [
        ("y".to_owned(), y.clone()),
        ("x".to_owned(), x.clone()),
        ("z".to_owned(), x.clone()),
    ];
    write_npz(&path("d.npz"), &arrays, Compression::Deflated).unwrap();
    let dataset = Dataset::open(&path("d.npz"), &inputs).unwrap();
    assert_eq!((dataset.len(), dataset.sample(1).unwrap()), (2, second.clone()));
    let note = format!(
        "{:?}: array \"z\" is no input of the model and is ignored",
        path("d.npz")
    );
    assert_eq!(dataset.notes(), [note]);

    write_npy(&path("x.npy"), &x).unwrap();
    write_npy(&path("y.npy"), &y).unwrap();
    let args = [
        format!("y={}", path("y.npy").display()),
        format!("x={}", path("x.npy").display()),
    ];
    let dataset = Dataset::from_args(&args, &inputs).unwrap();
    assert_eq!((dataset.len(), dataset.sample(1).unwrap()), (2, second.clone()));

    write_npy(&path("x 1.npy"), &second[0].1).unwrap();
    write_npy(&path("y1.npy"), &second[1].1).unwrap();
    fs::write(path("d.txt"), "\n\"x 1.npy\" y1.npy\n").unwrap();
    let dataset = Dataset::open(&path("d.txt"), &inputs).unwrap();
    assert_eq!((dataset.len(), dataset.sample(0).unwrap()), (1, second));
}

#[test]
fn arrays_in_memory_are_samples_as_those_of_a_file_are() {
    let inputs = [plain("x", &[1, 3]), plain("y", &[2, 1])];
    let arrays = [
        (
            "y".to_owned(),
            Tensor::new(&[2, 2, 1], vec![1_f32, 2.0, 3.0, 4.0]).unwrap(),
        ),
        (
            "x".to_owned(),
            Tensor::new(&[2, 3], vec![1_f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap(),
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("d.npz");
    write_npz(&file, &arrays, Compression::Stored).unwrap();
    let stored = Dataset::open(&file, &inputs).unwrap();
    let given = Dataset::from_arrays(&arrays, &inputs).unwrap();
    assert_eq!((given.len(), given.file(0)), (2, None));
    for idx in 0..2 {
        assert_eq!(given.sample(idx).unwrap(), stored.sample(idx).unwrap());
    }
    let first = given.first(1);
    assert_eq!(
        (first.len(), first.sample(0).unwrap()),
        (1, given.sample(0).unwrap())
    );
    assert_eq!(given.first(9).len(), 2);
    let fixed = [plain("x", &[2, 3])];
    let batch = Dataset::from_arrays(&arrays[1..], &fixed)
        .unwrap()
        .batch(0)
        .unwrap();
    assert_eq!((batch.n_samples, &batch.inputs[0].1), (1, &arrays[1].1));
    let error = |name: &str, tensor: Tensor| {
        Dataset::from_arrays(&[(name.to_owned(), tensor)], &inputs[..1])
            .unwrap_err()
            .to_string()
    };
    let rows = |n| Tensor::new(&[n, 3], vec![f32::NAN; n * 3]).unwrap();
    let cases = [
        (error("z", rows(1)), "the model has no input \"z\""),
        (
            error("x", Tensor::new(&[1, 3], vec![1_f64; 3]).unwrap()),
            "\"given array\", input \"x\": wrong dtype, expected float32, got float64; convert it, or set dtype = \"float64\" in \
             [input.x] of the recipe",
        ),
        (
            error("x", rows(0)),
            "\"given array\" holds no samples, expected a leading axis of at least 1",
        ),
    ];
    for (text, expected) in cases {
        assert!(text.starts_with(expected), "{text}");
    }
    let finite = Dataset::from_arrays(&[("x".to_owned(), rows(2))], &inputs[..1]).unwrap();
    assert_eq!(
        finite.sample(1).unwrap_err().to_string(),
        "\"given array\", input \"x\": sample 1: 3 values are NaN or infinite, expected finite numbers"
    );
}

#[test]
fn each_refusal_of_a_dataset_has_its_text() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display().to_string();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
    fs::create_dir(path("empty")).unwrap();
    fs::create_dir(path("pictures")).unwrap();
    for name in ["pictures/a.png", "b.jpg"] {
        write(name, "no picture");
    }
    write("a.xyz", "");
    write("blank.txt", "\n \n");
    write("missing.txt", "b.jpg\nnone.jpg\n");
    write("undecodable.txt", "\nb.jpg\n");
    write("quote.txt", "'b.jpg\n");
    write("two.txt", "b.jpg b.jpg\n");
    write("kind.txt", "a.xyz\n");
    write("many.txt", "many.npy\n");
    write("broken.txt", "broken.npy\n");
    write("broken.npy", "nothing at all");
    let floats = |shape: &[usize]| Tensor::new(shape, vec![0.5_f32; shape.iter().product()]).unwrap();
    write_npy(&path("many.npy"), &floats(&[2, 3, 4, 4])).unwrap();
    write_npy(&path("none.npy"), &floats(&[0, 3, 4, 4])).unwrap();
    write_npy(&path("shape.npy"), &floats(&[2, 5])).unwrap();
    write_npy(
        &path("double.npy"),
        &Tensor::new(&[1, 3, 4, 4], vec![0.5_f64; 48]).unwrap(),
    )
    .unwrap();
    let mut values = vec![0.5_f32; 96];
    values[95] = f32::NAN;
    write_npy(&path("nan.npy"), &Tensor::new(&[2, 3, 4, 4], values).unwrap()).unwrap();
    let arrays = [("images".to_owned(), floats(&[1, 3, 4, 4]))];
    write_npz(&path("a.npz"), &arrays, Compression::Stored).unwrap();

    struct Case {
        file: &'static str,
        inputs: Vec<InputSpec>,
        error: &'static str,
    }
    let one = || vec![plain("image", &[1, 3, 4, 4])];
    let two = || vec![plain("a", &[1, 3, 4, 4]), plain("b", &[1, 3, 4, 4])];
    #[rustfmt::skip]
    let cases = [
        Case { file: "none", inputs: one(), error: "\"{root}/none\" does not exist" },
        Case { file: "a.xyz", inputs: one(), error: "\"{root}/a.xyz\" is of unknown kind, expected a folder, .txt, .npy, .npz, .safetensors, .jpg, .png or .bmp" },
        Case { file: "empty", inputs: one(), error: "\"{root}/empty\" holds no samples, expected jpg, png or bmp files" },
        Case { file: "blank.txt", inputs: one(), error: "\"{root}/blank.txt\" holds no samples, expected a line for each sample" },
        Case { file: "none.npy", inputs: one(), error: "\"{root}/none.npy\" holds no samples, expected a leading axis of at least 1" },
        Case { file: "missing.txt", inputs: one(), error: "{root}/missing.txt:2: \"none.jpg\" does not exist" },
        Case { file: "undecodable.txt", inputs: one(), error: "{root}/undecodable.txt:2: \"b.jpg\" cannot be decoded: not a jpg, png or bmp picture" },
        Case { file: "quote.txt", inputs: one(), error: "{root}/quote.txt:1: a quote is not closed, expected '" },
        Case { file: "two.txt", inputs: one(), error: "{root}/two.txt:1: wrong number of files, expected 1 (\"image\"), got 2" },
        Case { file: "kind.txt", inputs: one(), error: "{root}/kind.txt:1: \"a.xyz\" is of unknown kind, expected .jpg, .png, .bmp, .npy, .npz or .safetensors" },
        Case { file: "many.txt", inputs: one(), error: "{root}/many.txt:1: \"many.npy\" holds 2 samples, expected 1 a line" },
        Case { file: "broken.txt", inputs: one(), error: "{root}/broken.txt:1: \"{root}/broken.npy\": not a NumPy array" },
        Case { file: "broken.npy", inputs: one(), error: "\"{root}/broken.npy\": not a NumPy array" },
        Case { file: "b.jpg", inputs: vec![plain("bytes", &[0, 2048])], error: "\"{root}/b.jpg\": pictures cannot feed input \"bytes\": its shape is [?, 2048], expected 4 dimensions; use an array (.npy, .npz, .safetensors)" },
        Case { file: "pictures", inputs: two(), error: "\"{root}/pictures\" feeds one input, expected 2 (\"a\", \"b\"); use dataset.txt" },
        Case { file: "b.jpg", inputs: two(), error: "\"{root}/b.jpg\" feeds one input, expected 2 (\"a\", \"b\"); name each file's input with NAME=FILE, or use dataset.txt" },
        Case { file: "a.npz", inputs: one(), error: "\"{root}/a.npz\" has no array \"image\" for the input of that name, it holds \"images\", did you mean \"images\"?" },
        Case { file: "shape.npy", inputs: one(), error: "\"{root}/shape.npy\", input \"image\": wrong shape, expected [1, 3, 4, 4] (or a leading axis of samples before it), got [2, 5]" },
        Case { file: "double.npy", inputs: one(), error: "\"{root}/double.npy\", input \"image\": wrong dtype, expected float32, got float64; convert it, or set dtype = \"float64\" in [input.image] of the recipe" },
        Case { file: "nan.npy", inputs: one(), error: "\"{root}/nan.npy\", input \"image\": sample 1: 1 value is NaN or infinite, expected finite numbers" },
    ];
    for Case { file, inputs, error } in cases {
        let read_all =
            |dataset: Dataset| (0..dataset.len()).try_for_each(|idx| dataset.sample(idx).map(drop));
        let result = Dataset::open(&path(file), &inputs).and_then(read_all);
        assert_eq!(
            result.unwrap_err().to_string(),
            error.replace("{root}", &root),
            "{file}"
        );
    }
}

#[test]
fn each_refusal_of_arguments_has_its_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (name, n) in [("one.npy", 1), ("two.npy", 2)] {
        let tensor = Tensor::new(&[n, 3], vec![0_f32; 3 * n]).unwrap();
        write_npy(Path::new(&path(name)), &tensor).unwrap();
    }
    let inputs = [plain("first", &[1, 3]), plain("second", &[1, 3])];
    struct Case {
        args: Vec<String>,
        error: &'static str,
    }
    let cases = [
        Case {
            args: vec![format!("frst={}", path("one.npy"))],
            error: "the model has no input \"frst\", did you mean \"first\"?",
        },
        Case {
            args: vec![format!("first={}", path("one.npy"))],
            error: "input \"second\" gets no file, give it with second=FILE",
        },
        Case {
            args: vec![
                format!("first={}", path("one.npy")),
                format!("second={}", path("two.npy")),
            ],
            error: "input \"second\" has 2 samples, expected 1 as input \"first\" has",
        },
    ];
    for Case { args, error } in cases {
        assert_eq!(Dataset::from_args(&args, &inputs).unwrap_err().to_string(), error);
    }
    let refused = SampleError::Read {
        place: SamplePlace {
            list: Some("d.txt:1".to_owned()),
            file: "a.png".to_owned(),
        },
        source: std::io::Error::new(std::io::ErrorKind::PermissionDenied, "permission denied"),
    };
    assert_eq!(
        refused.to_string(),
        "d.txt:1: \"a.png\" cannot be read: permission denied"
    );
}

#[test]
fn samples_of_a_fixed_batch_are_grouped() {
    let recipe = Recipe::default();
    let inputs = [spec("x", &[3, 1, 28, 28], &recipe)];
    let folder = Dataset::open(&testdata().join("fmnist/calib"), &inputs).unwrap();
    assert_eq!((folder.len(), folder.n_batches()), (20, 7));
    let last = folder.batch(6).unwrap();
    assert_eq!((last.first, last.n_samples), (18, 2));
    let x = &last.inputs[0].1;
    assert_eq!(x.shape(), [3, 1, 28, 28]);
    let samples: Vec<Tensor> = (18..20)
        .map(|idx| folder.sample(idx).unwrap()[0].1.clone())
        .collect();
    assert_eq!(last.split(x), samples);

    let temporary = tempfile::tempdir().unwrap();
    let path = |name: &str| temporary.path().join(name);
    let array = |n: usize| Tensor::new(&[n, 2], vec![0.5_f32; 2 * n]).unwrap();
    write_npy(&path("rows.npy"), &array(5)).unwrap();
    write_npy(&path("whole.npy"), &array(3)).unwrap();
    let opened = |name: &str, inputs: &[InputSpec]| Dataset::open(&path(name), inputs).unwrap();
    let rows = opened("rows.npy", &[plain("x", &[3, 2])]);
    assert_eq!((rows.len(), rows.n_batches()), (5, 2));
    let whole = opened("whole.npy", &[plain("x", &[3, 2])]);
    assert_eq!((whole.len(), whole.n_batches()), (1, 1), "a whole batch as it is");
    assert_eq!(whole.batch(0).unwrap().inputs[0].1, array(3));
    let args = ["x", "y"].map(|name| format!("{name}={}", path("rows.npy").display()));
    let two = |y: &[usize]| Dataset::from_args(&args, &[plain("x", &[3, 2]), plain("y", y)]);
    assert_eq!(
        two(&[0, 2]).unwrap().batch(1).unwrap().inputs[1].1.shape(),
        [3, 2]
    );
    assert_eq!(
        two(&[4, 2]).unwrap_err().to_string(),
        "input \"y\" takes 4 samples at once, expected 3 as input \"x\" does"
    );
}

#[test]
fn the_recipe_feeds_inputs_without_files() {
    let recipe = Recipe::parse("[input.state]\nvalue = 0\n[input.rate]\nvalue = 16", "").unwrap();
    let inputs = [
        spec("state", &[2, 0, 4], &recipe),
        spec("x", &[0, 1, 28, 28], &recipe),
        spec("rate", &[], &recipe),
    ];
    let folder = Dataset::open(&testdata().join("fmnist/calib"), &inputs).unwrap();
    assert_eq!(folder.len(), 20);
    let batch = folder.batch(19).unwrap();
    assert_eq!(
        batch.inputs[0].1,
        Tensor::new(&[2, 1, 4], vec![0_f32; 8]).unwrap()
    );
    assert_eq!(batch.inputs[1].1.shape(), [1, 1, 28, 28]);
    assert_eq!(batch.inputs[2].1, Tensor::scalar(16_f32));
    let list = Dataset::open(&testdata().join("fmnist/calib/dataset.txt"), &inputs).unwrap();
    assert_eq!(list.batch(3).unwrap(), folder.batch(3).unwrap());

    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("d.npz");
    let x = Tensor::new(&[2, 1, 28, 28], vec![0.5_f32; 2 * 28 * 28]).unwrap();
    let arrays = [
        ("x".to_owned(), x),
        ("rate".to_owned(), Tensor::vector(vec![1_f32; 2])),
    ];
    write_npz(&path, &arrays, Compression::Stored).unwrap();
    let dataset = Dataset::open(&path, &inputs).unwrap();
    assert_eq!(dataset.len(), 2);
    assert_eq!(
        dataset.notes(),
        [format!(
            "{path:?}: array \"rate\" is ignored, the recipe feeds value = 16"
        )]
    );
    let args = [format!("rate={}", path.display())];
    assert_eq!(
        Dataset::from_args(&args, &inputs).unwrap_err().to_string(),
        format!("{path:?} feeds input \"rate\", which the recipe feeds with value = 16; remove one of them")
    );
}
