//! Mutual TLS between hosts.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::Error;

/// What a process proves its identity with, and by whom it believes others theirs. TLS 1.3 alone.
#[derive(Clone)]
pub struct Tls {
    accept: TlsAcceptor,
    connect: TlsConnector,
}

impl Tls {
    /// From PEM files: the certificates of the authorities that signed all processes' certificates, this
    /// process's certificate with what leads to an authority, and its private key. The certificate
    /// names the host that others find it by, and is good for both ends of a connection.
    ///
    /// # Errors
    /// A file cannot be read or holds nothing of use. The message names the file.
    pub fn from_files(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, Error> {
        let wrong = |path: &Path, error: &dyn fmt::Display| {
            Error::Tls(format!("{}: {error}", path.display()))
        };
        let mut roots = RootCertStore::empty();
        for root in certificates(authority)? {
            roots.add(root).map_err(|e| wrong(authority, &e))?;
        }
        let chain = certificates(certificate)?;
        let own = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, &e))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(roots);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|e| wrong(authority, &e))?;
        let versions = &[&rustls::version::TLS13];
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .and_then(|builder| {
                let builder = builder.with_client_cert_verifier(verifier);
                builder.with_single_cert(chain.clone(), own.clone_key())
            })
            .map_err(|e| wrong(certificate, &e))?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .and_then(|builder| {
                let builder = builder.with_root_certificates(roots);
                builder.with_client_auth_cert(chain, own)
            })
            .map_err(|e| wrong(certificate, &e))?;
        Ok(Self {
            accept: TlsAcceptor::from(Arc::new(server)),
            connect: TlsConnector::from(Arc::new(client)),
        })
    }

    pub(crate) async fn accept(&self, socket: TcpStream) -> Result<TlsStream<TcpStream>, Error> {
        let stream = self.accept.accept(socket).await;
        Ok(stream.map_err(|e| Error::io("handshake", e))?.into())
    }

    /// As the client, of the host that `address`, "host:port", names.
    pub(crate) async fn connect(
        &self,
        address: &str,
        socket: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(host).map_err(|e| Error::Tls(format!("{address}: {e}")))?;
        let stream = self.connect.connect(name, socket).await;
        let stream = stream.map_err(|e| Error::io(address, e))?;
        Ok(stream.into())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |what: &dyn fmt::Display| Error::Tls(format!("{}: {what}", path.display()));
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| wrong(&e))?;
    if found.is_empty() {
        return Err(wrong(&"no certificate"));
    }
    Ok(found)
}
