//! Valid and wrong definitions, changed at random where their structure is: nothing panics, and nothing
//! takes long. A failure prints the seed that repeats it: `THALWEG_SEED=SEED`.

use std::path::Path;

use super::{cpu_ms, load_with};

/// Cases of a run.
const CASES: u64 = 12_000;
/// Longest text (bytes): the time is per so much.
const TEXT_BYTES: usize = 64 << 10;
/// Milliseconds for one, where nothing is optimised and where something is.
const TOOK_MS_MAX: u128 = if cfg!(debug_assertions) { 500 } else { 50 };

/// What is written in place of a value or in the middle of one.
const HOSTILE: [&str; 46] = [
    "*a",
    "&a [*a, *a]",
    "&a",
    "<<: *a",
    "!!binary aGk=",
    "!x",
    "!!",
    "%YAML 9.9",
    "---",
    "...",
    "|",
    ">-",
    "|9",
    "? ? ?",
    "- - - -",
    "[",
    "]",
    "{",
    "}",
    "{a: 1, a: 2}",
    "[,]",
    ": : :",
    "'",
    "\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\x\"",
    "null",
    "~",
    "",
    "-0",
    "9e999",
    "-9223372036854775809",
    "18446744073709551616",
    ".nan",
    "0x7fffffffffffffffff",
    "99999999999d",
    "184467440737095516161s",
    "9999999999999999TiB",
    "decimal(99999999999,-1)",
    "list<list<list<list<string>>>>",
    "${env:",
    "${env:${env:DATA}}",
    "${file:../../../etc/passwd}",
    "${secret:x:-${secret:y}}",
    "${env:DATA:-${env:DATA:-}}",
];
/// Characters that readers of text stumble over.
const CHARACTERS: [char; 18] = [
    '\0',
    '\t',
    '\r',
    '\u{85}',
    '\u{2028}',
    '\u{feff}',
    '\u{202e}',
    '\u{301}',
    '\u{200d}',
    '\u{ffff}',
    '\u{10ffff}',
    '😀',
    'ß',
    'İ',
    '：',
    '｛',
    '#',
    '@',
];

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

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

/// A line and all that is indented below it.
fn block(lines: &[String], at: usize) -> std::ops::Range<usize> {
    let depth = |line: &String| line.len() - line.trim_start().len();
    let below = |line: &&String| line.trim().is_empty() || depth(line) > depth(&lines[at]);
    at..at + 1 + lines[at + 1..].iter().take_while(below).count()
}

/// A value that is deep, long, or wide.
fn large(random: &mut Random) -> String {
    let count = 1 << random.below(14);
    let (open, close) = random.of(&[&("[", "]"), &("{a: ", "}"), &("[{b: ", "}]"), &("- ", "")]);
    match random.below(6) {
        0 => "x".repeat(count),
        1 => format!("\"{}\"", "\\u00e9".repeat(count / 4)),
        2 => open.repeat(count / 8),
        3 => format!(
            "{}x{}",
            open.repeat(count.min(70)),
            close.repeat(count.min(70))
        ),
        4 => format!("[{}]", "a, ".repeat(count / 2)),
        _ => (0..count / 8).map(|n| format!("k{n}: {n}\n    ")).collect(),
    }
}

/// Nine lists, each of nine times the one before: the "billion laughs" of YAML.
fn bomb() -> String {
    let nine = |n: usize| [format!("*b{n}").as_str(); 9].join(", ");
    let first = "b0: &b0 [lol, lol, lol]\n".to_owned();
    let lists = (1..10).map(|n| format!("b{n}: &b{n} [{}]\n", nine(n - 1)));
    first + &lists.collect::<String>()
}

/// Changes something of `text`.
fn change(text: &str, corpus: &[String], random: &mut Random) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return bomb();
    }
    let at = random.below(lines.len());
    let value = |random: &mut Random| match random.below(4) {
        0 => large(random),
        1 => CHARACTERS[random.below(CHARACTERS.len())].to_string(),
        _ => random.of(&HOSTILE).to_owned(),
    };
    match random.below(10) {
        // A value.
        0..=2 => {
            let end = lines[at]
                .find(": ")
                .map_or(lines[at].len(), |colon| colon + 2);
            lines[at].truncate(end);
            lines[at].push_str(&value(random));
        }
        // Something in the middle.
        3 | 4 => {
            let middle = random.below(lines[at].len() + 1);
            let middle = lines[at].floor_char_boundary(middle);
            lines[at].insert_str(middle, &value(random));
        }
        // A part, twice.
        5 => {
            let part = lines[block(&lines, at)].to_vec();
            lines.splice(at..at, part);
        }
        // A part of another definition.
        6 => {
            let other: Vec<String> = (corpus[random.below(corpus.len())].lines())
                .map(str::to_owned)
                .collect();
            if !other.is_empty() {
                let part = block(&other, random.below(other.len()));
                lines.splice(block(&lines, at), other[part].to_vec());
            }
        }
        // Without a part.
        7 => drop(lines.drain(block(&lines, at))),
        // Another indentation.
        8 => lines[at].insert_str(0, &" ".repeat(random.below(5))),
        _ => {
            let end = random.below(text.len());
            return text[..text.floor_char_boundary(end)].to_owned();
        }
    }
    lines.join("\n")
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
    let (mut valid, mut parsed, mut longest) = (0, 0, 0);
    for seed in first..first + cases {
        let case = Case(seed);
        let mut random = Random(seed);
        let mut text = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(4) {
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
        given.is_ok() || parsed > cases / 3 && valid > cases / 200,
        "{parsed} parsed, {valid} valid: little is looked at closely"
    );
}
