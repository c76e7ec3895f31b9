//! The addresses of a cluster: its engine, its data-management service, and whether it may be
//! trusted with a token.

use url::{Host, Url};

use crate::error::Error;
use crate::secret::is_loopback;

/// Host suffixes of the service per login endpoint, as the official clients ship them
/// (`wellKnownKustoEndpoints.json` of azure-kusto-data): a token goes nowhere else.
const TRUSTED: [(&str, &[&str]); 3] = [
    (
        "https://login.microsoftonline.com",
        &[
            ".kusto.windows.net",
            ".kusto.azuresynapse.net",
            ".kustomfa.windows.net",
            ".kusto.data.microsoft.com",
            ".kusto.fabric.microsoft.com",
        ],
    ),
    (
        "https://login.microsoftonline.us",
        &[".kusto.usgovcloudapi.net", ".kustomfa.usgovcloudapi.net"],
    ),
    (
        "https://login.partner.microsoftonline.cn",
        &[
            ".kusto.azuresynapse.azure.cn",
            ".kusto.chinacloudapi.cn",
            ".kustomfa.chinacloudapi.cn",
        ],
    ),
];

const INGEST_PREFIX: &str = "ingest-";

/// Which of a cluster's two services is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Queries, tables, extents.
    Engine,
    /// Queued ingestion.
    DataManagement,
}

/// The two addresses of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    engine: Url,
    data_management: Url,
}

impl Cluster {
    /// From the address of either service; the other is derived by the `ingest-` prefix, which is
    /// not used with this machine and IP addresses.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |reason: &str| {
            // Whatever follows a question mark may be a secret.
            let shown = text.split('?').next().unwrap_or_default();
            let what = format!("cluster {shown:?}: {reason}");
            let option = "cluster";
            Error::Option { option, what }
        };
        let mut url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if url.host().is_none() || !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(
                "is not of the form https://NAME.REGION.kusto.windows.net",
            ));
        }
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
            return Err(wrong(
                "must begin with https:// (http:// only for this machine)",
            ));
        }
        url.set_path("/");
        url.set_query(None);
        url.set_fragment(None);
        let (mut engine, mut data_management) = (url.clone(), url.clone());
        if let Some(Host::Domain(name)) = url.host()
            && !is_loopback(&url)
            && name != "onebox.dev.kusto.windows.net"
        {
            let plain = name.strip_prefix(INGEST_PREFIX).unwrap_or(name);
            let both = engine
                .set_host(Some(plain))
                .and_then(|()| data_management.set_host(Some(&format!("{INGEST_PREFIX}{plain}"))));
            both.map_err(|error| wrong(&error.to_string()))?;
        }
        Ok(Self {
            engine,
            data_management,
        })
    }

    pub(crate) fn base(&self, endpoint: Endpoint) -> &Url {
        match endpoint {
            Endpoint::Engine => &self.engine,
            Endpoint::DataManagement => &self.data_management,
        }
    }

    /// The engine's host, as messages name the cluster.
    pub(crate) fn host(&self) -> &str {
        self.engine.host_str().unwrap_or_default()
    }

    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.engine)
    }

    /// Whether the cluster may be sent a token, whoever issues it.
    pub(crate) fn check_trusted(&self, also: &[String]) -> Result<(), Error> {
        self.trusted_by(
            TRUSTED.iter().flat_map(|(_, suffixes)| suffixes.iter()),
            also,
        )
    }

    /// Whether the cluster may be sent a token that was issued by `login`.
    pub(crate) fn check_trusted_by(&self, login: &str, also: &[String]) -> Result<(), Error> {
        let login = login.trim_end_matches('/');
        let suffixes = TRUSTED
            .iter()
            .filter(|(l, _)| login.eq_ignore_ascii_case(l));
        self.trusted_by(suffixes.flat_map(|(_, suffixes)| suffixes.iter()), also)
    }

    fn trusted_by<'a>(
        &self,
        mut suffixes: impl Iterator<Item = &'a &'a str>,
        also: &[String],
    ) -> Result<(), Error> {
        // Both hosts derive from one, so that one of them decides.
        let host = self.host().to_ascii_lowercase();
        if self.is_loopback()
            || suffixes.any(|suffix| host.ends_with(suffix))
            || also.iter().any(|name| name.eq_ignore_ascii_case(&host))
        {
            return Ok(());
        }
        Err(Error::Untrusted { host })
    }
}

#[cfg(test)]
mod tests {
    use super::{Cluster, Endpoint};

    #[test]
    fn the_other_address_is_derived() {
        let name = "https://c.westeurope.kusto.windows.net/";
        let ingest = "https://ingest-c.westeurope.kusto.windows.net/";
        for (text, engine, data_management) in [
            ("https://c.westeurope.kusto.windows.net", name, ingest),
            (
                "https://ingest-c.westeurope.kusto.windows.net/x?y",
                name,
                ingest,
            ),
            (
                "http://127.0.0.1:8080",
                "http://127.0.0.1:8080/",
                "http://127.0.0.1:8080/",
            ),
            (
                "http://localhost:1",
                "http://localhost:1/",
                "http://localhost:1/",
            ),
            ("https://10.1.2.3", "https://10.1.2.3/", "https://10.1.2.3/"),
        ] {
            let cluster = Cluster::parse(text).expect(text);
            assert_eq!(cluster.base(Endpoint::Engine).as_str(), engine);
            assert_eq!(
                cluster.base(Endpoint::DataManagement).as_str(),
                data_management
            );
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for text in [
            "",
            "c.kusto.windows.net",
            "http://c.kusto.windows.net",
            "https://u:p@c.net",
        ] {
            assert!(Cluster::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_service_is_trusted() {
        let trusted = |text: &str| {
            Cluster::parse(text)
                .and_then(|c| c.check_trusted(&[]))
                .is_ok()
        };
        assert!(trusted("https://c.region.kusto.windows.net"));
        assert!(trusted("https://X.kusto.fabric.microsoft.com"));
        assert!(trusted("http://127.0.0.1:9"));
        assert!(!trusted("https://kusto.windows.net.evil.example"));
        assert!(!trusted("https://evilkusto.windows.net"));
        let evil = Cluster::parse("https://adx.example").expect("an address");
        assert!(evil.check_trusted(&["ADX.example".to_owned()]).is_ok());
        let public = Cluster::parse("https://c.kusto.windows.net").expect("an address");
        assert!(
            public
                .check_trusted_by("https://login.microsoftonline.com/", &[])
                .is_ok()
        );
        assert!(
            public
                .check_trusted_by("https://login.evil.example", &[])
                .is_err()
        );
    }
}
