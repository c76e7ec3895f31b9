//! Answers on the wire: tables in both versions, errors as the service and as its storage write
//! them.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::kql::{QueryError, Tabular};

/// An answer before it is sent.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

/// Who answers: their errors look different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// The service itself.
    Service,
    /// A storage account.
    Storage,
}

impl Reply {
    pub(crate) fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::typed(status, "application/json; charset=utf-8", body.to_string())
    }

    pub(crate) fn xml(status: u16, body: String) -> Self {
        Self::typed(status, "application/xml", body)
    }

    fn typed(status: u16, kind: &str, body: String) -> Self {
        Self {
            status,
            headers: vec![("content-type", kind.to_owned())],
            body: body.into(),
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// An error of the service.
    pub(crate) fn refused(status: u16, code: &str, kind: &str, message: &str) -> Self {
        let permanent = !matches!(status, 408 | 429 | 500..);
        if status == 401 {
            return Self::empty(401);
        }
        Self::json(
            status,
            &json!({ "error": {
                "code": code,
                "message": "Request is invalid and cannot be executed.",
                "@type": format!("Kusto.Data.Exceptions.{kind}"),
                "@message": message,
                "@failureCode": status,
                "@permanent": permanent,
            }}),
        )
    }

    /// A request that cannot be carried out, and never will be.
    pub(crate) fn bad_request(message: &str) -> Self {
        Self::refused(
            400,
            "General_BadRequest",
            "KustoBadRequestException",
            message,
        )
    }

    /// A query that cannot be answered.
    pub(crate) fn wrong_query(error: &QueryError) -> Self {
        let mut reply = Self::bad_request(&format!("Request is invalid: {error}"));
        if let Ok(mut body) = serde_json::from_slice::<Value>(&reply.body)
            && let Some(outer) = body.get_mut("error").and_then(Value::as_object_mut)
        {
            let inner = json!({ "code": error.code, "message": error.message, "@permanent": true });
            outer.insert("innererror".to_owned(), inner);
            reply.body = body.to_string().into();
        }
        reply
    }

    /// Something that is not there.
    pub(crate) fn not_found(kind: &str, name: &str) -> Self {
        Self::refused(
            400,
            "BadRequest_EntityNotFound",
            "EntityNotFoundException",
            &format!("Entity ID '{name}' of kind '{kind}' was not found."),
        )
    }

    /// An error of a storage account.
    pub(crate) fn storage_error(status: u16, code: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code>\
             <Message>{code}</Message></Error>"
        );
        Self::xml(status, body).with("x-ms-error-code", code)
    }

    /// The error a planned fault puts in the place of an answer.
    pub(crate) fn planned(style: Style, status: u16, retry_after_ms: Option<u64>) -> Self {
        let reply = match style {
            Style::Service => {
                let (code, kind) = match status {
                    429 => ("General_Throttling", "KustoRequestThrottledException"),
                    500.. => ("General_InternalServerError", "KustoServiceException"),
                    403 => ("Forbidden", "KustoForbiddenException"),
                    _ => ("General_BadRequest", "KustoBadRequestException"),
                };
                Self::refused(status, code, kind, "a planned fault")
            }
            Style::Storage => Self::storage_error(
                status,
                match status {
                    403 => "AuthenticationFailed",
                    404 => "ResourceNotFound",
                    500 => "InternalError",
                    503 => "ServerBusy",
                    504 => "OperationTimedOut",
                    _ => "PlannedFault",
                },
            ),
        };
        match retry_after_ms {
            None => reply,
            Some(ms) => reply
                .with("retry-after", ms.div_ceil(1000).to_string())
                .with("x-ms-retry-after-ms", ms.to_string()),
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response
                    .headers_mut()
                    .append(HeaderName::from_static(name), value);
            }
        }
        response
    }
}

/// The columns that are shown, with their positions.
fn shown(rows: &Tabular) -> Vec<usize> {
    (rows.columns.iter().enumerate())
        .filter(|(_, column)| !column.name.starts_with('$'))
        .map(|(at, _)| at)
        .collect()
}

fn row_values(rows: &Tabular) -> Vec<Value> {
    let shown = shown(rows);
    (rows.rows.iter())
        .map(|row| {
            let values = shown.iter().filter_map(|at| row.get(*at));
            values.map(|value| value.to_json()).collect()
        })
        .collect()
}

/// The answer to a command.
pub(crate) fn command_answer(rows: &Tabular) -> Value {
    json!({ "Tables": [table_v1("Table_0", rows)] })
}

fn table_v1(name: &str, rows: &Tabular) -> Value {
    let columns: Vec<Value> = (shown(rows).iter())
        .filter_map(|at| rows.columns.get(*at))
        .map(|column| {
            json!({
                "ColumnName": column.name,
                "DataType": column.kind.clr_name(),
                "ColumnType": column.kind.name(),
            })
        })
        .collect();
    json!({ "TableName": name, "Columns": columns, "Rows": row_values(rows) })
}

/// The answer to a query in version 1: the result, two tables about it, and a table of contents.
pub(crate) fn query_answer_v1(rows: &Tabular) -> Value {
    let text =
        |name: &str| json!({ "ColumnName": name, "DataType": "String", "ColumnType": "string" });
    let number =
        |name: &str| json!({ "ColumnName": name, "DataType": "Int64", "ColumnType": "long" });
    json!({ "Tables": [
        table_v1("Table_0", rows),
        { "TableName": "Table_1", "Columns": [text("Value")], "Rows": [] },
        { "TableName": "Table_2",
          "Columns": [number("Severity"), text("StatusDescription")],
          "Rows": [[4, "Query completed successfully"]] },
        { "TableName": "Table_3",
          "Columns": [number("Ordinal"), text("Kind"), text("Name"), text("Id"), text("PrettyName")],
          "Rows": [
            [0, "QueryResult", "PrimaryResult", "00000000-0000-0000-0000-000000000000", ""],
            [1, "QueryProperties", "@ExtendedProperties", "00000000-0000-0000-0000-000000000001", ""],
            [2, "QueryStatus", "QueryStatus", "00000000-0000-0000-0000-000000000002", ""],
          ] },
    ]})
}

/// The answer to a query in version 2. The order of members matters to parsers that stream.
pub(crate) fn query_answer_v2(rows: &Tabular) -> String {
    let columns: Vec<String> = (shown(rows).iter())
        .filter_map(|at| rows.columns.get(*at))
        .map(|column| {
            format!(
                r#"{{"ColumnName":{},"ColumnType":"{}"}}"#,
                Value::from(column.name.as_str()),
                column.kind.name()
            )
        })
        .collect();
    let table = |id: u32, kind: &str, name: &str, columns: &str, rows: &str| {
        format!(
            r#"{{"FrameType":"DataTable","TableId":{id},"TableKind":"{kind}","TableName":"{name}","Columns":[{columns}],"Rows":{rows}}}"#
        )
    };
    let typed = |columns: &[(&str, &str)]| {
        let columns = columns
            .iter()
            .map(|(name, kind)| format!(r#"{{"ColumnName":"{name}","ColumnType":"{kind}"}}"#));
        columns.collect::<Vec<_>>().join(",")
    };
    let properties = typed(&[("TableId", "int"), ("Key", "string"), ("Value", "dynamic")]);
    let completion = typed(&[
        ("Timestamp", "datetime"),
        ("ClientRequestId", "string"),
        ("Level", "int"),
        ("LevelName", "string"),
        ("StatusCode", "int"),
        ("StatusCodeName", "string"),
        ("EventType", "int"),
        ("EventTypeName", "string"),
        ("Payload", "string"),
    ]);
    [
        r#"[{"FrameType":"DataSetHeader","IsProgressive":false,"Version":"v2.0"}"#.to_owned(),
        table(
            0,
            "QueryProperties",
            "@ExtendedProperties",
            &properties,
            "[]",
        ),
        table(
            1,
            "PrimaryResult",
            "PrimaryResult",
            &columns.join(","),
            &Value::from(row_values(rows)).to_string(),
        ),
        table(
            2,
            "QueryCompletionInformation",
            "QueryCompletionInformation",
            &completion,
            "[]",
        ),
        r#"{"FrameType":"DataSetCompletion","HasErrors":false,"Cancelled":false}]"#.to_owned(),
    ]
    .join(",")
}
