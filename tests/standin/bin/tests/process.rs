//! The binary as its callers use it: a line that says where it listens, and an end on request.

#![allow(
    clippy::expect_used,
    reason = "what a test finds wrong it says by panicking"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_thalweg-standin"))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let address = line
            .trim_end()
            .strip_prefix("listening on http://")
            .expect("where");
        Self {
            address: address.to_owned(),
            child,
        }
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ))
    }

    /// Ends it by a signal; its exit status.
    fn end(mut self, signal: &str) -> Option<i32> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([signal, &id])
            .status()
            .expect("kill");
        assert!(sent.success());
        self.child.wait().expect("ended").code()
    }
}

#[test]
fn each_service_says_where_it_listens_and_ends_on_request() {
    for (service, signal) in [("cosmos", "-TERM"), ("adx", "-INT")] {
        let running = Running::start(&[service, "--listen", "127.0.0.1:0"]);
        assert!(running.get("/__health").ends_with("ok"), "{service}");
        assert_eq!(running.end(signal), Some(0), "{service}");
    }
}

#[test]
fn the_ledger_outlives_the_process_and_faults_come_from_a_file() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (ledger, faults) = (path("ledger.jsonl"), path("faults.json"));
    std::fs::write(&faults, r#"[{"action":{"status":503},"count":1}]"#).expect("written");
    for round in 0..2 {
        let running = Running::start(&[
            "cosmos",
            "--ledger",
            &ledger,
            "--faults",
            &faults,
            "--create",
            "db/c:/pk:1000",
        ]);
        assert!(running.get("/").starts_with("HTTP/1.1 503"));
        assert!(
            running.get("/").starts_with("HTTP/1.1 401"),
            "the fault came once"
        );
        assert_eq!(running.end("-TERM"), Some(0));
        let lines = std::fs::read_to_string(&ledger).expect("a ledger");
        let last = lines.lines().last().expect("entries");
        assert!(
            last.starts_with(&format!("{{\"number\":{}", round * 2 + 1)),
            "{last}"
        );
    }
}

#[test]
fn what_cannot_be_created_is_told() {
    let out = Command::new(env!("CARGO_BIN_EXE_thalweg-standin"))
        .args(["cosmos", "--create", "nonsense"])
        .output()
        .expect("the binary starts");
    assert!(!out.status.success());
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(errors.contains("DB/CONTAINER:/PARTITION_KEY"), "{errors}");
}
