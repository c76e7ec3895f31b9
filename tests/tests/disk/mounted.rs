//! Disks that are full for a while, or read-only: small file systems of the test's own, mounted in
//! a namespace where that needs no rights.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;
use thalweg_tests::kafka::Broker;
use thalweg_tests::process::{binary, get, until};

use crate::job::Job;

/// Mounts the file systems, then does what it is told, line by line, until its input ends.
const SHELL: &str = r#"
for disk in checkpoints windows letters shown; do
    mkdir -p $disk && mount -t tmpfs -o size=16m $disk $disk || exit 99
done
echo mounted > mounted
while read -r word what more; do
    case $word in
    run)
        {
            "$THALWEG" run job.yaml --take-over --workers 2 --listen 127.0.0.1:0 $more > shown/$what 2> said-$what &
            echo $! > pid; wait $!; echo $? > ending; mv ending ended-$what
        } & ;;
    signal) kill -$what $(cat pid) ;;
    fill) dd if=/dev/zero of=$what/ballast bs=64k 2> filled-$what; dd if=/dev/zero of=$what/more bs=1k 2> filled-$what ;;
    free) rm $what/ballast $what/more ;;
    # Not while a file is open for writing.
    readonly) until mount -o remount,ro $what 2> busy; do :; done ;;
    writable) mount -o remount,rw $what ;;
    show) "$THALWEG" checkpoint show checkpoints --json > showing && mv showing shown-$what ;;
    collect) mkdir found && cp -r windows letters shown found ;;
    esac
    echo "$word $what" >> done
done
"#;

struct Mounted<'j> {
    job: &'j Job,
    child: Child,
    words: ChildStdin,
    /// Runs so far; the files of each have its number.
    runs: u32,
    told: usize,
}

impl<'j> Mounted<'j> {
    fn start(job: &'j Job) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "--pid", "--kill-child"]);
        command.args(["--fork", "sh", "-c", SHELL]);
        command.env("THALWEG", binary("thalweg"));
        command.current_dir(job.folder()).stdin(Stdio::piped());
        let mut child = command.spawn().expect("unshare of util-linux");
        let words = child.stdin.take().expect("piped");
        Self {
            job,
            child,
            words,
            runs: 0,
            told: 0,
        }
    }

    /// Why it has ended, if this machine lets nobody mount a file system.
    fn refused(&mut self) -> Option<String> {
        let mut refused = None;
        until("it is mounted", || {
            refused = self.child.try_wait().expect("a child of ours");
            refused.is_some() || !self.job.read("mounted").is_empty()
        });
        refused.map(|status| status.to_string())
    }

    /// Has it do something, and waits until it is done.
    fn tell(&mut self, what: &str) {
        writeln!(self.words, "{what}").expect("it hears");
        self.told += 1;
        until(what, || self.job.read("done").lines().count() == self.told);
    }

    fn run(&mut self, more: &str) {
        self.runs += 1;
        self.tell(&format!("run {} {more}", self.runs));
    }

    fn said(&self) -> String {
        self.job.read(&format!("said-{}", self.runs)).to_lowercase()
    }

    /// The exit status of the run, if it has ended.
    fn ended(&self) -> Option<String> {
        let ended = self.job.read(&format!("ended-{}", self.runs));
        (!ended.is_empty()).then(|| ended.trim().to_owned())
    }

    /// Waits for the end of the run: its exit status.
    fn wait(&self) -> String {
        until("the run ends", || self.ended().is_some());
        self.ended().expect("it has ended")
    }

    fn status(&self) -> Value {
        let mut address = String::new();
        until("it listens", || {
            let said = self.said();
            let after = said.split_once("listening on http://");
            let line = after.and_then(|(_, rest)| rest.split_once('\n'));
            line.map(|(line, _)| address = line.to_owned()).is_some()
        });
        let answer = get(&address, "/status");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).expect("JSON")
    }

    /// The newest checkpoint, and rows that are visible in all sinks.
    fn progress(&self) -> (u64, BTreeMap<String, u64>) {
        let status = self.status();
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        let rows = |node: &Value| {
            let rows = node["published_rows"].as_u64()?;
            let name = node["name"].as_str()?;
            // What is discarded is never published.
            (name != "nowhere").then(|| (name.to_owned(), rows))
        };
        let epoch = status["checkpoint"]["epoch"].as_u64().unwrap_or(0);
        (epoch, nodes.iter().filter_map(rows).collect())
    }

    /// Waits until checkpoints are taken and all sinks publish.
    fn flows(&self) {
        let mut before = self.progress();
        until("it has started", || {
            before = self.progress();
            before.1.len() == SINKS
        });
        until("it goes on", || {
            let (epoch, rows) = self.progress();
            epoch > before.0 + 2 && before.1.iter().all(|(sink, before)| rows[sink] > *before)
        });
    }
}

impl Drop for Mounted<'_> {
    /// Whatever it has started ends with it.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The sinks of the job that publish, dead letters among them.
const SINKS: usize = 6;
const FULL: &str = "no space left on device";
const READ_ONLY: &str = "read-only file system";

impl Mounted<'_> {
    /// Disks fill up while the job runs, which waits for space rather than end, and goes on with it.
    fn fills_up(&mut self, disks: &[&str]) {
        let before = self.said().matches(FULL).count();
        for disk in disks {
            self.tell(&format!("fill {disk}"));
        }
        until("nothing more can be written", || {
            self.said().matches(FULL).count() > before
        });
        for disk in disks {
            self.tell(&format!("free {disk}"));
        }
        self.flows();
    }

    /// A disk becomes read-only while the job runs. Nothing can be expected of it: the run ends, by
    /// itself and with the reason, and the next one goes on.
    fn turns_read_only(&mut self, disk: &str) {
        self.tell(&format!("readonly {disk}"));
        self.fails(READ_ONLY);
        self.tell(&format!("writable {disk}"));
        self.run("");
        self.flows();
    }

    /// The disk that standard output goes to fills up: nobody can say whether lines still have a reader,
    /// so the run ends, with the reason, and the next one goes on.
    fn output_fills_up(&mut self) {
        self.tell("fill shown");
        self.fails(&format!("standard output: {FULL}"));
        self.tell("free shown");
        self.run("");
        self.flows();
    }

    /// The run ends by itself, and says why.
    fn fails(&self, why: &str) {
        assert_eq!(self.wait(), "2", "{}", self.said());
        assert!(self.said().contains(why), "{}", self.said());
    }

    /// After a kill, which leaves output to be published, the next run meets a disk that is full or
    /// read-only: it waits, or it ends with the reason; then there is space, and all goes on.
    fn starts_on(&mut self, disk: &str, state: &str, cure: &str, why: &str) {
        self.tell("signal KILL");
        assert_eq!(self.wait(), "137", "{}", self.said());
        self.tell(&format!("{state} {disk}"));
        self.run("");
        until("it notices", || {
            self.ended().is_some() || self.said().contains(why)
        });
        // One that is read-only is no matter of time.
        if why == READ_ONLY || self.ended().is_some() {
            self.fails(why);
        }
        self.tell(&format!("{cure} {disk}"));
        if self.ended().is_some() {
            self.run("");
        }
        self.flows();
    }
}

#[test]
fn full_and_read_only_disks_lose_nothing() {
    let job = Job::new(Broker::start_if_installed());
    let mut mounted = Mounted::start(&job);
    if let Some(status) = mounted.refused() {
        let allowed = std::env::var_os("THALWEG_NO_SKIPS").is_none();
        assert!(
            allowed,
            "nothing may be skipped, and nobody may mount: {status}"
        );
        println!("skipped: this machine lets nobody mount a file system: {status}");
        return;
    }
    mounted.run("");
    mounted.flows();
    for disk in ["checkpoints", "windows", "letters"] {
        println!("{disk}: full");
        mounted.fills_up(&[disk]);
    }
    println!("all: full");
    mounted.fills_up(&["checkpoints", "windows", "letters"]);
    println!("standard output: full");
    mounted.output_fills_up();
    // The file of dead letters is open all the time, and its disk is then not made read-only.
    for disk in ["checkpoints", "windows"] {
        println!("{disk}: read-only");
        mounted.turns_read_only(disk);
    }
    for disk in ["checkpoints", "windows", "letters"] {
        println!("{disk}: full at the start");
        mounted.starts_on(disk, "fill", "free", FULL);
        println!("{disk}: read-only at the start");
        mounted.starts_on(disk, "readonly", "writable", READ_ONLY);
    }
    mounted.tell("signal TERM");
    assert_eq!(mounted.wait(), "0", "{}", mounted.said());
    mounted.tell("show end");
    let checkpoint = serde_json::from_str(&job.read("shown-end")).expect("JSON");
    let (events, set) = Job::end(&checkpoint);
    mounted.run(&format!("--set {} --set {}", set[0], set[1]));
    assert_eq!(mounted.wait(), "0", "{}", mounted.said());
    mounted.tell("collect");
    println!("{}", job.judge(events, &job.path("found")));
}
