//! A client of a few lines that shares no code with the sink: the judge of what is there, and the
//! somebody else who writes the same documents.

use std::sync::Arc;

use azure_core::http::{HttpClient, Method, Request, Url};
use serde_json::Value;
use thalweg_standin_cosmos::authorization;

/// The service's answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// A container, addressed by hand.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    client: Arc<dyn HttpClient>,
    url: String,
    container: String,
}

impl Raw {
    pub(crate) fn new(url: &str, container: &str) -> Self {
        let client = azure_core::http::new_http_client(None);
        let (database, container) = container.split_once('/').expect("DB/CONTAINER");
        let container = format!("dbs/{database}/colls/{container}");
        Self {
            client,
            url: url.to_owned(),
            container,
        }
    }

    /// The document, if there is one.
    pub(crate) async fn read(&self, key: &str, id: &str) -> Option<Value> {
        let answer = self.send(Method::Get, key, Some(id), &[], None).await;
        match answer.status {
            200 => Some(answer.body),
            404 => None,
            status => panic!("reading {id}: {status} {}", answer.body),
        }
    }

    /// Puts a document whatever there is.
    pub(crate) async fn upsert(&self, key: &str, document: &Value) {
        let headers = [("x-ms-documentdb-is-upsert", "true")];
        let answer = self
            .send(Method::Post, key, None, &headers, Some(document))
            .await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
    }

    async fn send(
        &self,
        method: Method,
        key: &str,
        id: Option<&str>,
        headers: &[(&'static str, &'static str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut url: Url = self.url.parse().expect("a URL");
        url.set_path(&format!("{}/docs", self.container));
        let mut link = self.container.clone();
        if let Some(id) = id {
            url.path_segments_mut().expect("a path").push(id);
            link = format!("{link}/docs/{id}");
        }
        // Any date serves; a clock is not needed to sign.
        let date = "Tue, 01 Nov 2022 08:12:31 GMT";
        let authorization = authorization(method.as_str(), "docs", &link, date).expect("a key");
        let mut request = Request::new(url, method);
        request.insert_header("authorization", authorization);
        request.insert_header("x-ms-date", date);
        request.insert_header("x-ms-version", "2020-07-15");
        request.insert_header(
            "x-ms-documentdb-partitionkey",
            serde_json::to_string(&[key]).expect("a string"),
        );
        for (name, value) in headers {
            request.insert_header(*name, *value);
        }
        if let Some(body) = body {
            request.insert_header("content-type", "application/json");
            request.set_body(body.to_string());
        }
        let response = self
            .client
            .execute_request(&request)
            .await
            .expect("answered");
        let (status, _, body) = response.deconstruct();
        let body = body.collect().await.expect("a body");
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer {
            status: status.into(),
            body,
        }
    }
}
