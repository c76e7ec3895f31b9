//! Apache Kafka for tests: one broker on ports of its own, and what tests ask of it.
//!
//! ```no_run
//! use thalweg_tests::kafka::Broker;
//!
//! let mut broker = Broker::start();
//! broker.create("reports", 4);
//! // Line n goes to partition n modulo 4, compressed by lz4; half a million lines a second.
//! broker.produce_lines("reports", 4, std::path::Path::new("reports.jsonl"));
//! let definition = format!("kafka: {{ brokers: \"{}\", topic: reports }}", broker.address());
//! broker.kill(); // SIGKILL to the broker alone
//! broker.restart(); // the same ports, the same data
//! drop(broker); // ends it; it ends too if this process, or all of its group, is killed
//! ```
//!
//! The broker is started by `tests/services/kafka/broker`; `scripts/setup test` fetches its jars.
//! Start one per test binary and give every test a topic of its own: a start takes some 5 s.
//! What it is asked goes through Apache's own clients (`tests/services/kafka/Tool.java`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// The password of the user `$ConnectionString`, by the form that Event Hubs gives it.
pub const PASSWORD: &str =
    "Endpoint=sb://localhost/;SharedAccessKeyName=test;SharedAccessKey=dGhhbHdlZy10ZXN0LWtleQ==";

/// A running broker; dropping it ends it.
#[derive(Debug)]
pub struct Broker {
    folder: tempfile::TempDir,
    ports: [u16; 4],
    pid: Option<u32>,
    tool: Tool,
}

impl Broker {
    /// Starts a broker, or says that Kafka is not installed and the test is skipped. Where nothing
    /// may be skipped (`THALWEG_NO_SKIPS`), that is a failure.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_if_installed() -> Option<Self> {
        is_installed().then(Self::start)
    }

    /// Starts a broker with an empty data folder, and waits until it serves.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut refused = String::new();
        // A port that was free a moment ago may have gone to somebody else.
        for _ in 0..3 {
            let ports = free_ports();
            match launch(folder.path(), ports) {
                Ok(pid) => {
                    let mut tool = Tool::start();
                    tool.ask(&json!({ "guard": pid }));
                    let pid = Some(pid);
                    return Self {
                        folder,
                        ports,
                        pid,
                        tool,
                    };
                }
                Err(said) => refused = said,
            }
        }
        panic!("no broker: {refused}");
    }

    /// The address for clients, without TLS and without a password.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// The address for clients by TLS, user `$ConnectionString` with [`PASSWORD`].
    #[must_use]
    pub fn tls_address(&self) -> String {
        format!("localhost:{}", self.ports[1])
    }

    /// The address for clients that show a certificate by TLS.
    #[must_use]
    pub fn mutual_address(&self) -> String {
        format!("localhost:{}", self.ports[3])
    }

    /// A client's certificate and its key.
    #[must_use]
    pub fn certificate(&self) -> (PathBuf, PathBuf) {
        let tls = self.folder.path().join("tls");
        (tls.join("client.pem"), tls.join("client.key"))
    }

    /// Makes a user who signs in by `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn add_user(&mut self, user: &str, mechanism: &str, password: &str) {
        self.ask(json!({ "user": user, "mechanism": mechanism, "password": password }));
    }

    /// The segment file of a partition in which its first records lie.
    #[must_use]
    pub fn segment(&self, topic: &str, partition: u32) -> PathBuf {
        let log = self.folder.path().join("log");
        let folder = log.join(format!("{topic}-{partition}"));
        folder.join("00000000000000000000.log")
    }

    /// The certificate of the authority that has signed the broker's.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("tls/ca.pem")
    }

    /// Ends the broker by SIGKILL, and waits until it is gone.
    ///
    /// # Panics
    /// If it is not running, or does not end.
    pub fn kill(&mut self) {
        let pid = self.pid.take().expect("a running broker");
        end(pid);
    }

    /// Has the broker answer nobody, though its connections stay open, until it is thawed.
    ///
    /// # Panics
    /// If it is not running.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Has a frozen broker go on.
    ///
    /// # Panics
    /// If it is not running.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.pid.expect("a running broker");
        let mut kill = Command::new("kill");
        let kill = kill.arg(format!("-{name}")).arg(pid.to_string());
        assert!(kill.status().expect("kill").success(), "signal {name}");
    }

    /// Starts the broker again on its data.
    ///
    /// # Panics
    /// If it runs, or does not start.
    pub fn restart(&mut self) {
        assert_eq!(self.pid, None, "the broker runs");
        let pid = launch(self.folder.path(), self.ports).expect("the broker starts again");
        self.tool.ask(&json!({ "guard": pid }));
        self.pid = Some(pid);
    }

    /// Creates a topic.
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn create(&mut self, topic: &str, partitions: u32) {
        self.create_with(topic, partitions, &json!({}));
    }

    /// Creates a topic with settings such as `{ "cleanup.policy": "compact" }`.
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn create_with(&mut self, topic: &str, partitions: u32, config: &Value) {
        self.ask(json!({ "create": topic, "partitions": partitions, "config": config }));
    }

    /// Adds partitions to a topic until it has so many.
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn grow(&mut self, topic: &str, partitions: u32) {
        self.ask(json!({ "grow": topic, "partitions": partitions }));
    }

    /// Deletes a topic.
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn delete(&mut self, topic: &str) {
        self.ask(json!({ "delete": topic }));
    }

    /// Deletes the records of a partition before `offset`, as retention does.
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn trim(&mut self, topic: &str, partition: u32, offset: u64) {
        self.ask(json!({ "trim": topic, "partition": partition, "offset": offset }));
    }

    /// The end offset of each partition.
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn ends(&mut self, topic: &str) -> Vec<u64> {
        let ends = self.ask(json!({ "ends": topic }));
        serde_json::from_value(ends).expect("numbers")
    }

    /// The offset that a group has committed for each partition.
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn committed(&mut self, topic: &str, group: &str) -> Vec<Option<u64>> {
        let offsets = self.ask(json!({ "committed": topic, "group": group }));
        serde_json::from_value(offsets).expect("numbers or nulls")
    }

    /// Commits an offset for each partition in the name of a group.
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn commit(&mut self, topic: &str, group: &str, offsets: &[u64]) {
        self.ask(json!({ "commit": topic, "group": group, "offsets": offsets }));
    }

    /// Writes each line of a file as a record, line `n` to partition `n` modulo `partitions`,
    /// compressed by lz4. Returns how many there were.
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn produce_lines(&mut self, topic: &str, partitions: u32, file: &Path) -> u64 {
        let sent = self.ask(json!({ "lines": topic, "partitions": partitions, "file": file }));
        sent.as_u64().expect("a number")
    }

    /// The same, compressed by `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn produce_compressed(&mut self, topic: &str, file: &Path, compression: &str) {
        self.ask(json!({ "lines": topic, "file": file, "compression": compression }));
    }

    /// Writes records: objects of `partition`, `key`, `value` (text or null), `headers` (an object)
    /// and `timestamp` (milliseconds).
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn produce(&mut self, topic: &str, records: &[Value]) {
        self.transact(topic, records, "");
    }

    /// Writes records in one transaction, which ends by `commit` or `abort`.
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn transact(&mut self, topic: &str, records: &[Value], end: &str) {
        let file = self.folder.path().join("records.jsonl");
        let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
        std::fs::write(&file, lines).expect("a file");
        self.ask(json!({ "records": topic, "file": file, "transaction": end }));
    }

    fn ask(&mut self, mut command: Value) -> Value {
        command["broker"] = json!(self.address());
        self.tool.ask(&command)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(pid) = self.pid.take() {
            end(pid);
        }
    }
}

/// Apache's clients, in a process that takes commands.
#[derive(Debug)]
struct Tool {
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Tool {
    fn start() -> Self {
        let mut process = Command::new(script())
            .arg("tool")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the tool starts");
        let commands = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        Self {
            process,
            commands,
            answers,
        }
    }

    fn ask(&mut self, command: &Value) -> Value {
        let commands = self.commands.as_mut().expect("open until dropped");
        writeln!(commands, "{command}").expect("the tool listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the tool answers");
        let mut answer: Value = serde_json::from_str(&line).expect("an answer of the tool");
        match answer.get("error") {
            Some(error) => panic!("{command}: {error}"),
            None => answer["ok"].take(),
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        drop(self.commands.take());
        self.process.wait().ok();
    }
}

/// Whether there is a broker to be started; says so if not.
#[allow(clippy::print_stderr, reason = "words to whoever runs the tests")]
fn is_installed() -> bool {
    let ready = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/kafka/ready");
    let installed = ready.exists() || std::env::var_os("THALWEG_NO_SKIPS").is_some();
    if !installed {
        eprintln!("skipped: Kafka is not installed; scripts/setup test does that");
    }
    installed
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("services/kafka/broker")
}

/// Runs `broker start`; the process id of the broker, or what the script said.
fn launch(folder: &Path, ports: [u16; 4]) -> Result<u32, String> {
    let started = Command::new(script())
        .arg("start")
        .arg(folder)
        .args(ports.map(|port| port.to_string()))
        .env("KAFKA_PASSWORD", PASSWORD)
        .output()
        .expect("the script runs");
    let said = String::from_utf8_lossy(&started.stdout);
    match said.trim().parse() {
        Ok(pid) => Ok(pid),
        Err(_) => Err(String::from_utf8_lossy(&started.stderr).into_owned()),
    }
}

/// Ends a process by SIGKILL and waits until it is gone.
fn end(pid: u32) {
    Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .ok();
    let status = PathBuf::from(format!("/proc/{pid}/status"));
    for _ in 0..1000 {
        // It is nobody's child that waits for it, so it may stay behind as a zombie.
        let running = std::fs::read_to_string(&status).is_ok_and(|status| {
            !status
                .lines()
                .any(|line| line.starts_with("State:\tZ") || line.starts_with("State:\tX"))
        });
        if !running {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("process {pid} does not end");
}

/// Four free ports below those that the system gives to outgoing connections, so that they are
/// still free when the broker is started again.
fn free_ports() -> [u16; 4] {
    let mut seed = std::process::id().wrapping_mul(2_654_435_761);
    let mut found = Vec::new();
    while found.len() < 4 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let port = 20_000 + (seed >> 16) as u16 % 12_000;
        if !found.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            found.push(port);
        }
    }
    [found[0], found[1], found[2], found[3]]
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use serde_json::json;

    use super::{Tool, is_installed};

    #[test]
    fn what_the_tool_guards_ends_with_it_however_it_is_ended() {
        if !is_installed() {
            return;
        }
        // Nothing is what the end of this process comes to: the end of the tool's input.
        for signal in [None, Some("TERM")] {
            // Left alone it ends well.
            let mut guarded = Command::new("sleep").arg("30").spawn().expect("sleep");
            let mut tool = Tool::start();
            let id = tool.process.id().to_string();
            tool.ask(&json!({ "guard": guarded.id() }));
            // Its name has no space; after it come its state, parent, group and session.
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
            let session = stat.split(' ').nth(5);
            assert_eq!(session, Some(&*id), "a session of its own: {stat}");
            if let Some(signal) = signal {
                let mut kill = Command::new("kill");
                let sent = kill.args([&format!("-{signal}"), &id]).status();
                assert!(sent.expect("kill").success());
            }
            drop(tool);
            let status = guarded.wait().expect("a child of ours");
            assert_eq!(status.signal(), Some(9), "{signal:?}");
        }
    }
}
