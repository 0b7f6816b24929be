//! The Python environment that the judges run in: made by the tests themselves, under the target folder, once.
//!
//! It is reused while `requirements.txt` and the python3 that made it stay the same. Several test processes may ask at once: a
//! file lock lets one of them build and the others wait.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

/// Pinned: AWS's clients and models, and moto.
const REQUIREMENTS: &str = include_str!("requirements.txt");

/// The python of the environment, ready to run a judge. Panics with one sentence where a piece is missing.
pub fn venv() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| make_or_reuse().unwrap_or_else(|missing| panic!("{missing}")))
}

fn make_or_reuse() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("conformance-venv");
    let python = folder.join("bin/python");
    let stamp = folder.join("requirements.sha256");
    let wanted = format!("{}\n{}", fingerprint(), system_python()?);
    let lock = File::create(folder.with_extension("lock"))
        .map_err(|e| format!("cannot make a lock beside {}: {e}", folder.display()))?;
    lock.lock()
        .map_err(|e| format!("cannot lock {}: {e}", folder.display()))?;
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) && runs(&python) {
        return Ok(python);
    }
    let text = folder.to_string_lossy();
    step(
        Command::new("python3").args(["-m", "venv", "--clear", &text]),
        "python3 cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)",
    )?;
    let list =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/conformance/requirements.txt");
    step(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--no-input",
                "--disable-pip-version-check",
                "-q",
                "-r",
            ])
            .arg(list),
        "pip cannot install the conformance tests' requirements",
    )?;
    fs::write(&stamp, wanted).map_err(|e| format!("cannot write {}: {e}", stamp.display()))?;
    Ok(python)
}

fn fingerprint() -> String {
    Sha256::digest(REQUIREMENTS)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The version of the python3 on the path, which must be one that AWS's clients still support.
fn system_python() -> Result<String, String> {
    let code = "import sys; print('.'.join(map(str, sys.version_info[:3]))); sys.exit(sys.version_info < (3, 10))";
    let asked = Command::new("python3").args(["-c", code]).output();
    let asked = asked.map_err(|_| {
        "python3 is missing: the conformance tests need Python 3.10 or newer".to_owned()
    })?;
    let version = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    match asked.status.success() {
        true => Ok(version),
        false => Err(format!(
            "python3 is {version}: the conformance tests need Python 3.10 or newer"
        )),
    }
}

fn runs(python: &Path) -> bool {
    let asked = Command::new(python)
        .args(["-c", "import boto3, moto"])
        .output();
    asked.is_ok_and(|asked| asked.status.success())
}

/// Runs one command; where it fails, the sentence and its last line of complaint.
fn step(command: &mut Command, sentence: &str) -> Result<Output, String> {
    let ran = command.output().map_err(|e| format!("{sentence}: {e}"))?;
    if ran.status.success() {
        return Ok(ran);
    }
    let said = [ran.stderr.as_slice(), ran.stdout.as_slice()].concat();
    let said = String::from_utf8_lossy(&said);
    let line = said
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("no reason given");
    Err(format!("{sentence}: {line}"))
}
