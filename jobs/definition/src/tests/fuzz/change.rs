//! Changes a definition at random where its structure is: lines, values, parts of others. The tests of
//! the planner have it too.

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
pub(crate) const CHARACTERS: [char; 18] = [
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
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
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
pub(crate) fn change(text: &str, corpus: &[String], random: &mut Random) -> String {
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
