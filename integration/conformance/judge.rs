//! Calls the judges: recorded requests to check_requests.py, a running world to drive_world.py, moto behind run_moto.py.
//!
//! A judge prints one line per finding and exits with 1; here that becomes a `Verdict`, and a test asserts on it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::venv::venv;

/// The credentials that requests may be signed with.
#[derive(Clone, Copy, Debug)]
pub struct Secret<'a> {
    /// `AKIDEXAMPLE`.
    pub access_key_id: &'a str,
    /// The key that signs.
    pub secret: &'a str,
    /// The session token that must come along, with an instance role's credentials.
    pub session_token: Option<&'a str>,
}

/// What a judge said.
#[derive(Debug)]
pub struct Verdict {
    /// Whether it found nothing.
    pub fine: bool,
    /// Its lines.
    pub said: String,
}

impl Verdict {
    /// The lines that are no `ok`: findings, and what a judge wrote to standard error.
    pub fn findings(&self) -> Vec<&str> {
        self.said
            .lines()
            .filter(|line| !line.starts_with("ok "))
            .collect()
    }
}

/// Judges requests by botocore's service models and signer. `lines` as `Ec2World::requests_json` gives them.
pub fn check_requests(lines: &str, secrets: &[Secret<'_>]) -> Verdict {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(lines.as_bytes())
        .expect("the temporary file takes the lines");
    let mut command = script("check_requests.py");
    command.arg(file.path());
    for secret in secrets {
        let token = secret
            .session_token
            .map(|token| format!("={token}"))
            .unwrap_or_default();
        command.args([
            "--secret",
            &format!("{}={}{token}", secret.access_key_id, secret.secret),
        ]);
    }
    run(&mut command)
}

/// Drives a world with boto3 and the aws command. `parts`: imds, sqs, autoscaling, s3, cli; `env` as drive_world.py's head says.
pub fn drive_world(parts: &[&str], env: &[(String, String)]) -> Verdict {
    run(script("drive_world.py")
        .args(parts)
        .envs(env.iter().cloned()))
}

/// A judge by its file name, with the environment's python and nothing of the caller's AWS settings.
pub fn script(name: &str) -> Command {
    let mut command = Command::new(venv());
    command
        .arg(folder().join(name))
        .current_dir(folder())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_"))
    {
        command.env_remove(name);
    }
    command
}

/// Runs a judge to its end.
pub fn run(command: &mut Command) -> Verdict {
    let ran = command.output().expect("the environment's python runs");
    let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    Verdict {
        fine: ran.status.success(),
        said,
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/conformance")
}

/// moto's server with a bucket, a queue, a topic and a rule, as run_moto.py's head says. Ends when dropped.
pub struct Moto {
    child: Child,
    answers: BufReader<ChildStdout>,
    told: Value,
}

impl Moto {
    /// Starts it on a free port and waits until it listens.
    pub fn start() -> Moto {
        let mut child = script("run_moto.py")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run_moto.py starts");
        let mut answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let told = answer(&mut answers);
        Moto {
            child,
            answers,
            told,
        }
    }

    /// `endpoint`, `region`, `bucket`, `queue_url`, `topic_arn` or `rule`.
    pub fn told(&self, name: &str) -> &str {
        self.told[name]
            .as_str()
            .expect("run_moto.py tells this name")
    }

    /// Sends a hook's message: `form` is direct, sns, eventbridge or test. Names may not hold blanks unless percent-encoded.
    pub fn send(&mut self, form: &str, instance: &str, group: &str, hook: &str, token: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin, "send {form} {instance} {group} {hook} {token}")
            .expect("run_moto.py reads commands");
        assert_eq!(answer(&mut self.answers)["sent"], form);
    }

    /// Every object in the bucket with its bytes, and how many messages the queue holds.
    pub fn objects(&mut self) -> (Vec<(String, Vec<u8>)>, u64) {
        let stdin = self.child.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin, "objects").expect("run_moto.py reads commands");
        let told = answer(&mut self.answers);
        let decode = |body: &Value| {
            STANDARD
                .decode(body.as_str().expect("text"))
                .expect("base64")
        };
        let objects = told["objects"].as_object().expect("an object");
        let objects = objects
            .iter()
            .map(|(key, body)| (key.clone(), decode(body)))
            .collect();
        (objects, told["messages"].as_u64().expect("a number"))
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.child.stdin.take()); // its word to end
        if self.child.wait().is_err() {
            eprintln!("run_moto.py did not end");
        }
    }
}

fn answer(answers: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    answers.read_line(&mut line).expect("run_moto.py answers");
    serde_json::from_str(&line)
        .expect("run_moto.py answers in JSON; its complaint is on standard error")
}
