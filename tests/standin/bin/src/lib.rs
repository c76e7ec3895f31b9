//! A client of a few lines for what the stand-ins serve: documents of Azure Cosmos DB by key,
//! queries and commands of Azure Data Explorer, the ledger, and planned faults.
//!
//! It is no client for the cloud: plain HTTP, the emulators' well-known key, one connection for
//! each request. Tests and the demonstration look at results with it, so that what they see is
//! what any client would.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use thalweg_standin_cosmos::authorization;
use thalweg_standin_ledger::Entry;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The signed date: the stand-in takes any, and a clock is not needed.
const DATE: &str = "Tue, 01 Nov 2022 08:12:31 GMT";

/// Why there is no answer to look at.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The address is none of a stand-in.
    #[error("\"{0}\" is not http://ADDRESS:PORT")]
    Address(String),
    /// No container is named.
    #[error("\"{0}\" is not DATABASE/CONTAINER")]
    Container(String),
    /// The connection failed.
    #[error("{address}: {source}")]
    Connection {
        /// Where the service was looked for.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The service refuses.
    #[error("{address} answers {status}: {body}")]
    Refused {
        /// The service.
        address: String,
        /// The HTTP status.
        status: u16,
        /// Its words.
        body: String,
    },
    /// The answer is not what the service promises.
    #[error("{address} answers what is not understood: {body}")]
    Answer {
        /// The service.
        address: String,
        /// Its words.
        body: String,
    },
}

/// A stand-in, asked from outside.
#[derive(Clone, Debug)]
pub struct Client {
    address: String,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.address)
    }
}

/// What a query gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Value>>,
}

impl Client {
    /// A client of the stand-in at `url`, `http://ADDRESS:PORT`.
    ///
    /// # Errors
    /// If `url` is not of this form.
    pub fn new(url: &str) -> Result<Self, AskError> {
        let address = url.trim_end_matches('/').strip_prefix("http://");
        let address = address.filter(|rest| rest.contains(':') && !rest.contains('/'));
        match address {
            Some(address) => Ok(Self {
                address: address.to_owned(),
            }),
            None => Err(AskError::Address(url.to_owned())),
        }
    }

    /// A document of Cosmos DB by partition key and id, if there is one; `container` is
    /// `DATABASE/CONTAINER`.
    ///
    /// # Errors
    /// If the service cannot be asked or refuses.
    pub fn document(
        &self,
        container: &str,
        key: &Value,
        id: &str,
    ) -> Result<Option<Value>, AskError> {
        let (database, container) = container
            .split_once('/')
            .ok_or_else(|| AskError::Container(container.to_owned()))?;
        let link = format!("dbs/{database}/colls/{container}/docs/{id}");
        let signed = authorization("get", "docs", &link, DATE).unwrap_or_default();
        let headers = format!(
            "authorization: {signed}\r\nx-ms-date: {DATE}\r\nx-ms-version: 2020-07-15\r\n\
             x-ms-documentdb-partitionkey: [{key}]\r\n"
        );
        let path = format!("/{}", encoded(&link));
        match self.ask("GET", &path, &headers, "") {
            Ok(body) => self.json(&body).map(Some),
            Err(AskError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a query (KQL) of Azure Data Explorer gives.
    ///
    /// # Errors
    /// If the service cannot be asked or refuses.
    pub fn query(&self, database: &str, kql: &str) -> Result<Answer, AskError> {
        self.data_explorer("/v1/rest/query", database, kql)
    }

    /// What a management command of Azure Data Explorer gives.
    ///
    /// # Errors
    /// If the service cannot be asked or refuses.
    pub fn command(&self, database: &str, command: &str) -> Result<Answer, AskError> {
        self.data_explorer("/v1/rest/mgmt", database, command)
    }

    /// The ledger so far.
    ///
    /// # Errors
    /// If the service cannot be asked.
    pub fn ledger(&self) -> Result<Vec<Entry>, AskError> {
        let body = self.ask("GET", "/__ledger", "", "")?;
        let entries = body.lines().map(serde_json::from_str);
        entries
            .collect::<Result<_, _>>()
            .map_err(|_| self.not_understood(&body))
    }

    /// From now on these rules decide which requests go wrong.
    ///
    /// # Errors
    /// If the service cannot be asked, or the rules are none.
    pub fn plan(&self, rules: &Value) -> Result<(), AskError> {
        let body = rules.to_string();
        self.ask("POST", "/__faults", "", &body).map(drop)
    }

    /// How often each rule has acted.
    ///
    /// # Errors
    /// If the service cannot be asked.
    pub fn acted(&self) -> Result<Vec<u64>, AskError> {
        let body = self.ask("GET", "/__faults", "", "")?;
        let rules = self.json(&body)?;
        let rules = rules.as_array().map(Vec::as_slice).unwrap_or_default();
        let acted = rules.iter().map(|rule| rule.get("acted")?.as_u64());
        acted
            .collect::<Option<_>>()
            .ok_or_else(|| self.not_understood(&body))
    }

    fn data_explorer(&self, path: &str, database: &str, csl: &str) -> Result<Answer, AskError> {
        let body = json!({ "db": database, "csl": csl }).to_string();
        let headers = "content-type: application/json\r\n";
        let body = self.ask("POST", path, headers, &body)?;
        first_table(&self.json(&body)?).ok_or_else(|| self.not_understood(&body))
    }

    fn json(&self, body: &str) -> Result<Value, AskError> {
        serde_json::from_str(body).map_err(|_| self.not_understood(body))
    }

    fn not_understood(&self, body: &str) -> AskError {
        AskError::Answer {
            address: self.address.clone(),
            body: body.to_owned(),
        }
    }

    /// The body of the answer to one request.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Result<String, AskError> {
        let address = &self.address;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let exchange = || {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = exchange().map_err(|source| AskError::Connection {
            address: address.clone(),
            source,
        })?;
        let head = answer.split_once("\r\n\r\n");
        let (head, body) = head.ok_or_else(|| self.not_understood(&answer))?;
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        match status {
            Some(200..300) => Ok(body.to_owned()),
            Some(status) => Err(AskError::Refused {
                address: address.clone(),
                status,
                body: body.to_owned(),
            }),
            None => Err(self.not_understood(&answer)),
        }
    }
}

fn first_table(answer: &Value) -> Option<Answer> {
    let table = answer.get("Tables")?.get(0)?;
    let columns = table.get("Columns")?.as_array()?.iter();
    let columns = columns.map(|column| Some(column.get("ColumnName")?.as_str()?.to_owned()));
    let rows = table.get("Rows")?.as_array()?.iter();
    Some(Answer {
        columns: columns.collect::<Option<_>>()?,
        rows: rows
            .map(|row| row.as_array().cloned())
            .collect::<Option<_>>()?,
    })
}

/// A path with the characters that cannot stand in a request line encoded.
fn encoded(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~:@!$&'()*+,;=".contains(&byte);
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match plain(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
