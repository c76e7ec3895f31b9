//! What a definition gets wrong is said before the first row, and no secret is ever shown.

use std::sync::Arc;
use std::time::Duration;

use thalweg_adx::{AdxSink, AdxSpec, Auth, Changes, Client, Connection, Endpoint, Error, Secret};
use thalweg_standin_ledger::Rule;
use thalweg_stream::clock::SystemClock;
use thalweg_stream::{Class, Column, ColumnType, Fault, Sink, StreamKind};

use crate::harness::{StandIn, context, lost, publisher, schema, status};

async fn refusal(spec: AdxSpec) -> Fault {
    let sink = AdxSink::new(spec, schema()).unwrap();
    match sink.publisher(context(1)).await {
        Ok(_) => panic!("it connects"),
        Err(fault) => fault,
    }
}

#[tokio::test]
async fn missing_databases_tables_and_columns_are_named() {
    let standin = StandIn::with(&[
        "iot/Telemetry(n:long, device:string)",
        "iot/Other(n:int, text:string)",
    ])
    .await;
    for (database, table, parts) in [
        (
            "cars",
            "Telemetry",
            &["database \"cars\"", "does not exist", "iot"][..],
        ),
        (
            "iot",
            "Telemetri",
            &["table \"Telemetri\"", "\"iot\"", "Other, Telemetry"],
        ),
        (
            "iot",
            "Other",
            &[
                "column \"n\" is int",
                "['device']: string",
                ".alter-merge table ['Other']",
            ],
        ),
    ] {
        let mut spec = standin.spec();
        (spec.database, spec.table) = (database.to_owned(), table.to_owned());
        let fault = refusal(spec).await;
        assert_eq!(fault.class, Class::User, "{fault}");
        assert!(
            parts.iter().all(|part| fault.message.contains(part)),
            "{fault}"
        );
    }
    // A table without a column for the event time is fine.
    publisher(standin.spec(), 1).await;
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_unreachable() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    let fault = refusal(AdxSpec::new(url, Auth::None, "iot", "Telemetry")).await;
    assert_eq!(fault.class, Class::Unreachable, "{fault}");
    assert!(fault.message.contains("127.0.0.1"), "{fault}");
    let wrong = AdxSink::new(AdxSpec::new("adx.example", Auth::None, "d", "t"), schema());
    assert_eq!(wrong.expect_err("no address").option(), Some("cluster"));
    let token = Auth::Bearer(Secret::new("t"));
    let fault = refusal(AdxSpec::new("https://adx.example", token, "d", "t")).await;
    assert!(
        fault.class == Class::User && fault.message.contains("adx.example"),
        "{fault}"
    );
}

#[tokio::test]
async fn failures_that_may_pass_while_connecting_are_waited_for() {
    let standin = StandIn::start().await;
    let rules = [status(503), status(429), lost()].map(|action| Rule::on("mgmt", action, 1));
    standin.faults(rules.into());
    publisher(standin.spec(), 1).await;
    assert!(
        standin
            .options
            .faults
            .rules()
            .iter()
            .all(|(_, acted)| *acted == 1)
    );
}

#[tokio::test]
async fn changes_are_refused_unless_the_definition_says_append() {
    let standin = StandIn::start().await;
    let mut changes = schema();
    changes.kind = StreamKind::Changes { key: vec![0] };
    let refused = AdxSink::new(standin.spec(), changes.clone()).expect_err("refused");
    let fault = Fault::from(refused);
    assert!(
        fault.class == Class::User && fault.message.contains("changes: append"),
        "{fault}"
    );
    let mut spec = standin.spec();
    spec.changes = Changes::Append;
    let sink = AdxSink::new(spec.clone(), changes.clone()).unwrap();
    assert!(sink.capabilities().changes);
    let Err(fault) = sink.publisher(context(1)).await else {
        panic!("the table has no column for it");
    };
    assert!(fault.message.contains("['_change']: string"), "{fault}");
    let merge = ".alter-merge table Telemetry (_change:string)";
    standin
        .client()
        .command(Endpoint::Engine, "iot", merge)
        .await
        .unwrap();
    AdxSink::new(spec, changes)
        .unwrap()
        .publisher(context(1))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_mapping_of_the_table_may_be_used_instead() {
    let standin = StandIn::with(&["iot/Telemetry(number:long)"]).await;
    let command = ".create table Telemetry ingestion json mapping 'm' \
                   '[{\"column\":\"number\",\"Properties\":{\"Path\":\"$.n\"}}]'";
    standin
        .client()
        .command(Endpoint::Engine, "iot", command)
        .await
        .unwrap();
    let mut spec = standin.spec();
    spec.mapping = Some("m".to_owned());
    let publisher = publisher(spec, 1).await;
    let stage = crate::harness::Stage::default();
    let unit = stage.unit(1, 7..9, 1).await;
    crate::harness::publish(&*publisher, &unit, &stage)
        .await
        .unwrap();
    let sum = standin.ask("Telemetry | summarize sum(number)").await;
    assert_eq!(sum.rows, [[15]]);
}

#[tokio::test]
async fn a_message_that_no_queue_takes_is_the_users_to_shorten() {
    let columns: Vec<Column> = (0..1500)
        .map(|n| {
            Column::new(
                format!("column_with_quite_a_long_name_{n}"),
                ColumnType::Int64,
            )
        })
        .collect();
    let declared: Vec<String> = columns.iter().map(|c| format!("{}:long", c.name)).collect();
    let standin = StandIn::with(&[&format!("iot/Telemetry({})", declared.join(","))]).await;
    let schema = thalweg_stream::StreamSchema::append(columns, false);
    let sink = AdxSink::new(standin.spec(), schema).unwrap();
    let Err(fault) = sink.publisher(context(1)).await else {
        panic!("its messages would not fit");
    };
    assert!(
        fault.class == Class::User && fault.message.contains("mapping"),
        "{fault}"
    );
}

#[tokio::test]
async fn queries_answer_and_errors_are_classified() {
    let standin = StandIn::start().await;
    let client = standin.client();
    let insert = ".ingest inline into table Telemetry <| 1,a,2024-01-01\n2,b,";
    client
        .command(Endpoint::Engine, "iot", insert)
        .await
        .unwrap();
    let query = "Telemetry | where n > 1 | project n, isnull(event_time)";
    let table = client.query("iot", query).await.unwrap();
    assert_eq!(
        table.rows,
        [vec![serde_json::json!(2), serde_json::json!(true)]]
    );
    let kinds: Vec<&str> = table.columns.iter().map(|column| &*column.kind).collect();
    assert_eq!(kinds, ["long", "bool"]);
    for (database, query, part) in [
        ("iot", "Telemetry | where nope == 1", "SEM0100"),
        ("iot", "Nothing | count", "'Nothing'"),
        ("cars", "Telemetry | count", "'cars'"),
    ] {
        let error = client.query(database, query).await.expect_err(query);
        assert!(!error.retryable() && error.status() == Some(400), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let wrong = client
        .command(Endpoint::Engine, "iot", ".dance")
        .await
        .expect_err("no command");
    assert!(!wrong.retryable(), "{wrong}");
    standin.faults(vec![
        Rule::on("query", status(429), 1),
        Rule::on("query", lost(), 1),
    ]);
    let throttled = client.query("iot", query).await.expect_err("throttled");
    assert!(throttled.retryable() && throttled.status() == Some(429));
    let unknown = client.query("iot", query).await.expect_err("lost");
    assert!(matches!(unknown, Error::Unknown { .. }), "{unknown}");
}

#[tokio::test]
async fn no_secret_is_shown() {
    const SECRET: &str = "hunter2";
    let auths = [
        Auth::Bearer(Secret::new(SECRET)),
        Auth::ServicePrincipal {
            tenant: "t".to_owned(),
            client_id: "c".to_owned(),
            client_secret: Secret::new(SECRET),
        },
    ];
    for auth in auths {
        // Nobody answers there, so that an error has every chance to quote something.
        let connection = Connection::new(format!("http://127.0.0.1:1/?key={SECRET}"), auth);
        let client = Client::new(&connection, "job", Arc::new(SystemClock::new())).unwrap();
        let error = client.query("d", "T").await.expect_err("nobody is there");
        let mut spec = AdxSpec::new("http://127.0.0.1:1", connection.auth.clone(), "d", "t");
        spec.repost_after = Duration::from_secs(1);
        let sink = AdxSink::new(spec.clone(), schema()).unwrap();
        let shown = format!(
            "{client:?} {:?} {spec:?} {sink:?} {error} {error:?}",
            connection.auth
        );
        assert!(!shown.contains(SECRET), "{shown}");
    }
    let wrong = Connection::new(format!("nonsense?{SECRET}"), Auth::None);
    let error = Client::new(&wrong, "job", Arc::new(SystemClock::new())).expect_err("no address");
    assert!(!error.to_string().contains(SECRET), "{error}");
}
