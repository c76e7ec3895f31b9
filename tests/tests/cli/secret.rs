//! A credential shows nowhere, whatever is asked of a job.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;

use thalweg_tests::process::until;

use crate::{Ended, FLEET, Place, Running};

/// The answer to a GET request.
fn get(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).expect("listening");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

/// Everything in a folder: names and contents.
fn everything_in(folder: &Path) -> String {
    let mut all = String::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            all.push_str(&path.display().to_string());
            match path.is_dir() {
                true => open.push(path),
                false => {
                    let content = std::fs::read(&path).unwrap_or_default();
                    all.push_str(&String::from_utf8_lossy(&content));
                }
            }
        }
    }
    all
}

#[test]
fn a_secret_shows_nowhere() {
    const CANARY: &str = "canary-Zm9v/YmFy+YmF6==";
    const LITERAL: &str = "bGl0ZXJhbC1jYW5hcnk=";
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nowhere = format!("http://{}", port.local_addr().expect("bound"));
    drop(port);
    let cosmos = |key: &str| {
        format!(
            "cosmos: {{ endpoint: \"{nowhere}\", key: \"{key}\", database: \"db-${{secret:CANARY}}\", container: c, id: device_id, partition_key: device_id }}"
        )
    };
    // A job whose places are secret, and which runs.
    let job = FLEET.replace("events: 20000,", "rate: 2000,");
    let job = job.replace("path: ./out", "path: \"./out-${secret:CANARY}\"");
    let dead = "dead_letters: { file: { path: \"./dead-${secret:CANARY}\" } }\nsources:";
    let job = job
        .replace("sources:", &format!("  {dead}"))
        .replace("CANARY", "HIDDEN");
    let place = Place::with(&job);
    let out = "file: { path: ./out }";
    place.write("unreachable.yaml", &FLEET.replace(out, &cosmos(LITERAL)));
    let wrong = FLEET.replace(
        out,
        &cosmos("${secret:CANARY}")
            .replace("id: device_id", "id: devic_id, ky: \"${secret:CANARY}\""),
    );
    place.write("wrong.yaml", &wrong);
    place.write(
        "torn.yaml",
        &FLEET.replace(out, &cosmos(&format!("{LITERAL}\"\""))),
    );
    let run = |line: &str| {
        let mut command = place.thalweg(line.split_whitespace());
        command
            .env("CANARY", CANARY)
            .env("HIDDEN", "hidden-place-7131")
            .env("THALWEG_LOG", "debug");
        command
    };
    let mut shown = String::new();
    let mut note = |status: i32, line: &str| {
        let ended = Ended::of(&run(line).output().expect("the binary runs")).expect(status, &[]);
        shown += &format!("{}{}", ended.out, ended.err);
    };
    for json in ["", " --json"] {
        note(0, &format!("validate job.yaml{json}"));
        note(0, &format!("graph job.yaml{json}"));
        note(0, &format!("validate unreachable.yaml{json}"));
        note(2, &format!("validate unreachable.yaml --connect{json}"));
        note(2, &format!("run unreachable.yaml{json}"));
        note(1, &format!("validate wrong.yaml{json}"));
        note(1, &format!("validate torn.yaml{json}"));
        note(
            1,
            &format!("run job.yaml --set settings.checkpoint.every=${{secret:CANARY}}{json}"),
        );
    }
    let mut running = run("run job.yaml --listen 127.0.0.1:0 --json");
    running.stdout(Stdio::piped()).stderr(Stdio::from(
        std::fs::File::create(place.path("stderr")).expect("a file"),
    ));
    let running = Running(Some(running.spawn().expect("starts")));
    let said = || std::fs::read_to_string(place.path("stderr")).expect("readable");
    until("it listens", || said().contains("listening on http://"));
    let address = said();
    let address = address
        .split("listening on http://")
        .nth(1)
        .expect("an address");
    let address = address
        .split_whitespace()
        .next()
        .expect("an address")
        .to_owned();
    until("it commits", || {
        get(&address, "/status").contains("\"checkpoint\":{")
    });
    for path in ["/status", "/metrics", "/healthz", "/readyz"] {
        shown += &get(&address, path);
    }
    running.signal("INT");
    let ended = running.end().expect(0, &["\"stopped\""]);
    shown += &format!("{}{}", ended.out, said());
    let mut note = |line: &str| {
        let ended = place.run(line).expect(0, &[]);
        shown += &format!("{}{}", ended.out, ended.err);
    };
    for action in ["list", "show", "verify"] {
        note(&format!("checkpoint {action} checkpoints"));
        note(&format!("checkpoint {action} checkpoints --json"));
    }
    shown += &everything_in(&place.path("checkpoints"));
    assert!(
        place.path("out-hidden-place-7131").exists(),
        "the secret was used"
    );
    for secret in [CANARY, LITERAL, "hidden-place-7131"] {
        let at = shown.find(secret);
        assert!(
            at.is_none(),
            "{secret}: {:?}",
            at.map(|at| &shown[at.saturating_sub(300)..at])
        );
    }
    assert!(shown.contains("******"), "what was covered is marked");
    assert!(shown.contains("is a credential and is written out"));
}

#[test]
fn no_part_of_a_secret_shows_in_what_is_said_of_an_expression() {
    let steps = "steps:\n  fast: { from: reports, filter: \"speed_kmh > ${secret:TORN}\" }\n";
    let place = Place::with(&FLEET.replace("steps:\n", steps));
    for (secret, part) in [
        ("eyJhbGci.eyJzdWIi.PLpqTT", "PLpqTT"),
        ("Zm9v/YmFyQUJD==", "YmFyQUJD"),
        ("correct horsebattery staple", "horsebattery"),
    ] {
        for form in ["", " --json"] {
            let line = format!("validate job.yaml{form}");
            let mut command = place.thalweg(line.split_whitespace());
            let ended = command.env("TORN", secret).output().expect("runs");
            let said = [ended.stdout, ended.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(said.contains("a secret cannot stand here"), "{said}");
            assert!(!said.contains(part), "{said}");
        }
    }
}
