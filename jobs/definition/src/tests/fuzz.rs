//! Valid and wrong definitions, changed at random where their structure is: nothing panics, and nothing
//! takes long. A failure prints the seed that repeats it: `THALWEG_SEED=SEED`.

mod change;

use std::path::Path;

use change::{Random, change};

use super::{cpu_ms, load_with};

/// Cases of a run.
const CASES: u64 = 12_000;
/// Longest text (bytes): the time is per so much.
const TEXT_BYTES: usize = 64 << 10;
/// Milliseconds for one.
const TOOK_MS_MAX: u128 = 50;

/// Definitions to begin with: examples, all that there is, and those that are wrong.
fn corpus() -> Vec<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = std::fs::read_dir(here.join("../../examples")).expect("the examples");
    let examples = examples.map(|example| example.expect("an entry").path());
    let mut texts = vec![super::GOOD.to_owned()];
    let mut folders: Vec<_> = examples.collect();
    folders.extend([here.join("src/reference"), here.join("src/tests")]);
    folders.sort();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let files = std::fs::read_dir(folder).expect("a folder");
        let mut files: Vec<_> = files.map(|file| file.expect("an entry").path()).collect();
        files.retain(|file| {
            file.extension()
                .is_some_and(|extension| extension == "yaml")
        });
        files.sort();
        texts.extend(
            files
                .iter()
                .map(|file| std::fs::read_to_string(file).expect("text")),
        );
    }
    assert!(texts.len() > 60, "{}", texts.len());
    texts
}

/// Says which case it was, if it fails.
struct Case(u64);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("again by: THALWEG_SEED={}", self.0);
        }
    }
}

#[test]
fn changed_definitions_neither_panic_nor_take_long() {
    let given = std::env::var("THALWEG_SEED").map(|seed| seed.parse::<u64>().expect("a number"));
    let (first, cases) = given.as_ref().map_or((1, CASES), |seed| (*seed, 1));
    let corpus = corpus();
    let good = corpus.iter().filter(|text| load_with(text, &[]).is_ok());
    let good: Vec<String> = good.cloned().collect();
    let (mut valid, mut parsed, mut longest) = (0, 0, 0);
    for seed in first..first + cases {
        let case = Case(seed);
        let mut random = Random(seed);
        // Every other begins with a valid one, and changes little of it.
        let (from, most) = match seed % 2 {
            0 => (&corpus, 4),
            _ => (&good, 2),
        };
        let mut text = from[random.below(from.len())].clone();
        for _ in 0..=random.below(most) {
            text = change(&text, &corpus, &mut random);
        }
        text.truncate(text.floor_char_boundary(TEXT_BYTES));
        let before = cpu_ms();
        let loaded = load_with(&text, &[]);
        let took = cpu_ms() - before;
        valid += u64::from(loaded.is_ok());
        parsed += u64::from(loaded.is_ok());
        longest = longest.max(took);
        if let Err(errors) = loaded {
            let said = errors.render(true);
            assert!(!said.is_empty());
            parsed += u64::from(!said.contains("not YAML"));
        }
        assert!(took <= TOOK_MS_MAX, "{took} ms for {} bytes", text.len());
        drop(case);
    }
    let last = first + cases - 1;
    println!("seeds {first} to {last}: {parsed} parsed, {valid} valid, longest {longest} ms");
    assert!(
        given.is_ok() || parsed > cases / 3 && valid > cases / 20,
        "{parsed} parsed, {valid} valid: little is looked at closely"
    );
}
