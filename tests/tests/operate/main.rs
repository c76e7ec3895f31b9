//! A job as who operates it meets it: the real binary, its HTTP interface, its store and its files.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed expectation ends a test, and one that is skipped says so"
)]

mod alerts;
mod blamed;
mod blocked;
mod changes;
mod cuts;
mod export;
mod fates;
mod fleet;
mod golden;
mod hosts;
mod letters;
mod migrated;
mod processes;
mod restarts;
mod running;
mod savepoints;
mod services;
mod starting;
mod store;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use thalweg_tests::process::{binary, until};

fn thalweg() -> Command {
    Command::new(binary("thalweg"))
}

/// A definition in a folder of its own.
struct Job {
    folder: tempfile::TempDir,
}

impl Job {
    fn new(definition: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("job.yaml"), definition).expect("the definition");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts `thalweg run` with its output piped.
    fn start(&self, arguments: &[&str]) -> Process {
        let mut command = thalweg();
        command
            .arg("run")
            .arg(self.path("job.yaml"))
            .args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Process(Some(command.spawn().expect("the binary starts")))
    }

    /// `thalweg checkpoint ACTION` on the job's store.
    fn checkpoint(&self, arguments: &[&str]) -> Output {
        let mut command = thalweg();
        command
            .arg("checkpoint")
            .arg(arguments[0])
            .arg(self.path("checkpoints"));
        command.args(&arguments[1..]).arg("--json");
        command.output().expect("the binary starts")
    }

    /// The texts of the published files of a folder.
    fn texts(&self, folder: &str) -> Vec<String> {
        (std::fs::read_dir(self.path(folder)).expect("a folder"))
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.is_file())
            .map(|path| std::fs::read_to_string(path).expect("text"))
            .collect()
    }

    /// All lines of the published files of a folder.
    fn lines(&self, folder: &str) -> Vec<Value> {
        let texts = self.texts(folder);
        texts.iter().flat_map(|text| parsed(text)).collect()
    }
}

fn parsed(text: &str) -> impl Iterator<Item = Value> {
    (text.lines()).map(|line| serde_json::from_str(line).expect("JSON"))
}

fn read_lines(path: &Path) -> Vec<Value> {
    parsed(&std::fs::read_to_string(path).expect("text")).collect()
}

fn json(output: &Output) -> Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A process that does not outlive its test.
struct Process(Option<Child>);

impl Process {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it has not ended")
    }

    fn signal(&mut self, name: &str) {
        let id = self.child().id().to_string();
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(id)
            .status();
        assert!(sent.expect("kill").success(), "signal {name}");
    }

    /// Waits for its end: exit status, and what it said on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let mut child = self.0.take().expect("it has not ended");
        let (mut said, mut out) = (String::new(), String::new());
        // It ends by itself or by a signal; what it says is little enough for a pipe.
        let mut status = None;
        until("the process ends", || {
            status = child.try_wait().expect("a child of ours");
            status.is_some()
        });
        child
            .stderr
            .take()
            .expect("piped")
            .read_to_string(&mut said)
            .expect("text");
        child
            .stdout
            .take()
            .expect("piped")
            .read_to_string(&mut out)
            .expect("text");
        (status.and_then(|status| status.code()), said + &out)
    }

    /// The address it says it listens at.
    fn address(&mut self) -> String {
        let stderr = self.child().stderr.as_mut().expect("piped");
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            assert_eq!(stderr.read(&mut byte).expect("readable"), 1, "it has ended");
            match byte[0] {
                b'\n' => {
                    let said = String::from_utf8(std::mem::take(&mut line)).expect("text");
                    if let Some((_, address)) = said.split_once("listening on http://") {
                        break address.trim().to_owned();
                    }
                }
                byte => line.push(byte),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Status and body of a GET.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

fn status(address: &str) -> Value {
    let (code, body) = get(address, "/status");
    assert_eq!(code, 200);
    serde_json::from_str(&body).expect("JSON")
}
