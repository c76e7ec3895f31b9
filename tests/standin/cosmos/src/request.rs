//! What a request asks for, read from its method, path and headers.

use axum::http::HeaderMap;

/// A path of resources: `dbs/roads/colls/current/docs/a7`, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    segments: Vec<String>,
}

impl Target {
    /// Reads a request's path. Trailing slashes are no part of it: some clients send them.
    pub(crate) fn of(path: &str) -> Self {
        let segments = path
            .split('/')
            .filter(|s| !s.is_empty())
            .map(decode)
            .collect();
        Self { segments }
    }

    /// The path as the emulator wants it: as it came, without trailing slashes.
    pub(crate) fn trim(path: &str) -> &str {
        let trimmed = path.trim_end_matches('/');
        if trimmed.is_empty() { "/" } else { trimmed }
    }

    /// The decoded path.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.segments.join("/"))
    }

    /// The kind of resource, `docs` say, and the link, as they are signed.
    pub(crate) fn signed_resource(&self) -> (String, String) {
        let kind_at = match self.segments.len() {
            0 => return (String::new(), String::new()),
            // A feed (or a creation in it) is signed with its owner's link.
            count if !count.is_multiple_of(2) => count - 1,
            count => count - 2,
        };
        let whole = self.segments.len().is_multiple_of(2);
        let link_end = if whole { self.segments.len() } else { kind_at };
        let link = match self.segments.as_slice() {
            // An offer is signed by its id alone.
            [first, id] if first == "offers" => id.clone(),
            all => all.get(..link_end).unwrap_or_default().join("/"),
        };
        (
            self.segments.get(kind_at).cloned().unwrap_or_default(),
            link,
        )
    }

    /// The container's path, if there is one.
    pub(crate) fn container(&self) -> Option<String> {
        match self.segments.as_slice() {
            [dbs, db, colls, coll, ..] if dbs == "dbs" && colls == "colls" => {
                Some(format!("{db}/{coll}"))
            }
            _ => None,
        }
    }

    /// The document's id, if the path names one.
    pub(crate) fn document(&self) -> Option<&str> {
        match self.segments.as_slice() {
            [_, _, _, _, docs, id] if docs == "docs" => Some(id),
            _ => None,
        }
    }

    /// A word or two for what is asked: `create`, `batch`, `GET pkranges`.
    pub(crate) fn operation(&self, method: &str, headers: &HeaderMap) -> String {
        let set = |name: &str| {
            headers
                .get(name)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
        };
        let documents = self.segments.get(4).is_some_and(|s| s == "docs");
        let word = match (method, documents, self.document().is_some()) {
            ("GET", true, true) => "read",
            ("PUT", true, true) => "replace",
            ("DELETE", true, true) => "delete",
            ("PATCH", true, true) => "patch",
            ("GET", true, false) => "feed",
            ("POST", true, false) if set("x-ms-cosmos-is-batch-request") => "batch",
            ("POST", true, false) if set("x-ms-cosmos-is-query-plan-request") => "query plan",
            ("POST", true, false)
                if set("x-ms-documentdb-isquery") || set("x-ms-documentdb-query") =>
            {
                "query"
            }
            ("POST", true, false) if set("x-ms-documentdb-is-upsert") => "upsert",
            ("POST", true, false) => "create",
            _ if self.segments.is_empty() => "account",
            _ => return format!("{method} {}", self.signed_resource().0),
        };
        word.to_owned()
    }
}

/// Whether an operation of this name changes documents.
pub(crate) fn writes(operation: &str) -> bool {
    matches!(
        operation,
        "create" | "replace" | "upsert" | "delete" | "patch" | "batch"
    )
}

/// Decodes the percent signs of a path segment.
fn decode(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match hex
            .and_then(|h| u8::from_str_radix(h, 16).ok())
            .filter(|_| byte == b'%')
        {
            Some(decoded) => {
                bytes.push(decoded);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn resources_are_signed_as_documented() {
        let signed = |path: &str| {
            let (kind, link) = Target::of(path).signed_resource();
            format!("{kind} {link}")
        };
        assert_eq!(signed("/"), " ");
        assert_eq!(signed("/dbs"), "dbs ");
        assert_eq!(signed("/dbs/a"), "dbs dbs/a");
        assert_eq!(signed("/dbs/a/colls/b/docs/"), "docs dbs/a/colls/b");
        assert_eq!(
            signed("/dbs/a/colls/b/docs/x%20y"),
            "docs dbs/a/colls/b/docs/x y"
        );
        assert_eq!(signed("/offers/AbC"), "offers AbC");
    }
}
