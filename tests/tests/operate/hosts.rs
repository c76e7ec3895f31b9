//! A job on several hosts: their processes are started, killed and started again by themselves, and
//! find each other by addresses, certificates and a secret.
//!
//! Here the hosts are addresses of the loopback network, 127.0.0.0/8.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use super::{Job, Process, fleet, status, thalweg, until};

/// Reports, of which some 6000 are read each second.
const EVENTS: u32 = 60_000;
const SECRET: &str = "known to all processes of the job";

/// Two authorities, and a certificate for the hosts that each has signed.
const CERTIFICATES: &str = include_str!("../../../runtime/mesh/src/tests/certificates.sh");

/// A job, what its processes know each other by, and where they are.
struct Hosts {
    job: Job,
    addresses: String,
}

impl Hosts {
    fn new(definition: &str, processes: u16) -> Self {
        static PORTS: AtomicU16 = AtomicU16::new(7000);
        let job = Job::new(definition);
        // An address that no other test has, and ports that are handed out to nobody.
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let host = format!("127.{}.{middle}.{low}", 1 + high % 128);
        let made = Command::new("bash")
            .args(["-c", CERTIFICATES])
            .env("NAME", format!("IP:{host}"))
            .current_dir(job.path(""))
            .output()
            .expect("bash and openssl");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        std::fs::write(job.path("secret"), format!("{SECRET}\n")).expect("the secret");
        let first = PORTS.fetch_add(processes, Ordering::Relaxed);
        let addresses: Vec<String> = (first..first + processes)
            .map(|port| format!("{host}:{port}"))
            .collect();
        let addresses = addresses.join(",");
        Self { job, addresses }
    }

    /// A process of the job that knows a secret and believes an authority.
    fn start(&self, command: &[&str], secret: &str, authority: &str) -> Process {
        let mut started = thalweg();
        let file = |name: &str| self.job.path(name);
        let pem = |kind: &str| file(&format!("{authority}{kind}"));
        started
            .args(command)
            .args(["--hosts", &self.addresses, "--secret-file"])
            .arg(file(secret))
            .arg("--tls-ca")
            .arg(pem("-ca.pem"))
            .arg("--tls-cert")
            .arg(pem(".pem"))
            .arg("--tls-key")
            .arg(pem(".key"))
            .env("THALWEG_LOG", "info,thalweg_mesh=debug")
            .current_dir(self.job.path(""))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Process(Some(started.spawn().expect("the binary starts")))
    }

    /// The leader, and the address it serves its state at.
    fn lead(&self) -> (Process, String) {
        let command = ["run", "job.yaml", "--listen", "127.0.0.1:0", "--take-over"];
        let mut leader = self.start(&command, "secret", "ours");
        let address = leader.address();
        (leader, address)
    }

    fn follow(&self, process: &str) -> Process {
        let command = ["follow", "job.yaml", "--process", process];
        self.start(&command, "secret", "ours")
    }
}

/// It ends well, and shows the secret nowhere: what it said.
fn well(process: Process) -> String {
    let (code, said) = process.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains(SECRET), "{said}");
    said
}

/// It is refused, and says why.
fn refused(process: Process, why: &str) {
    let (code, said) = process.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(why), "{why}: {said}");
    assert!(!said.contains(SECRET), "{said}");
}

#[test]
fn hosts_make_what_one_process_makes_and_outlive_each_other() {
    let expected = fleet::expected(EVENTS);
    let hosts = Hosts::new(&fleet::slow(EVENTS, 6000), 3);
    let committed = |address: &str| status(address)["checkpoint"]["epoch"].as_u64() > Some(0);
    let stays = hosts.follow("2");
    let (mut leader, address) = hosts.lead();
    let mut killed = hosts.follow("1");
    until("checkpoints are taken", || committed(&address));

    killed.signal("KILL");
    until("it is noticed", || status(&address)["restarts"] == 1);
    let told = status(&address);
    let error = told["restarted"]["error"].as_str().unwrap_or_default();
    assert!(error.contains("process 1 is lost"), "{error}");
    let again = hosts.follow("1");
    until("the job goes on", || status(&address)["phase"] == "running");

    leader.signal("KILL");
    drop(leader);
    let (leader, address) = hosts.lead();
    until("the job goes on", || committed(&address));
    well(leader);
    assert!(fleet::windows(&hosts.job) == expected);
    for (follower, attempts) in [(again, 2), (stays, 3)] {
        let said = well(follower);
        let found = said.matches("works for generation").count();
        assert!(found >= attempts, "{attempts}: {said}");
    }
}

#[test]
fn strangers_are_refused_and_those_who_belong_here_are_let_in_all_the_same() {
    let hosts = Hosts::new(&fleet::swift(EVENTS), 2);
    std::fs::write(hosts.job.path("guess"), "what might the secret be?").expect("a secret");
    let (leader, _) = hosts.lead();
    let command = ["follow", "job.yaml", "--process", "1"];
    let guesser = hosts.start(&command, "guess", "ours");
    refused(guesser, "it does not know the job's secret");
    // Each believes only what its own authority has signed.
    let stranger = hosts.start(&command, "secret", "theirs");
    refused(stranger, "TLS: ");
    let follower = hosts.follow("1");
    let said = well(leader);
    assert!(
        said.contains("did not accept this process's proof"),
        "{said}"
    );
    well(follower);
    assert!(fleet::windows(&hosts.job) == fleet::expected(EVENTS));
}

#[test]
fn another_definition_is_refused_on_both_sides() {
    let hosts = Hosts::new(&fleet::slow(EVENTS, 6000), 2);
    let other = fleet::slow(EVENTS, 6001);
    std::fs::write(hosts.job.path("other.yaml"), other).expect("a definition");
    let (leader, _) = hosts.lead();
    let command = ["follow", "other.yaml", "--process", "1"];
    let follower = hosts.start(&command, "secret", "ours");
    let why = "has another definition of job \"fleet\"";
    refused(follower, why);
    refused(leader, why);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "how soon is real time")]
fn a_leader_that_waits_for_the_others_can_be_stopped() {
    let hosts = Hosts::new(&fleet::swift(EVENTS), 2);
    let (mut leader, address) = hosts.lead();
    until("it starts", || status(&address)["phase"] == "starting");
    let began = Instant::now();
    leader.signal("TERM");
    let said = well(leader);
    assert!(said.contains("stopped; run it again to resume"), "{said}");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn hosts_that_cannot_be_are_refused_before_anything_starts() {
    let job = Job::new(&fleet::swift(EVENTS));
    std::fs::write(job.path("secret"), SECRET).expect("the secret");
    std::fs::write(job.path("weak"), "too short").expect("a secret");
    let refuse = |arguments: &[&str], why: &str| {
        let mut command = thalweg();
        command.args(arguments).current_dir(job.path(""));
        let output = command.output().expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why), "{why}: {said}");
        assert!(!job.path("checkpoints").exists(), "{why}");
    };
    for (hosts, secret, why) in [
        (
            "10.0.0.1:7000,10.0.0.2:7000",
            "secret",
            "10.0.0.1:7000: it is not this host: processes on several hosts need TLS",
        ),
        (
            "localhost:7000,elsewhere:7000",
            "secret",
            "elsewhere:7000: it is not this host",
        ),
        ("localhost:7000", "secret", "2 to 64 processes"),
        (
            "localhost:7000,localhost",
            "secret",
            "it has the form host:port",
        ),
        (
            "localhost:7000,localhost:7000",
            "secret",
            "two processes cannot listen at one address",
        ),
        ("localhost:7000,localhost:7001", "weak", "fewer than 16"),
        (
            "localhost:7000,localhost:7001",
            "none",
            "--secret-file none",
        ),
    ] {
        let hosts = ["--hosts", hosts, "--secret-file", secret];
        refuse(&[&["run", "job.yaml"], &hosts[..]].concat(), why);
        refuse(
            &[&["follow", "job.yaml", "--process", "1"], &hosts[..]].concat(),
            why,
        );
    }
    let hosts = ["--hosts", "localhost:7000,localhost:7001"];
    refuse(
        &[&["run", "job.yaml"], &hosts[..]].concat(),
        "--secret-file",
    );
    let hosts = [&hosts[..], &["--secret-file", "secret"]].concat();
    refuse(
        &[&["run", "job.yaml", "--processes", "2"], &hosts[..]].concat(),
        "--processes",
    );
    refuse(
        &[&["run", "job.yaml", "--tls-ca", "ca.pem"], &hosts[..]].concat(),
        "--tls-cert",
    );
    refuse(
        &[&["follow", "job.yaml", "--process", "2"], &hosts[..]].concat(),
        "processes 1 to 1",
    );
}
