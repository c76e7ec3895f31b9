//! Plugins from their source to a job's results: built by the command line, used in a whole job.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what a test finds wrong it says by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use thalweg_tests::process::{Run, binary, until};

/// Where guests are built in tests: one folder, so that what they share is compiled once.
fn target() -> PathBuf {
    binary("thalweg").with_file_name("guests")
}

fn plugin(arguments: &[&str], folder: &Path) -> Output {
    Command::new(binary("thalweg"))
        .arg("plugin")
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target())
        .env("XDG_CACHE_HOME", target())
        .output()
        .expect("the binary starts")
}

#[track_caller]
fn result(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// A plugin whose functions do what the tests need, made from the template and built once.
fn moody() -> &'static (PathBuf, String) {
    static BUILT: OnceLock<(PathBuf, String)> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let made = result(&plugin(&["new", "moody-rows", "--json"], folder.path()));
        assert_eq!(made["name"], "moody_rows");
        let crate_folder = folder.path().join("moody-rows");
        std::fs::write(crate_folder.join("src/lib.rs"), MOODY).expect("written");
        let out = target().join("moody.wasm");
        let path = out.display().to_string();
        let built = result(&plugin(
            &["build", "moody-rows", "--json", "--out", &path],
            folder.path(),
        ));
        assert_eq!(built["imports"][0], "thalweg:udf/types@0.1.0");
        (out, built["sha256"].as_str().expect("a hash").to_owned())
    })
}

const MOODY: &str = r#"//! Rows that panic, loop or say no.

/// What becomes of a number.
#[thalweg_udf::scalar]
fn mood(n: i64, name: Option<&str>) -> Result<String, String> {
    match n % 10_000 {
        13 => panic!("row {n} is unlucky"),
        14 => loop {
            std::hint::black_box(n);
        },
        15 => Err(format!("{n} says no")),
        _ => Ok(format!("{}-{n}", name.unwrap_or("nobody"))),
    }
}
"#;

/// A job over rows `{"n": …}` that calls `mood` in `operation`.
fn job(folder: &Path, rows: u64, operation: &str) -> PathBuf {
    let lines: Vec<String> = (0..rows)
        .map(|n| match n % 3 {
            0 => format!("{{\"n\":{n}}}\n"),
            _ => format!("{{\"n\":{n},\"name\":\"é{n}\"}}\n"),
        })
        .collect();
    std::fs::write(folder.join("in.jsonl"), lines.concat()).expect("written");
    let (wasm, sha256) = moody();
    let text = format!(
        "job: moods\n\
         settings: {{ dead_letters: {{ file: {{ path: dead.jsonl }} }} }}\n\
         plugins:\n  rows: {{ path: {wasm}, sha256: {sha256} }}\n\
         sources:\n  input:\n    file: {{ path: in.jsonl }}\n    format: json\n    \
         schema: {{ n: int64, name: string }}\n\
         steps:\n  moody:\n    from: input\n    {operation}\n\
         sinks:\n  out: {{ from: moody, file: {{ path: out }} }}\n",
        wasm = wasm.display(),
    );
    let path = folder.join("job.yaml");
    std::fs::write(&path, text).expect("written");
    path
}

/// The lines of a file, or of all files in a folder, in the order of `key`.
fn lines(path: &Path, key: &str) -> Vec<Value> {
    let files: Vec<PathBuf> = match path.is_dir() {
        true => (std::fs::read_dir(path).expect("a folder"))
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "jsonl")
            })
            .collect(),
        false => vec![path.to_owned()],
    };
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let text: String = files.into_iter().map(read).collect();
    let mut lines: Vec<Value> = (text.lines())
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    lines.sort_by_key(|line| line[key].as_u64());
    lines
}

fn cargo(arguments: &[&str], folder: &Path) -> Output {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Command::new(cargo)
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target())
        .output()
        .expect("cargo starts")
}

#[track_caller]
fn well(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}{said}");
}

/// What `validate` says of a job that is wrong.
#[track_caller]
fn wrong(job: &Path) -> String {
    let output = Command::new(binary("thalweg"))
        .arg("validate")
        .arg(job)
        .env("XDG_CACHE_HOME", target())
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn commands_of_the_page_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path();
    well(&plugin(&["new", "braking"], here));
    assert!(
        !plugin(&["new", "braking"], here).status.success(),
        "it is there already"
    );
    assert!(!plugin(&["new", "Bad Name"], here).status.success());
    let test = cargo(&["test", "--manifest-path", "braking/Cargo.toml"], here);
    well(&test);
    well(&plugin(
        &["build", "braking", "--out", "plugins/braking.wasm"],
        here,
    ));
    let inspected = result(&plugin(
        &["inspect", "plugins/braking.wasm", "--json"],
        here,
    ));
    let function = &inspected["functions"][0];
    assert_eq!(function["name"], "braking_distance_m");
    assert_eq!(function["parameters"][1]["type"], "float64");
    let hash = std::fs::read_to_string(here.join("plugins/braking.wasm.sha256")).expect("written");
    assert_eq!(inspected["sha256"], hash.trim());
    let test = plugin(&["test"], here);
    assert_eq!(test.status.code(), Some(1));
    let said = String::from_utf8_lossy(&test.stderr).into_owned();
    assert!(
        said.contains("`plugin test` is not supported yet"),
        "{said}"
    );
    let nothing = plugin(&["build", "plugins"], here);
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(said.contains("plugins has no Cargo.toml"), "{said}");
    let text = plugin(&["inspect", "braking/Cargo.toml"], here);
    let said = String::from_utf8_lossy(&text.stderr).into_owned();
    assert!(said.contains("is no WebAssembly component"), "{said}");
}

#[test]
fn the_example_is_tested_and_built() {
    let example =
        Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("examples/plugins/road-risk");
    well(&cargo(&["test", "--locked"], &example));
    let out = target().join("road_risk.wasm").display().to_string();
    let built = result(&plugin(&["build", ".", "--json", "--out", &out], &example));
    assert_eq!(built["functions"][0]["name"], "risk");
}

#[test]
fn files_and_calls_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let job = job(folder.path(), 1, "set: { mood: \"rows.moot(n, name)\" }");
    let said = wrong(&job);
    assert!(
        said.contains("there is no function \"rows.moot\"; there are rows.mood"),
        "{said}"
    );
    assert!(said.contains("did you mean `rows.mood`?"), "{said}");
    let text = std::fs::read_to_string(&job).expect("the job");
    let sha256 = &moody().1;
    let with = |from: &str, to: &str| {
        std::fs::write(&job, text.replace("moot", "mood").replace(from, to)).expect("written");
        wrong(&job)
    };
    let said = with("n, name)", "name)");
    assert!(
        said.contains("rows.mood takes (n int64, name string), not (string)"),
        "{said}"
    );
    let said = with(sha256, &"0".repeat(64));
    assert!(
        said.contains("moody.wasm is another file than was pinned"),
        "{said}"
    );
    assert!(said.contains(&format!("its sha256 is {sha256}")), "{said}");
    assert!(
        !said.contains("no function"),
        "what follows from it is not told: {said}"
    );
    let said = with(&format!(", sha256: {sha256}"), "");
    assert!(said.contains("plugin `rows` has no `sha256`"), "{said}");
    assert!(said.contains(&format!("is {sha256}")), "{said}");
    let said = with("moody.wasm", "nothing.wasm");
    assert!(said.contains("nothing.wasm cannot be read"), "{said}");
    let said = with("rows:", "my-rows:");
    assert!(said.contains("where `-` is minus"), "{said}");
}

#[test]
fn poison_is_found_in_rows_that_an_expression_calls_for_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let condition = "filter: n >= 5 and rows.mood(n, name) like '%-%'";
    let job = job(folder.path(), 9_000, condition);
    Run::of(&job)
        .env("XDG_CACHE_HOME", &target().display().to_string())
        .end()
        .well();
    let out = lines(&folder.path().join("out"), "n");
    assert_eq!(out.len(), 9_000 - 5 - 3);
    let dead = lines(&folder.path().join("dead.jsonl"), "offset");
    let codes: Vec<&str> = dead
        .iter()
        .filter_map(|letter| letter["code"].as_str())
        .collect();
    assert_eq!(codes, ["plugin-trap", "plugin-deadline", "plugin-failure"]);
}

#[test]
fn rows_that_panic_loop_or_fail_are_dead_letters_and_the_others_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = 30_000;
    let job = job(folder.path(), rows, "set: { mood: \"rows.mood(n, name)\" }");
    let running = Run::of(&job)
        .workers(2)
        .env("XDG_CACHE_HOME", &target().display().to_string());
    running.end().well();
    let out = lines(&folder.path().join("out"), "n");
    let poison: Vec<u64> = (0..3)
        .flat_map(|k| [13, 14, 15].map(|p| k * 10_000 + p))
        .collect();
    let good: Vec<u64> = (0..rows).filter(|n| !poison.contains(n)).collect();
    let numbers: Vec<u64> = out.iter().filter_map(|line| line["n"].as_u64()).collect();
    assert_eq!(numbers, good);
    for line in &out {
        let n = line["n"].as_u64().expect("a number");
        let name = if n.is_multiple_of(3) {
            "nobody".to_owned()
        } else {
            format!("é{n}")
        };
        assert_eq!(line["mood"], format!("{name}-{n}"));
    }
    let dead = lines(&folder.path().join("dead.jsonl"), "offset");
    assert_eq!(dead.len(), poison.len(), "{dead:?}");
    for letter in &dead {
        let row: Value = match letter["row"].as_str() {
            Some(text) => serde_json::from_str(text).expect("JSON"),
            None => letter["row"].clone(),
        };
        let n = row["n"].as_u64().expect("a number");
        assert!(poison.contains(&n));
        let (code, message) = match n % 10_000 {
            13 => (
                "plugin-trap",
                format!("mood: row {n} is unlucky (src/lib.rs:7)"),
            ),
            14 => (
                "plugin-deadline",
                "mood: took longer than its deadline".to_owned(),
            ),
            _ => ("plugin-failure", format!("mood: {n} says no")),
        };
        assert_eq!(
            (&letter["code"], &letter["message"]),
            (&code.into(), &message.into())
        );
        assert_eq!(letter["plugin"], moody().1.as_str());
    }
}

#[test]
fn metrics_tell_what_plugins_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let job = job(
        folder.path(),
        1,
        "set: { mood: \"rows.mood(seq, device_id)\" }",
    );
    let text = std::fs::read_to_string(&job).expect("the job");
    let without_end = "generate: { what: fleet, devices: 1, rate: 2000, seed: 7 }";
    let text = text
        .replace("file: { path: in.jsonl }", without_end)
        .replace("n: int64, name: string", "seq: int64, device_id: string")
        .replace("file: { path: out }", "discard: {}");
    std::fs::write(&job, text).expect("written");
    let running = Run::of(&job)
        .workers(2)
        .listen()
        .env("XDG_CACHE_HOME", &target().display().to_string())
        .start();
    let of_moody = "{job=\"moods\",step=\"moody\"";
    let figure = |name: &str, more: &str, text: &str| {
        let series = format!("thalweg_{name}{of_moody}{more}}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&series));
        line.and_then(|value| value.parse::<f64>().ok())
    };
    let hash = &moody().1;
    let mut scraped = String::new();
    until("a row has panicked and one has looped", || {
        scraped = running.get("/metrics");
        let of = |kind: &str| {
            format!("thalweg_plugin_traps_total{{job=\"moods\",kind=\"{kind}\",step=\"moody\"}} ")
        };
        let count = |kind: &str| {
            let line = scraped
                .lines()
                .find_map(|line| line.strip_prefix(&of(kind)));
            line.and_then(|value| value.parse::<u64>().ok())
        };
        count("trap") >= Some(1) && count("deadline") >= Some(1)
    });
    assert!(
        figure("plugin_calls_total", "", &scraped) > Some(2.0),
        "{scraped}"
    );
    assert!(
        figure("plugin_seconds", "", &scraped) > Some(0.01),
        "a row that loops has some milliseconds at least: {scraped}"
    );
    assert!(figure("plugin_memory_bytes", "", &scraped) >= Some(65536.0));
    let info = format!("thalweg_plugin_info{{job=\"moods\",sha256=\"{hash}\",step=\"moody\"}} 1");
    assert!(scraped.lines().any(|line| line == info), "{scraped}");
    running.signal("TERM");
    running.end().well();
}
