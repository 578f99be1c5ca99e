//! A folder of its own for each test, with a model and its data, and the program run in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// `analyze` of the model of every sandbox, without the passes that take time; more arguments may follow.
pub(crate) const ANALYZE: &str = "analyze model.onnx --target rk3588 --dataset calib --recipe recipe.toml \
                                  --algorithm min_max --optimization-level 1 --input test";
/// `build` of it.
pub(crate) const BUILD: &str = "build model.onnx --target rk3588 --dataset calib --recipe recipe.toml \
                                --algorithm min_max --optimization-level 1";
/// `infer` of it.
pub(crate) const INFER: &str = "infer model.onnx --recipe recipe.toml --input test";

/// A folder with `model.onnx`, `recipe.toml`, `calib/` and `test/`.
pub(crate) struct Sandbox {
    folder: TempDir,
}

/// What a run left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    /// The sandbox of fmnist_mbv2.
    pub(crate) fn new() -> Self {
        Self::of("fmnist_mbv2.onnx", "fmnist")
    }

    /// The sandbox of a model and a data folder of the repository.
    pub(crate) fn of(model: &str, data: &str) -> Self {
        let sandbox = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
        std::fs::copy(testdata.join("models").join(model), sandbox.path("model.onnx")).unwrap();
        copy_folder(&testdata.join(data), sandbox.folder.path());
        sandbox
    }

    /// The path of a file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// The bytes of a file.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The text of a file.
    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    /// Every file and folder below, sorted.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path.clone());
                }
                found.push(path);
            }
        }
        found.sort();
        found
    }

    /// The program in the folder; arguments are separated by spaces.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qloupe"));
        command
            .current_dir(self.folder.path())
            .args(arguments.split_whitespace())
            .stdin(Stdio::null());
        command.env_remove("QLOUPE_ISA").env_remove("RUST_BACKTRACE");
        command
    }

    /// Runs the program.
    pub(crate) fn run(&self, arguments: &str) -> Outcome {
        run(&mut self.command(arguments))
    }

    /// Runs the program and expects success.
    pub(crate) fn succeed(&self, arguments: &str) -> String {
        let outcome = self.run(arguments);
        assert_eq!(outcome.status, Some(0), "qloupe {arguments}\n{}", outcome.stderr);
        outcome.stdout
    }

    /// Runs the program and expects it to fail with exactly this text, to print nothing and to leave no file.
    pub(crate) fn refuse(&self, arguments: &str, text: &str) {
        let before = self.files();
        let expected = Outcome {
            status: Some(2),
            stdout: String::new(),
            stderr: format!("error: {text}\n"),
        };
        assert_eq!(self.run(arguments), expected, "qloupe {arguments}");
        assert_eq!(self.files(), before, "qloupe {arguments} left or removed a file");
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
