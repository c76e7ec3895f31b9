//! The processes of a job on several hosts, by their addresses: each is started by its own host, and
//! they find each other.
//!
//! Process 0 leads; the others (`follow.rs`) come to it for every attempt. Between hosts everything is
//! encrypted, and who has not both a certificate and the secret is not let in.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use thalweg_engine::{Launch, Peer};
use thalweg_mesh::{Attempt, Fate, Listener, Member, Secret, Tls};
use thalweg_stream::{Fault, Generation};

use crate::command::HostArguments;
use crate::transport::{PATIENCE, peer};
use crate::{Failure, terminal};

/// As for processes on one host.
const PROCESSES_MAX: usize = 64;

/// Where the processes of a job are, and what they recognize each other by.
pub(crate) struct Hosts {
    job: Arc<str>,
    /// Of every process, as the others reach it: host and port.
    addresses: Vec<String>,
    bind: Option<SocketAddr>,
    secret: Secret,
    tls: Option<Tls>,
}

impl Hosts {
    /// Those that the command line names.
    pub(crate) fn new(job: &str, arguments: &HostArguments) -> Result<Self, Failure> {
        let addresses = arguments.hosts.clone();
        if !(2..=PROCESSES_MAX).contains(&addresses.len()) {
            let what = format!("--hosts has the addresses of 2 to {PROCESSES_MAX} processes");
            return Err(Failure::User(what));
        }
        let mut known = BTreeSet::new();
        for address in &addresses {
            let host = host(address)?;
            if arguments.tls_ca.is_none() && !is_loopback(host) {
                return Err(Failure::User(format!(
                    "--hosts {address}: it is not this host: processes on several hosts need TLS \
                     (--tls-ca, --tls-cert, --tls-key)"
                )));
            }
            if !known.insert(address) {
                let what = format!("--hosts {address}: two processes cannot listen at one address");
                return Err(Failure::User(what));
            }
        }
        let path = arguments.secret_file.as_deref();
        let path = path.ok_or_else(|| Failure::User("--secret-file is missing".to_owned()))?;
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::User(format!("--secret-file {}: {error}", path.display()))
        };
        let secret = std::fs::read(path).map_err(|error| wrong(&error))?;
        let secret = Secret::new(secret.trim_ascii()).map_err(|error| wrong(&error))?;
        let files = (&arguments.tls_ca, &arguments.tls_cert, &arguments.tls_key);
        let tls = match files {
            (Some(authority), Some(certificate), Some(key)) => {
                let tls = Tls::from_files(authority, certificate, key);
                Some(tls.map_err(|error| Failure::User(error.to_string()))?)
            }
            // The command line has all three or none.
            _ => None,
        };
        Ok(Self {
            job: Arc::from(job),
            addresses,
            bind: arguments.bind,
            secret,
            tls,
        })
    }

    /// How many processes there are.
    pub(crate) fn count(&self) -> usize {
        self.addresses.len()
    }

    /// Where a process is reached; nothing if there are not so many.
    pub(crate) fn address(&self, process: usize) -> Option<&str> {
        self.addresses.get(process).map(String::as_str)
    }

    pub(crate) fn member(&self, process: usize, attempt: Attempt) -> Member {
        Member {
            job: Arc::clone(&self.job),
            attempt,
            process,
            processes: self.count(),
            secret: self.secret.clone(),
        }
    }

    /// Listens where this process is reached.
    pub(crate) async fn listen(&self, address: &str) -> Result<Listener, Fault> {
        let at = match self.bind {
            Some(bind) => bind,
            None => resolve(address).await?,
        };
        Ok(Listener::bind(at, self.tls.clone()).await?)
    }
}

#[async_trait]
impl Launch for Hosts {
    fn processes(&self) -> usize {
        self.count()
    }

    async fn start(&self, generation: Generation) -> Result<Vec<Peer>, Fault> {
        let own = self.address(0).unwrap_or_default();
        let listener = self.listen(own).await?;
        let (count, others) = (self.count(), self.addresses[1..].join(", "));
        terminal::say(&format!(
            "process 0 of {count}, at {own}: waiting for {others}"
        ));
        let fates: Vec<Fate> = (0..count).map(|_| Fate::default()).collect();
        let member = self.member(0, Attempt::Is(generation.0));
        let peers = member.lead(&listener, PATIENCE, &fates).await?;
        Ok(peers.into_iter().map(peer).collect())
    }

    /// The others see their connections end.
    async fn end(&self) {}
}

/// The host of an address that has a port, too.
fn host(address: &str) -> Result<&str, Failure> {
    let parts = address.rsplit_once(':');
    let parts = parts.filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let (host, _) = parts
        .ok_or_else(|| Failure::User(format!("--hosts {address}: it has the form host:port")))?;
    Ok(host.trim_start_matches('[').trim_end_matches(']'))
}

fn is_loopback(host: &str) -> bool {
    let literal = host.parse::<IpAddr>();
    host == "localhost" || literal.is_ok_and(|address| address.is_loopback())
}

async fn resolve(address: &str) -> Result<SocketAddr, Fault> {
    let wrong = |what: &dyn std::fmt::Display| {
        Fault::unavailable(format!("{address} cannot be listened at: {what}"))
    };
    let found = tokio::net::lookup_host(address).await;
    let mut found = found.map_err(|error| wrong(&error))?;
    found.next().ok_or_else(|| wrong(&"it has no address"))
}
