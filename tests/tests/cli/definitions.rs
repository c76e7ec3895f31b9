//! Definitions that are wrong in ways that planning has to survive.

use crate::{FLEET, Place};

#[test]
fn steps_that_take_one_another_are_refused() {
    // A step that has the name of its source takes its own output.
    let same = FLEET.replace("per_device:", "reports:");
    let same = same.replace("from: per_device", "from: reports");
    let place = Place::with(&same);
    place.run("validate job.yaml").expect(
        1,
        &[
            "`reports` is the name of something else, in line 5",
            "step `reports` takes its own output",
        ],
    );
    let circle = "steps:\n  one: { from: [reports, two], filter: speed_kmh > 1 }\n  two: { from: one, set: { speed_kmh: speed_kmh + 1 } }";
    place.write("circle.yaml", &FLEET.replace("steps:", circle));
    place
        .run("validate circle.yaml")
        .expect(1, &["step `one` takes its own output, through two"]);
}

#[test]
fn all_that_is_wrong_in_a_step_is_told_at_once() {
    let steps = r#"steps:
  selected: { from: reports, select: { a: nowhere + 1, b: nothing(speed_kmh), _change: speed_kmh } }
  renamed: { from: reports, rename: { nowhere: x, neither: y } }
  routed: { from: reports, route: { x: nowhere > 1, y: neither > 1 } }
  counted:
    from: reports
    window: { tumbling: 10s, by: [other], aggregate: { n: "sum(nowhere)", m: "max(neither)" } }
"#;
    let place = Place::with(&FLEET.replace("steps:\n", steps));
    let all = [
        "column \"nowhere\"",
        "nothing",
        "`_change` is a reserved name",
        "no column `nowhere`",
        "no column `neither`",
    ];
    place.run("validate job.yaml").expect(1, &all);
}

#[test]
fn what_is_wrong_with_columns_is_told_where_each_stands() {
    let schema = "schema: { one: { type: timestamp, format: \"%Q\" }, two: { type: timestamp, format: \"%\" },";
    let job = FLEET.replace("schema: {", schema);
    let place = Place::with(&job);
    let mut lines = job.lines().enumerate();
    let (before, line) = lines
        .find(|(_, line)| line.contains(schema))
        .expect("it is there");
    let told = [("one", "\"%Q\""), ("two", "\"%\"")].map(|(column, format)| {
        let at = line.find(format).expect("it is there") + 1;
        format!("job.yaml:{}:{at}: error: column \"{column}\"", before + 1)
    });
    (place.run("validate job.yaml")).expect(1, &told.each_ref().map(String::as_str));
}

#[test]
fn streams_that_part_and_meet_again_and_again_are_planned_at_once() {
    let mut steps = String::from("steps:\n");
    for level in 0..100 {
        let from = match level {
            0 => "reports".to_owned(),
            _ => format!("[a{0}, b{0}]", level - 1),
        };
        for name in ["a", "b"] {
            let step = format!("  {name}{level}: {{ from: {from}, filter: speed_kmh > 1 }}\n");
            steps.push_str(&step);
        }
    }
    let job = FLEET
        .replace("steps:\n", &steps)
        .replace("from: reports\n", "from: [a99, b99]\n");
    let place = Place::with(&job);
    place.run("validate job.yaml").expect(0, &["fleet: valid"]);
}

#[test]
fn two_sinks_do_not_write_the_same_files() {
    let sinks = "sinks:\n  again: { from: reports, file: { path: x/.././out, format: csv } }\n";
    let place = Place::with(&FLEET.replace("sinks:\n", sinks));
    place.run("validate job.yaml").expect(
        1,
        &["job.yaml:15:42: error: sink `again` writes to this folder"],
    );
    place
        .run("validate job.yaml --set sinks.again.file.path=out/again")
        .expect(0, &["valid"]);
}

#[test]
fn unknown_metadata_is_told_where_it_stands() {
    let metadata = "    metadata: { at: ofset }\nsteps:\n";
    let place = Place::with(&FLEET.replace("steps:\n", metadata));
    place.run("validate job.yaml").expect(
        1,
        &[
            "job.yaml:9:21: error: this source has no metadata `ofset`; it has offset",
            "did you mean `offset`?",
        ],
    );
}

#[test]
fn no_column_gets_a_name_of_the_system() {
    for (step, at) in [
        ("rename: { speed_kmh: event_time }", 48),
        ("set: { event_time: ts }", 34),
        ("select: { event_time: ts }", 37),
    ] {
        let steps = format!("steps:\n  named: {{ from: reports, {step} }}\n");
        let place = Place::with(&FLEET.replace("steps:\n", &steps));
        let message = format!("job.yaml:10:{at}: error: `event_time` is a reserved name");
        place.run("validate job.yaml").expect(1, &[&message]);
    }
}

#[test]
fn what_is_wrong_with_dead_letters_is_told_where_they_stand() {
    let small = "settings:\n  dead_letters: { file: { max_size: 1KiB } }\n";
    let place = Place::with(&FLEET.replace("settings:\n", small));
    place.run("validate job.yaml").expect(
        1,
        &["job.yaml:3:17: error: dead_letters: file: \"max_size\" is \"1024\", but must be at least"],
    );
}

#[test]
fn what_is_wrong_with_a_sink_is_told_where_it_stands() {
    let cosmos = "cosmos: { endpoint: ENDPOINT, key: \"${secret:PATH}\", database: d, container: c, id: ID, partition_key: device_id }";
    let at_home = cosmos.replace("ENDPOINT", "http://localhost:1");
    for (sink, at, message) in [
        (
            "file: { path: ./out, roll: { size: 1GiB } }",
            "1GiB",
            "file: \"roll.size\" is \"1073741824\", but must be 1 byte to 64MiB",
        ),
        (
            &at_home.replace("ID", "nobody"),
            "nobody",
            "id: the stream has no column \"nobody\"",
        ),
        (
            &cosmos.replace("ENDPOINT", "nowhere"),
            "nowhere",
            "\"nowhere\" is not a Cosmos DB endpoint: relative URL without a base",
        ),
        // The request would tell everybody on its way what it is signed with.
        (
            &cosmos.replace("ENDPOINT", "http://example.com"),
            "http://example.com",
            "\"http://example.com\" is not a Cosmos DB endpoint: http:// is for this machine only",
        ),
        (
            "adx: { cluster: nowhere, database: d, table: t }",
            "nowhere",
            "cluster \"nowhere\": relative URL without a base",
        ),
        (
            "adx: { cluster: http://localhost:1, database: d, table: \"\" }",
            "\"\"",
            "`table` is empty",
        ),
    ] {
        let written = format!("    {sink}");
        let place = Place::with(&FLEET.replace(
            "  out: { from: per_device, file: { path: ./out } }",
            &format!("  out:\n    from: per_device\n{written}"),
        ));
        let column = written.find(at).expect("it is written") + 1;
        let told = format!("job.yaml:16:{column}: error: {message}");
        place.run("validate job.yaml").expect(1, &[&told]);
    }
}

#[test]
fn what_is_named_by_mistake_is_not_read_for_ever() {
    let place = Place::with(&FLEET.replace("./out", "\"${file:/dev/zero}\""));
    let said = ["/dev/zero:1:1: error: a definition has at most 1 MiB"];
    place.run("validate /dev/zero").expect(1, &said);
    let said = ["the file /dev/zero cannot be read: it has more than 1 MiB"];
    place.run("validate job.yaml").expect(1, &said);
}
