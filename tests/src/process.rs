//! The binaries under test as processes: started, waited for, and ended by their own id.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Runs so far: each has a file of its own for what it says.
static RUNS: AtomicU32 = AtomicU32::new(0);
/// Longest run of a job in a test, also where many share the machine.
const RUN_MAX: Duration = Duration::from_secs(600);

/// A binary of this workspace, beside the test that asks.
///
/// # Panics
/// If it has not been built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test's path");
    let folder = test.ancestors().nth(2).expect("the profile's folder");
    let path = folder.join(name);
    assert!(
        path.exists(),
        "build the binaries first: cargo build --workspace --bins"
    );
    path
}

/// Builds the plugin of the road-risk example to `out`, with its hash beside it.
///
/// # Panics
/// If it cannot be built, with what was said.
pub fn build_road_risk(out: &Path) {
    let thalweg = binary("thalweg");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let output = Command::new(&thalweg)
        .args(["plugin", "build"])
        .arg(examples.join("plugins/road-risk"))
        .arg("--out")
        .arg(out)
        // One folder for all guests of the tests, so that what they share is compiled once.
        .env("CARGO_TARGET_DIR", thalweg.with_file_name("guests"))
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// How a run of a job ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit status; nothing if a signal ended it.
    pub code: Option<i32>,
    /// All it said on standard error.
    pub said: String,
}

impl Ended {
    /// The run finished by itself and all was well.
    ///
    /// # Panics
    /// If not, with what it said.
    pub fn well(&self) {
        assert_eq!(self.code, Some(0), "{}", self.said);
    }

    /// A failpoint, or the test, killed the run.
    ///
    /// # Panics
    /// If it ended in another way, with what it said.
    pub fn killed(&self) {
        assert_eq!(self.code, None, "{}", self.said);
    }
}

/// `thalweg run JOB`, with what it says kept in a file beside the job.
#[derive(Debug)]
pub struct Run {
    command: Command,
    said: PathBuf,
    stdout: Option<PathBuf>,
}

impl Run {
    /// A run of the definition at `job`, which takes over from a run that was killed before.
    ///
    /// # Panics
    /// If the binary has not been built.
    #[must_use]
    pub fn of(job: &Path) -> Self {
        let mut command = Command::new(binary("thalweg"));
        command.arg("run").arg(job).arg("--take-over");
        Self {
            command,
            said: job.with_extension(format!("said-{}", RUNS.fetch_add(1, Ordering::Relaxed))),
            stdout: None,
        }
    }

    /// Keeps what it says in this folder, where the job's own is not the test's.
    #[must_use]
    pub fn said_in(mut self, folder: &Path) -> Self {
        self.said = folder.join("said");
        self
    }

    /// Keeps what it puts out on standard output in this file.
    #[must_use]
    pub fn stdout(mut self, to: &Path) -> Self {
        self.stdout = Some(to.to_owned());
        self
    }

    /// On so many workers.
    #[must_use]
    pub fn workers(mut self, count: u32) -> Self {
        self.command.arg("--workers").arg(count.to_string());
        self
    }

    /// With a field of the definition set.
    #[must_use]
    pub fn set(mut self, field: &str, value: impl std::fmt::Display) -> Self {
        self.command.arg("--set").arg(format!("{field}={value}"));
        self
    }

    /// Serving its state by HTTP; [`Running::get`] asks it.
    #[must_use]
    pub fn listen(mut self) -> Self {
        self.command.args(["--listen", "127.0.0.1:0"]);
        self
    }

    /// From the beginning of the input, as a new history.
    #[must_use]
    pub fn from_none(mut self) -> Self {
        self.command.args(["--from", "none"]);
        self
    }

    /// In this environment as well.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Killed, or frozen, at a failpoint; `setting` is `NAME[:N][:stop]`.
    #[must_use]
    pub fn failpoint(self, setting: &str) -> Self {
        self.env("THALWEG_FAILPOINT", setting)
    }

    /// Killed when it comes to `failpoint` for the first time.
    #[must_use]
    pub fn kill_at(self, failpoint: &str) -> Self {
        self.failpoint(failpoint)
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(mut self) -> Running {
        let said = std::fs::File::create(&self.said).expect("a file beside the job");
        let stdout = self.stdout.map_or_else(Stdio::null, |path| {
            std::fs::File::create(path).expect("a file").into()
        });
        let child = self.command.stdout(stdout).stderr(said).spawn();
        Running {
            child: child.expect("the binary starts"),
            said: self.said,
        }
    }

    /// Starts it and waits for its end.
    ///
    /// # Panics
    /// If it does not start or does not end.
    #[must_use]
    pub fn end(self) -> Ended {
        self.start().end()
    }
}

/// A run that has been started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    said: PathBuf,
}

impl Running {
    /// Sends it a signal, such as `TERM`.
    ///
    /// # Panics
    /// If the signal cannot be sent.
    pub fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}"))
            .arg(self.child.id().to_string());
        assert!(kill.status().expect("kill").success(), "signal {name}");
    }

    /// What a path that it serves answers, such as `/metrics`.
    ///
    /// # Panics
    /// If it serves nothing.
    #[must_use]
    pub fn get(&self, path: &str) -> String {
        until("the job listens", || self.address().is_some());
        let address = self.address().expect("it listens");
        get(&address, path)
    }

    /// The same, if it has come so far that it listens, and has not ended.
    #[must_use]
    pub fn try_get(&self, path: &str) -> Option<String> {
        try_get(&self.address()?, path).ok()
    }

    /// All it has said so far on standard error.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// Where it listens, once it has said so.
    fn address(&self) -> Option<String> {
        let said_so = |line: &str| Some(line.strip_prefix("listening on http://")?.to_owned());
        self.said().lines().find_map(said_so)
    }

    /// Memory that it has resident (bytes); none once it has ended.
    ///
    /// # Panics
    /// If it has been waited for.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    }

    /// File descriptors that it has open; none once it has ended.
    #[must_use]
    pub fn open_files(&self) -> usize {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        entries.map_or(0, Iterator::count)
    }

    /// Whether it is frozen by a signal.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        // The name before the state may hold anything, but it ends at the last parenthesis.
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        state.is_some_and(|rest| rest.starts_with('T'))
    }

    /// How it has ended, if it has.
    ///
    /// # Panics
    /// If that cannot be found out.
    pub fn ended(&mut self) -> Option<Ended> {
        let status = self.child.try_wait().expect("a child of ours")?;
        Some(Ended {
            code: status.code(),
            said: std::fs::read_to_string(&self.said).expect("what it said"),
        })
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// If that cannot be found out.
    #[must_use]
    pub fn is_over(&mut self) -> bool {
        self.ended().is_some()
    }

    /// Lets it live for so long, and no longer.
    ///
    /// # Panics
    /// If it ends by itself before.
    #[allow(
        clippy::disallowed_methods,
        reason = "how long a process lives is real time"
    )]
    pub fn live(&mut self, time: Duration) {
        let began = Instant::now();
        while let Some(left) = time.checked_sub(began.elapsed()) {
            let ended = self.ended();
            assert!(ended.is_none(), "it ends by itself: {ended:?}");
            std::thread::park_timeout(left.min(Duration::from_millis(5)));
        }
    }

    /// Kills it.
    ///
    /// # Panics
    /// If it has ended before.
    pub fn kill(self) {
        self.signal("KILL");
        self.end().killed();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn end(mut self) -> Ended {
        let mut ended = None;
        until("the job ends", || {
            ended = self.ended();
            ended.is_some()
        });
        ended.expect("it has ended")
    }
}

impl Drop for Running {
    /// Whatever the test made of it, the process does not outlive the test.
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What `address` answers to a GET of `path`, with its head.
///
/// # Panics
/// If nobody listens there.
#[must_use]
pub fn get(address: &str, path: &str) -> String {
    try_get(address, path).expect("it answers")
}

fn try_get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Waits until `holds`.
///
/// # Panics
/// If that takes longer than any run of a test may.
#[allow(
    clippy::disallowed_methods,
    reason = "the limit of a test is real time"
)]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < RUN_MAX, "waiting for: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
