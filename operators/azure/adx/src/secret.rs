//! Text that must never be seen: keys, tokens, and addresses that carry a signature.

use std::fmt;

use url::Url;

/// A secret text. Shown as `<secret>`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// The address of a container, queue or table with its shared access signature, which is never
/// shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SasUrl(Url);

impl SasUrl {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // The text itself would show the signature.
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        let https = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
        if !https || url.cannot_be_a_base() {
            return Err(format!("{} is not an https address", url.scheme()));
        }
        Ok(Self(url))
    }

    /// An address that was made from a checked one.
    pub(crate) fn of(url: Url) -> Self {
        Self(url)
    }

    /// The address of something below, keeping the signature.
    pub(crate) fn join(&self, below: &str) -> Url {
        let mut url = self.0.clone();
        let path = format!("{}/{}", url.path().trim_end_matches('/'), escape(below));
        url.set_path(&path);
        url
    }

    /// The address of one entity of a table.
    pub(crate) fn entity(&self, id: &str) -> Url {
        let mut url = self.0.clone();
        let path = format!("{}(PartitionKey='{id}',RowKey='{id}')", url.path());
        url.set_path(&path);
        url
    }

    pub(crate) fn url(&self) -> Url {
        self.0.clone()
    }

    /// The whole address, for the service's eyes only.
    pub(crate) fn reveal(&self) -> &str {
        self.0.as_str()
    }

    /// The address without the signature.
    pub(crate) fn place(&self) -> String {
        format!(
            "{}{}",
            self.0.host_str().unwrap_or_default(),
            self.0.path().trim_end_matches('/')
        )
    }
}

impl fmt::Debug for SasUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())
    }
}

/// Percent-encodes what must not stand in a path, leaving the slashes between segments.
fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Whether the address is this machine's own.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{SasUrl, Secret};

    #[test]
    fn neither_is_shown() {
        let secret = Secret::new("hunter2");
        let sas = SasUrl::parse("https://a.blob.core.windows.net/c?sig=hunter2").expect("address");
        let shown = format!("{secret:?} {sas:?} {}", sas.place());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(SasUrl::parse("http://a.blob.core.windows.net/c?sig=x").is_err());
        assert!(!format!("{:?}", SasUrl::parse("hunter2")).contains("hunter2"));
    }

    #[test]
    fn addresses_below_keep_the_signature() {
        let sas = SasUrl::parse("http://127.0.0.1:1/acct/c?sig=s").expect("address");
        assert_eq!(
            sas.join("a b/c.gz").as_str(),
            "http://127.0.0.1:1/acct/c/a%20b/c.gz?sig=s"
        );
        assert_eq!(
            sas.entity("x").as_str(),
            "http://127.0.0.1:1/acct/c(PartitionKey='x',RowKey='x')?sig=s"
        );
    }
}
