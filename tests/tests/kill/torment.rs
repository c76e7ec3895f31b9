//! Starting, killing, freezing and thawing the job.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use thalweg_tests::process::{Run, Running, binary, until};
use thalweg_tests::standin::StandIn;

/// Longest time from a kill to processing.
const RECOVERY_MAX: Duration = Duration::from_secs(5);
/// A run that is killed at no point in particular lives for less than this once it processes.
const RANDOM_MS: u64 = 800;
/// What a run puts out on standard output is in a file of this name and the run's number.
pub(crate) const STDOUT: &str = "stdout-";
/// The numbers of workers, one start after the other.
const WORKERS: [u32; 4] = [2, 1, 4, 3];

/// One job, and what has been done to it.
pub(crate) struct Torment {
    job: PathBuf,
    folder: PathBuf,
    /// The node whose rows show that a run processes.
    watched: &'static str,
    random: u64,
    /// Starts by number of workers.
    starts: BTreeMap<u32, u32>,
    kills: u32,
    freezes: u32,
    /// The last kill or freeze, until a run processes.
    struck: Option<Instant>,
    /// From a kill (or a freeze) to processing.
    recoveries: Vec<Duration>,
}

/// What must have been done at least.
pub(crate) struct Least {
    pub(crate) kills: u32,
    pub(crate) freezes: u32,
    pub(crate) recoveries: usize,
}

/// Waits until something is seen to have struck a run; the last moment at which it was not there
/// yet, so that what is counted from there is no shorter than it was.
#[allow(
    clippy::disallowed_methods,
    reason = "how long a recovery takes is real time"
)]
fn strike(what: &str, mut struck: impl FnMut() -> bool) -> Instant {
    let mut before = Instant::now();
    until(what, || {
        let now = Instant::now();
        let seen = struck();
        if !seen {
            before = now;
        }
        seen
    });
    before
}

/// Whether a run has read records since it started; not if it does not serve its status.
fn processes(run: &Running, watched: &str) -> bool {
    let answer = run.try_get("/status").unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let status: Value = serde_json::from_str(body).unwrap_or_default();
    let mut nodes = status["nodes"].as_array().into_iter().flatten();
    nodes.any(|node| node["name"] == watched && node["rows_in"].as_u64() > Some(0))
}

impl Torment {
    pub(crate) fn new(folder: &Path, watched: &'static str, seed: u64) -> Self {
        Self {
            job: folder.join("job.yaml"),
            folder: folder.to_owned(),
            watched,
            random: seed,
            starts: BTreeMap::new(),
            kills: 0,
            freezes: 0,
            struck: None,
            recoveries: Vec::new(),
        }
    }

    /// A number below `below`, by SplitMix64.
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % below
    }

    fn run(&mut self) -> Run {
        let count = self.starts.values().sum::<u32>() as usize;
        let workers = WORKERS[count % WORKERS.len()];
        *self.starts.entry(workers).or_default() += 1;
        // Of each run a file of its own: a kill may cut its last line.
        let output = self.folder.join(format!("{STDOUT}{count}"));
        let run = Run::of(&self.job).workers(workers);
        run.listen().stdout(&output)
    }

    /// Looks whether a run processes by now. Where it is the first one to do so since a kill, that
    /// must be soon after the kill, whatever was done in between.
    #[allow(
        clippy::disallowed_methods,
        reason = "how long a recovery takes is real time"
    )]
    fn processes(&mut self, run: &Running) -> bool {
        if !processes(run, self.watched) {
            return false;
        }
        if let Some(struck) = self.struck.take() {
            let took = struck.elapsed();
            let said = run.said();
            assert!(
                took <= RECOVERY_MAX,
                "from a kill to processing: {took:?}: {said}"
            );
            self.recoveries.push(took);
        }
        true
    }

    /// Starts a run and waits until it processes.
    pub(crate) fn start(&mut self) -> Running {
        let mut run = self.run().start();
        until("it processes", || {
            let ended = run.ended();
            assert!(ended.is_none(), "it ends by itself: {ended:?}");
            self.processes(&run)
        });
        run
    }

    /// A point, with the visit to it that counts: mostly the first.
    fn failpoint(&mut self, point: &str) -> String {
        let nth = match point.split('.').next() {
            // Once a start, and once in many checkpoints.
            Some("claim" | "restore" | "compaction") => 1,
            // Once for each step, sink and worker.
            Some("freeze") => 1 + self.draw(20),
            Some("upload") if point.contains("state") => 1 + self.draw(4),
            _ => 1 + self.draw(2),
        };
        format!("{point}:{nth}")
    }

    /// Lets it kill itself at a point. Where that is before it processes, the next run has its own
    /// kill to recover from.
    pub(crate) fn kill_at(&mut self, point: &str) {
        let point = self.failpoint(point);
        let mut run = self.run().failpoint(&point).start();
        self.struck = Some(strike("it is killed", || {
            self.processes(&run);
            run.is_over()
        }));
        let ended = run.end();
        assert_eq!(ended.code, None, "{point} is never hit: {}", ended.said);
        self.kills += 1;
    }

    /// Kills it some time after it has begun to process.
    pub(crate) fn kill_at_random(&mut self) {
        let mut run = self.start();
        run.live(Duration::from_millis(self.draw(RANDOM_MS)));
        self.kill(run);
    }

    /// Kills a run.
    #[allow(
        clippy::disallowed_methods,
        reason = "how long a recovery takes is real time"
    )]
    fn kill(&mut self, run: Running) {
        self.struck = Some(Instant::now());
        run.kill();
        self.kills += 1;
    }

    /// Freezes it, at a point or at random; thaws it when a successor has published all that it may
    /// have had in its hands. It must notice, and end, and have done nothing: in the ledger of
    /// `cosmos`, where the job writes to that.
    pub(crate) fn freeze(&mut self, point: Option<&str>, cosmos: Option<&StandIn>) {
        let (before, mut run) = (self.owner(), self.run());
        if let Some(point) = point {
            run = run.failpoint(&format!("{}:stop", self.failpoint(point)));
        }
        let mut frozen = run.start();
        if point.is_none() {
            until("it owns the job", || {
                let ended = frozen.ended();
                assert!(ended.is_none(), "it ends by itself: {ended:?}");
                self.owner() > before
            });
            frozen.live(Duration::from_millis(self.draw(1_000)));
            frozen.signal("STOP");
        }
        self.struck = Some(strike("it is frozen", || {
            let ended = frozen.ended();
            assert!(ended.is_none(), "{point:?}: {ended:?}");
            frozen.is_frozen()
        }));
        let successor = self.succeed();
        let before = cosmos.map(StandIn::ledger_bytes);
        frozen.signal("CONT");
        let ended = frozen.end();
        assert_eq!(ended.code, Some(2), "thawed after {point:?}: {ended:?}");
        let knows = ended.said.contains("has taken over")
            || ended.said.contains("of this job; this is generation");
        assert!(knows, "it says why: {}", ended.said);
        if let (Some(before), Some(cosmos)) = (before, cosmos) {
            self.check_fenced(before, cosmos);
        }
        self.kill(successor);
        self.freezes += 1;
    }

    /// Starts a successor of a process that is frozen, and waits until it has committed, and has
    /// published all that had been committed before.
    fn succeed(&mut self) -> Running {
        let (generation, epoch) = (self.owner(), self.manifest()["epoch"].as_u64());
        let mut successor = self.start();
        let mut names = BTreeSet::new();
        until("the successor publishes", || {
            let ended = successor.ended();
            assert!(ended.is_none(), "the successor ends: {ended:?}");
            // To ask takes a process of its own, whose time is the successor's: only of something new.
            let before = std::mem::replace(&mut names, self.manifests());
            if names == before {
                return false;
            }
            let manifest = self.manifest();
            let units = manifest["sinks"].as_object().expect("sinks").values();
            let mut units = units.flat_map(|sink| sink["units"].as_array().expect("units"));
            manifest["generation"].as_u64() > generation
                && units.all(|unit| unit["epoch"].as_u64() > epoch)
        });
        successor
    }

    /// Checks that behind the first `bytes` of the ledger only the owner has written documents.
    fn check_fenced(&self, bytes: u64, cosmos: &StandIn) {
        let owner = self.owner();
        for entry in &cosmos.ledger_behind(bytes) {
            let writes = entry.details["writes"].as_array();
            for write in writes.into_iter().flatten().filter(|_| entry.applied) {
                let by = write["stamp"]["generation"].as_u64();
                assert_eq!(by, owner, "{entry:?}");
            }
        }
    }

    /// Lets it come to the end of its input.
    pub(crate) fn finish(&mut self, set: &[(String, String)]) {
        let mut run = self.run();
        for (field, value) in set {
            run = run.set(field, value);
        }
        run.end().well();
    }

    /// What `thalweg checkpoint` tells. A running job may delete what the command is about to read:
    /// then it is asked again.
    fn checkpoint(&self, what: &str) -> Value {
        let mut told = None;
        until("the store is read", || {
            let mut command = Command::new(binary("thalweg"));
            let command = command
                .args(["checkpoint", what])
                .arg(self.folder.join("checkpoints"));
            let out = command.arg("--json").output().expect("the binary starts");
            told = out.status.success().then_some(out.stdout);
            told.is_some()
        });
        serde_json::from_slice(&told.expect("an answer")).expect("JSON")
    }

    /// The names of the manifests there are.
    fn manifests(&self) -> BTreeSet<OsString> {
        let names = std::fs::read_dir(self.folder.join("checkpoints/manifest"));
        let names = names.expect("manifests").flatten();
        names.map(|entry| entry.file_name()).collect()
    }

    fn manifest(&self) -> Value {
        self.checkpoint("show")["manifest"].take()
    }

    /// The generation that owns the job.
    fn owner(&self) -> Option<u64> {
        self.checkpoint("list")["owner"]["generation"].as_u64()
    }

    /// How far each split of each source has been read.
    pub(crate) fn offsets(&self) -> BTreeMap<String, Vec<u64>> {
        let manifest = self.manifest();
        let sources = manifest["sources"].as_object().expect("sources");
        let offsets = sources.iter().map(|(name, source)| {
            let splits = source["splits"].as_array().expect("splits").iter();
            let offsets = splits.map(|split| split["offset"].as_u64().unwrap_or(0));
            (name.clone(), offsets.collect())
        });
        offsets.collect()
    }

    /// What has been done, which must be enough.
    pub(crate) fn told(&self, least: &Least) -> String {
        let told = format!(
            "{} kills by SIGKILL, {} freezes by SIGSTOP, starts by number of workers: {:?}, {} \
             recoveries, each within {:?}",
            self.kills,
            self.freezes,
            self.starts,
            self.recoveries.len(),
            self.recoveries.iter().max().unwrap_or(&Duration::ZERO),
        );
        let enough = self.kills >= least.kills
            && self.freezes >= least.freezes
            && self.recoveries.len() >= least.recoveries;
        assert!(enough, "too little: {told}");
        told
    }
}
