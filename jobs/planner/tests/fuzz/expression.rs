//! Changes what an expression of a loaded definition says, or a name beside it, so that what stands
//! between quotes is not in the way.

use thalweg_definition::{Definition, Operation};

use crate::change::{CHARACTERS, Random};

/// What is put in place of a part, before, behind or around it.
const PARTS: [&str; 84] = [
    "n",
    "t",
    "at",
    "b",
    "d",
    "j",
    "l",
    "event_time",
    "\"n\"",
    "s.n",
    "deviceId",
    "nothing",
    "null",
    "true",
    "-1",
    "0",
    "9223372036854775808",
    "1e400",
    "0.1e-400",
    "'a'",
    "''",
    "'\u{1}'",
    "x'ff'",
    "'(['",
    "date '2020-13-45'",
    "timestamp '0000-00-00'",
    "interval '1 day'",
    "interval '99999999999 years'",
    "+",
    "-",
    "*",
    "/",
    "%",
    "=",
    "<>",
    "and",
    "or",
    "not",
    "is null",
    "is distinct from",
    "||",
    "->",
    "->>",
    "::int",
    "::decimal(99,99)",
    "~",
    "like",
    "not ilike 'a\\'",
    "between",
    "in (1, null)",
    "in ()",
    "in (select 1)",
    "exists (select 1)",
    "(select 1)",
    "over ()",
    "filter (where b)",
    "count(*)",
    "sum(n)",
    "sum(distinct n)",
    "array_agg(t)",
    "abs(n)",
    "abs()",
    "1 / 0",
    "power(2, 1e9)",
    "repeat(t, 9223372036854775807)",
    "lpad('a', 2147483647)",
    "regexp_like(t, '((a*)*)*')",
    "regexp_replace(t, '(', '')",
    "to_timestamp('x')",
    "date_trunc('nothing', at)",
    "date_bin(interval '0 days', at)",
    "extract(nothing from at)",
    "cast(t as nothing)",
    "cast('x' as bigint)",
    "try_cast(t as date)",
    "arrow_cast(n, 'Int8')",
    "case end",
    "case when",
    "x -> x",
    "[1, 2]",
    "{'a': 1}",
    "struct(1)",
    "$1",
    ";",
];
/// What is put around a part, where the part is `@`.
const AROUND: [&str; 14] = [
    "(@)",
    "not (@)",
    "-(@)",
    "abs(@)",
    "coalesce(@, null)",
    "nullif(@, @)",
    "cast(@ as string)",
    "cast(@ as decimal(38,38))",
    "case when @ then @ else @ end",
    "(@) in (@, @)",
    "(@) between @ and @",
    "concat(@, @)",
    "sum(@)",
    "@ or @",
];

/// The texts of a definition that are expressions, and its names of columns and streams.
fn texts(definition: &mut Definition) -> (Vec<&mut String>, Vec<&mut String>) {
    let (mut expressions, mut names) = (Vec::new(), Vec::new());
    for step in &mut definition.steps {
        names.extend(step.from.iter_mut().map(|from| &mut from.value));
        match &mut step.operation {
            Operation::Union => {}
            Operation::Filter(condition) => expressions.push(&mut condition.value),
            Operation::Select(made) | Operation::Set(made) => {
                for (name, expression) in made {
                    names.push(&mut name.value);
                    expressions.push(&mut expression.value);
                }
            }
            Operation::Drop(columns) => names.extend(columns.iter_mut().map(|c| &mut c.value)),
            Operation::Rename(pairs) => {
                names.extend(
                    pairs
                        .iter_mut()
                        .flat_map(|(a, b)| [&mut a.value, &mut b.value]),
                );
            }
            Operation::Route(outputs) => {
                let conditions = outputs
                    .iter_mut()
                    .filter_map(|(_, condition)| condition.as_mut());
                expressions.extend(conditions.map(|condition| &mut condition.value));
            }
            Operation::Dedup(dedup) => names.extend(dedup.by.iter_mut().map(|by| &mut by.value)),
            Operation::Window(window) => {
                names.extend(window.by.iter_mut().map(|by| &mut by.value));
                for (name, call) in &mut window.aggregate {
                    names.push(&mut name.value);
                    expressions.push(&mut call.value);
                }
                expressions.extend(window.having.as_mut().map(|having| &mut having.value));
            }
            Operation::Enrich(enrich) => {
                names.push(&mut enrich.with.value);
                let pairs = enrich.on.iter_mut().chain(&mut enrich.take);
                names.extend(pairs.flat_map(|(a, b)| [&mut a.value, &mut b.value]));
            }
        }
    }
    (expressions, names)
}

/// Where words, numbers and signs begin, and where the text ends.
fn bounds(text: &str) -> Vec<usize> {
    let kind = |c: char| (c.is_alphanumeric() || c == '_', c.is_whitespace());
    let mut before = None;
    let mut bounds: Vec<usize> = (text.char_indices())
        .filter(|(_, c)| before.replace(kind(*c)) != Some(kind(*c)))
        .map(|(at, _)| at)
        .collect();
    bounds.push(text.len());
    bounds
}

/// Changes one expression, or now and then a name.
pub(crate) fn change(definition: &mut Definition, random: &mut Random) {
    let (mut expressions, mut names) = texts(definition);
    let all: Vec<String> = expressions.iter().map(|text| (**text).clone()).collect();
    if !names.is_empty() && (all.is_empty() || random.below(8) == 0) {
        let (at, other) = (random.below(names.len()), random.below(names.len()));
        *names[at] = match random.below(3) {
            0 => names[other].clone(),
            1 => random.of(&PARTS).to_owned(),
            _ => "x".repeat(1 << random.below(13)),
        };
        return;
    }
    if all.is_empty() {
        return;
    }
    let text = &mut *expressions[random.below(all.len())];
    let bounds = bounds(text);
    let (one, other) = (random.below(bounds.len()), random.below(bounds.len()));
    let (from, to) = match random.below(3) {
        0 => (0, text.len()),
        _ => (bounds[one.min(other)], bounds[one.max(other)]),
    };
    let part = text[from..to].to_owned();
    let count = 1 << random.below(11);
    let new = match random.below(9) {
        0 | 1 => random.of(&PARTS).to_owned(),
        2 => format!("{part} {}", random.of(&PARTS)),
        3 => String::new(),
        4 | 5 => random.of(&AROUND).replace('@', &part),
        6 => format!("({})", all[random.below(all.len())]),
        7 => match random.below(4) {
            0 => format!("{}{part}{}", "(".repeat(count), ")".repeat(count)),
            1 => format!(
                "{}{part}",
                random.of(&["- ", "not ", "case when "]).repeat(count)
            ),
            2 => format!(
                "{part}{}",
                random
                    .of(&[" + 0", " || t", " and b", "[1]", "::int"])
                    .repeat(count)
            ),
            _ => format!("coalesce({part}{})", ", null".repeat(count)),
        },
        _ => CHARACTERS[random.below(CHARACTERS.len())].to_string(),
    };
    text.replace_range(from..to, &new);
}
