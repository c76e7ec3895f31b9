//! What a definition may not be more of, and how that is said.

use expect_test::{Expect, expect};

use super::load_with;

fn check(text: &str, expected: &Expect) {
    let errors = load_with(text, &[]).expect_err("beyond a limit");
    expected.assert_eq(&errors.render(false));
}

const HEAD: &str = "\
job: a
sources: { s: { generate: { what: fleet }, schema: { x: string } } }
sinks: { o: { from: s, discard: } }
";

fn steps(count: usize) -> String {
    let step = |n| format!("  step{n}: {{ from: s, drop: [x] }}\n");
    format!("{HEAD}steps:\n{}", (0..count).map(step).collect::<String>())
}

#[test]
fn steps_are_at_most_500() {
    let most = load_with(&steps(500), &[]);
    assert!(most.is_ok(), "{most:?}");
    check(
        &steps(501),
        &expect![[r#"
        job.yaml:1:1: error: a job has at most 500 steps, this one 501
        1 | job: a
          | ^
    "#]],
    );
}

#[test]
fn texts_are_at_most_a_mebibyte() {
    let of = |bytes: usize| {
        let filled = format!("{HEAD}#");
        format!("{filled}{}", "x".repeat(bytes - filled.len()))
    };
    assert!(load_with(&of(1 << 20), &[]).is_ok());
    check(
        &of((1 << 20) + 1),
        &expect![[r#"
        job.yaml:1:1: error: a definition has at most 1 MiB, this one has more
        1 | 
          | ^
    "#]],
    );
}

#[test]
fn nesting_is_at_most_64_levels() {
    // The mapping of all is the first.
    let of = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!("{HEAD}description: {open}{close}\n")
    };
    let errors = load_with(&of(64), &[]).expect_err("no text").render(false);
    assert!(!errors.contains("nested"), "{errors}");
    check(
        &of(65),
        &expect![[r#"
        job.yaml:4:77: error: nested more than 64 deep
        4 | description: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]
          |                                                                             ^
    "#]],
    );
    // Of a long line an excerpt is shown.
    check(
        &"a: {".repeat(200_000),
        &expect![[r#"
        job.yaml:1:256: error: nested more than 64 deep
        1 | …{a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: …
          |                                                                                                                          ^
    "#]],
    );
}

#[test]
fn names_have_at_most_63_characters() {
    let of = |length: usize| HEAD.replace("job: a", &format!("job: {}", "a".repeat(length)));
    assert!(load_with(&of(63), &[]).is_ok());
    check(
        &of(64),
        &expect![[r#"
        job.yaml:1:6: error: `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa` is no name: names match [a-z][a-z0-9_-]{0,62}
        1 | job: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
          |      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    "#]],
    );
}

#[test]
fn of_more_than_200_errors_the_rest_is_counted() {
    let of = |count: usize| {
        let wrong: String = (0..count).map(|n| format!("  x{n}: 1\n")).collect();
        let errors = load_with(&format!("{HEAD}settings:\n{wrong}"), &[]).expect_err("unknown");
        let last = errors.found.last().expect("an error").message.clone();
        (errors.found.len(), last)
    };
    assert_eq!(of(200), (200, "`settings` has no field `x199`".to_owned()));
    assert_eq!(of(203), (201, "and 3 more".to_owned()));
}
