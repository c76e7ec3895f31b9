//! A store on a disk that is full for a while, then read-only: a small file system of the test's own,
//! mounted in a namespace where that needs no rights.

use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{Job, status, until};
use thalweg_tests::process::binary;

const JOB: &str = r"
job: full
settings:
  checkpoint: { every: 100ms, to: ./checkpoints }
  dead_letters: { file: { path: ./dead.jsonl } }
sources:
  reports:
    generate: { what: fleet, devices: 20, seed: 5, rate: 2000, splits: 2, events: 40000 }
    schema: { device_id: { type: string, required: true }, ts: { type: timestamp, required: true } }
    event_time: { column: ts, out_of_order: 1s, max_ahead: off }
steps:
  counted: { from: reports, window: { tumbling: 10s, by: [device_id], aggregate: { n: count(*) } } }
sinks:
  windows: { from: counted, file: { path: ./windows } }
";

/// Mounts the file system, then does what it is told, line by line, until its input ends.
const SHELL: &str = r#"
mount -t tmpfs -o size=2m full checkpoints || exit 99
echo mounted > mounted
while read -r word; do
    case $word in
    run) "$THALWEG" run job.yaml --listen 127.0.0.1:0 2> said & job=$! ;;
    again) "$THALWEG" run job.yaml --take-over --set sources.reports.generate.rate=1000000 2> again & job=$! ;;
    wait) wait $job; echo $? > "ended" ;;
    fill) dd if=/dev/zero of=checkpoints/ballast bs=4k 2> filled ;;
    free) rm checkpoints/ballast ;;
    readonly) mount -o remount,ro checkpoints ;;
    writable) mount -o remount,rw checkpoints; rm ended ;;
    esac
done
"#;

struct Shell {
    child: Child,
    words: ChildStdin,
}

impl Shell {
    fn start(job: &Job) -> Self {
        std::fs::create_dir(job.path("checkpoints")).expect("a folder");
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "--pid", "--kill-child"]);
        command.args(["--fork", "sh", "-c", SHELL]);
        command.env("THALWEG", binary("thalweg"));
        command.current_dir(job.folder.path()).stdin(Stdio::piped());
        let mut child = command.spawn().expect("unshare of util-linux");
        let words = child.stdin.take().expect("piped");
        Self { child, words }
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.words, "{word}").expect("it hears");
    }
}

impl Drop for Shell {
    /// Whatever it has started ends with it.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_full_disk_and_a_read_only_one_lose_nothing() {
    let job = Job::new(JOB);
    let mut shell = Shell::start(&job);
    let read = |name: &str| std::fs::read_to_string(job.path(name)).unwrap_or_default();
    let mut refused = None;
    until("it is mounted", || {
        refused = shell.child.try_wait().expect("a child of ours");
        refused.is_some() || !read("mounted").is_empty()
    });
    if let Some(status) = refused {
        println!("skipped: this machine lets nobody mount a file system: {status}");
        return;
    }
    shell.tell("run");
    until("it listens", || {
        read("said").contains("listening on http://")
    });
    let said = read("said");
    let address = said
        .split("listening on http://")
        .nth(1)
        .expect("an address");
    let address = address
        .split_whitespace()
        .next()
        .expect("an address")
        .to_owned();
    let committed = || {
        status(&address)["checkpoint"]["epoch"]
            .as_u64()
            .unwrap_or(0)
    };
    until("a checkpoint is taken", || committed() > 0);

    // It waits for space rather than end, and goes on with it.
    shell.tell("fill");
    until("nothing more can be written", || {
        read("said").contains("no space left on device")
    });
    let before = committed();
    shell.tell("free");
    until("checkpoints are taken again", || committed() > before + 3);

    // Nothing can be expected of a read-only one: the run ends, by itself and with the reason.
    shell.tell("readonly");
    shell.tell("wait");
    until("it ends", || !read("ended").is_empty());
    assert_eq!(read("ended").trim(), "2", "{}", read("said"));
    assert!(
        read("said").contains("read-only file system"),
        "{}",
        read("said")
    );

    shell.tell("writable");
    shell.tell("again");
    shell.tell("wait");
    until("it goes on to the end", || {
        read("again").contains("finished") && !read("ended").is_empty()
    });
    assert_eq!(read("ended").trim(), "0", "{}", read("again"));
    let counted: u64 = (job.lines("windows").iter())
        .filter_map(|line| line["n"].as_u64())
        .sum();
    assert_eq!(counted, 40_000, "every event, once");
}
