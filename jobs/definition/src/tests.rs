//! Definitions in, models or diagnostics out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use expect_test::expect_file;

use crate::{Definition, Diagnostics, LoadOptions, Operation, Resolver, SinkKind, load};

mod fuzz;
mod hidden;
mod later;
mod limits;

struct Fixed(BTreeMap<&'static str, &'static str>);

impl Resolver for Fixed {
    fn env(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|&value| value.to_owned())
    }
    fn file(&self, path: &Path) -> Result<String, String> {
        match path.ends_with("where.txt") {
            true => Ok("./from-file\n".to_owned()),
            false => Err("no such file".to_owned()),
        }
    }
}

fn load_with(text: &str, set: &[(&str, &str)]) -> Result<Definition, Diagnostics> {
    let resolver = Fixed(BTreeMap::from([("DATA", "./data")]));
    let set = set
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    load(
        text,
        "job.yaml",
        Path::new("."),
        &LoadOptions {
            set,
            resolver: &resolver,
        },
    )
}

const GOOD: &str = r#"
job: fleet
sources:
  events:
    file: { path: "${env:DATA}/*.jsonl" }
    schema: { device_id: string, ts: timestamp, speed: { type: float64, required: true } }
    event_time: { column: ts, out_of_order: 1s }
steps:
  moving: { from: events, filter: speed > 0 }
  per_device:
    from: moving
    window: { tumbling: 10s, by: [device_id], aggregate: { n: count(*) }, late: { then: output } }
sinks:
  out: { from: per_device, file: { path: "${file:where.txt}" } }
  late: { from: per_device.late, discard: }
"#;

#[test]
fn good_definition_is_loaded() {
    let definition =
        load_with(GOOD, &[]).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    assert_eq!(definition.job, "fleet");
    assert!(
        matches!(&definition.sinks[0].kind, SinkKind::File(file) if file.path.value == "./from-file")
    );
    assert!(matches!(&definition.steps[1].operation, Operation::Window(w) if w.size_ms == 10_000));
    assert_eq!(definition.steps[0].from[0].span.line, 9);
}

#[test]
fn fields_can_be_set_from_outside() {
    let set = [
        ("sinks.out.file.path", "./elsewhere"),
        ("settings.checkpoint.every", "2s"),
    ];
    let definition = load_with(GOOD, &set).expect("valid");
    assert_eq!(definition.settings.checkpoint.every_ms, 2000);
    assert!(
        matches!(&definition.sinks[0].kind, SinkKind::File(f) if f.path.value == "./elsewhere")
    );
    let wrong = load_with(GOOD, &[("job.name", "x")]).expect_err("job is no mapping");
    assert!(
        wrong.render(false).contains("by --set: job.name"),
        "{}",
        wrong.render(false)
    );
}

#[test]
fn json_is_yaml() {
    let text = r#"{"job": "a", "sources": {"s": {"generate": {"what": "fleet"}, "schema": {"x": "string"}}}, "sinks": {"o": {"from": "s", "discard": {}}}}"#;
    assert!(load_with(text, &[]).is_ok());
}

/// Every wrong definition of the folder is refused as the file beside it says.
#[test]
fn wrong_definitions_are_refused_with_place_and_hint() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tests");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    names.sort();
    assert!(names.len() >= 60, "{}", names.len());
    for path in names {
        let text = std::fs::read_to_string(&path).expect("readable");
        let errors = load_with(&text, &[]).expect_err(&path.display().to_string());
        let rendered = errors.render(false);
        assert!(
            rendered.contains("job.yaml:") && rendered.contains('^'),
            "{rendered}"
        );
        expect_file![path.with_extension("txt")].assert_eq(&rendered);
    }
}

/// CPU time of this thread: other load does not count.
fn cpu_ms() -> u128 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u128 * 1_000 + time.tv_nsec as u128 / 1_000_000
}

/// However it is made, a definition of 64 KiB costs at most 50 ms.
#[test]
fn large_definitions_take_little_time() {
    let many =
        |count: usize, one: &dyn Fn(usize) -> String| -> String { (0..count).map(one).collect() };
    let head = "job: a\nsources:\n  s: { generate: { what: fleet }, schema: { x: string } }\n";
    let steps = many(450, &|n| {
        format!("  step{n}: {{ from: nothing{n}, filter: x{n} > 0 }}\n")
    });
    let beyond = many(2000, &|n| format!("  s{n}: {{ from: no{n}, drop: [x] }}\n"));
    let unknown = many(3500, &|n| format!("  unknown{n}: {n}\n"));
    // Every name is near every other, and none is there.
    let near = many(300, &|n| format!("  y{n:04}: {{ from: s, drop: [x] }}\n"));
    let missing = many(9000, &|n| format!("x{n:04},"));
    let outputs = many(3500, &|n| format!("r{n:04}: x, "));
    let routed = many(3500, &|n| format!("r.q{n:04},"));
    let misspelt = many(1500, &|n| {
        format!("  k{n}: {{ kafk{n}: 1, generat{n}: 2, fil{n}: 1 }}\n")
    });
    let columns = many(5000, &|n| format!("c{n}: strin, "));
    let everything = |n| many(20, &|other| format!("s{},", (n + other + 1) % 499));
    let cycles = many(499, &|n| {
        format!("  s{n}: {{ from: [{}], drop: [x] }}\n", everything(n))
    });
    let texts = [
        format!("{head}steps:\n{steps}"),
        format!("{head}steps:\n{beyond}"),
        format!("{head}steps:\n{near}  u: {{ from: [{missing}] }}\n"),
        format!(
            "{head}steps:\n  r: {{ from: s, route: {{ {outputs} }} }}\n  u: {{ from: [{routed}] }}\n"
        ),
        format!("{head}steps:\n{cycles}"),
        format!("{head}settings:\n{unknown}"),
        format!("{head}{}: 1\n", "x".repeat(60_000)),
        format!("{head}description: {}\n", "[".repeat(60_000)),
        format!("{head}description: \"{}\"\n", "${env:DATA}".repeat(5_000)),
        format!("{head}description: {}\n", "a: ".repeat(20_000)),
        format!("job: a\nsources:\n{misspelt}"),
        format!(
            "job: a\nsources: {{ s: {{ generate: {{ what: fleet }}, schema: {{ {columns} }} }} }}"
        ),
        "- ".repeat(32_000),
        "{".repeat(64_000),
        "? ".repeat(32_000),
    ];
    for text in &texts {
        assert!(text.len() < 80_000);
        let before = cpu_ms();
        let errors = load_with(text, &[]);
        let took = cpu_ms() - before;
        let shown: String = text.chars().skip(80).take(60).collect();
        let allowed = 50 * (text.len() as u128).div_ceil(64 << 10);
        println!("{took} of {allowed} ms for {shown:?}");
        assert!(
            took <= allowed,
            "{took} ms for {shown:?}: {}",
            errors.is_err()
        );
    }
}
