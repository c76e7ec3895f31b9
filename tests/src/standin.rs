//! The stand-ins for Azure's services as processes that outlive a killed job, and what is found in
//! them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use thalweg_standin::Client;
use thalweg_standin_cosmos::oracle;
use thalweg_standin_ledger::Entry;

use crate::process::binary;

/// A stand-in, ended with the test.
#[derive(Debug)]
pub struct StandIn {
    process: Child,
    client: Client,
    ledger: PathBuf,
}

impl StandIn {
    /// Starts `thalweg-standin SERVICE` on a free port, with what `create` names, and its ledger at
    /// `ledger`; `more` are further arguments.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(service: &str, create: &[&str], ledger: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(binary("thalweg-standin"));
        command.args([service, "--ledger"]).arg(ledger).args(more);
        for what in create {
            command.args(["--create", what]);
        }
        let mut process = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let out = process.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let url = line.trim().strip_prefix("listening on ");
        Self {
            client: Client::new(url.expect("where it listens")).expect("an address"),
            process,
            ledger: ledger.to_owned(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        self.client.to_string()
    }

    /// From now on these rules decide which requests go wrong.
    ///
    /// # Panics
    /// If the rules are none.
    pub fn plan(&self, rules: &Value) {
        self.client.plan(rules).expect("rules");
    }

    /// How often each rule has acted.
    ///
    /// # Panics
    /// If the service does not answer.
    #[must_use]
    pub fn acted(&self) -> Vec<u64> {
        self.client.acted().expect("an answer")
    }

    /// The ledger so far.
    ///
    /// # Panics
    /// If the service does not answer.
    #[must_use]
    pub fn ledger(&self) -> Vec<Entry> {
        self.client.ledger().expect("an answer")
    }

    /// How long the ledger is by now, bytes.
    ///
    /// # Panics
    /// If it is not there.
    #[must_use]
    pub fn ledger_bytes(&self) -> u64 {
        let ledger = std::fs::metadata(&self.ledger);
        ledger.expect("a ledger").len()
    }

    /// The entries that stand behind the first `bytes` of the ledger. The service is not asked, which
    /// would read all of it, and answer nobody else meanwhile.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn ledger_behind(&self, bytes: u64) -> Vec<Entry> {
        let mut file = File::open(&self.ledger).expect("a ledger");
        let before = SeekFrom::Start(bytes.saturating_sub(1));
        file.seek(before).expect("a place in it");
        let mut text = Vec::new();
        file.read_to_end(&mut text).expect("readable");
        // The entry that was written just then, and the one that is written just now, may be cut.
        let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        lines.pop();
        let entry = |line: &&[u8]| serde_json::from_slice(line).expect("an entry");
        lines
            .iter()
            .skip(usize::from(bytes > 0))
            .map(entry)
            .collect()
    }

    /// The applied entries of `operation` whose target begins with `target`.
    ///
    /// # Panics
    /// If the service does not answer.
    #[must_use]
    pub fn applied(&self, operation: &str, target: &str) -> Vec<Entry> {
        let mut entries = self.ledger();
        entries.retain(|entry| {
            entry.applied && entry.operation == operation && entry.target.starts_with(target)
        });
        entries
    }

    /// The rows a query of Azure Data Explorer gives.
    ///
    /// # Panics
    /// If it is refused.
    #[must_use]
    pub fn query(&self, database: &str, kql: &str) -> Vec<Vec<Value>> {
        self.client.query(database, kql).expect("an answer").rows
    }

    /// Runs a management command of Azure Data Explorer.
    ///
    /// # Panics
    /// If it is refused.
    pub fn command(&self, database: &str, command: &str) {
        self.client.command(database, command).expect("an answer");
    }

    /// A document of Cosmos DB by key, if there is one; `container` is `DATABASE/CONTAINER`.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn document(&self, container: &str, key: &Value, id: &str) -> Option<Value> {
        let document = self.client.document(container, key, id);
        document.expect("an answer")
    }

    /// Of a Cosmos DB: which (partition key, id) of `container` have ever been written, and how
    /// often. No document went back, no fenced generation wrote, no write was lost.
    ///
    /// # Panics
    /// If the history of a document is wrong.
    #[must_use]
    pub fn written(&self, container: &str) -> BTreeMap<(String, String), u64> {
        let ledger = self.ledger();
        let wrong = oracle::violations(&ledger);
        assert!(wrong.is_empty(), "{wrong:#?}");
        let mut documents = BTreeMap::new();
        let entries = ledger.iter().filter(|entry| entry.applied);
        for entry in entries.filter(|entry| entry.details["container"] == container) {
            let key = entry.details["partition_key"][0].as_str();
            for write in entry.details["writes"].as_array().into_iter().flatten() {
                let id = write["id"].as_str().expect("an id").to_owned();
                let place = (key.expect("a text").to_owned(), id);
                *documents.entry(place).or_default() += 1;
            }
        }
        documents
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
