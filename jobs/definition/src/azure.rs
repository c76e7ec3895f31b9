//! The sinks of Azure: Cosmos DB and Data Explorer.

use crate::diagnostic::Diagnostic;
use crate::fields::Fields;
use crate::model::{Adx, AdxAuth, Cosmos};
use crate::tree::Node;

type Found = Vec<Diagnostic>;

pub(crate) fn cosmos(node: &Node, found: &mut Found) -> Option<Cosmos> {
    let mut fields = Fields::of(node, "`cosmos`", found)?;
    let endpoint = fields.required("endpoint", found);
    let key = fields.credential("key", found);
    let database = fields.required("database", found);
    let container = fields.required("container", found);
    let id = fields.required("id", found);
    let partition_key = fields.required("partition_key", found);
    let newest_by = fields.text("newest_by", found);
    let guards = [("on", true), ("off", false)];
    let guard = fields.word("guard", &guards, found).unwrap_or(true);
    let request_units = fields.number("request_units", found);
    let forms = [("rfc3339", false), ("unix_ms", true)];
    let unix_ms = fields.word("timestamps", &forms, found).unwrap_or(false);
    let nulls = [("write", false), ("omit", true)];
    let omit_nulls = fields.word("nulls", &nulls, found).unwrap_or(false);
    fields.finish(found);
    Some(Cosmos {
        endpoint: endpoint?,
        key,
        database: database?,
        container: container?,
        id: id?,
        partition_key: partition_key?,
        newest_by,
        guard,
        request_units,
        unix_ms,
        omit_nulls,
    })
}

pub(crate) fn adx(node: &Node, found: &mut Found) -> Option<Adx> {
    let mut fields = Fields::of(node, "`adx`", found)?;
    let cluster = fields.required("cluster", found);
    let database = fields.required("database", found);
    let table = fields.required("table", found);
    let auth = auth(&mut fields, found);
    let (mut publish_every_ms, mut publish_bytes) = (None, None);
    if let Some(mut publish) = fields
        .node("publish")
        .and_then(|node| Fields::of(node, "`publish`", found))
    {
        publish_every_ms = publish.duration("every", found);
        publish_bytes = publish.size("size", found);
        publish.finish(found);
    }
    let repost_after_ms = fields.duration("repost_after", found);
    let mapping = fields.text("mapping", found).map(|text| text.value);
    let changes = [("refuse", false), ("append", true)];
    let append_changes = fields.word("changes", &changes, found).unwrap_or(false);
    fields.finish(found);
    Some(Adx {
        cluster: cluster?,
        database: database?,
        table: table?,
        auth: auth?,
        publish_every_ms,
        publish_bytes,
        repost_after_ms,
        mapping,
        append_changes,
    })
}

/// A token, all three parts of a service principal, or nothing.
fn auth(fields: &mut Fields<'_>, found: &mut Found) -> Option<AdxAuth> {
    let token = fields.credential("token", found);
    let tenant = fields.text("tenant", found);
    let client_id = fields.text("client_id", found);
    let client_secret = fields.credential("client_secret", found);
    match (token, tenant, client_id, client_secret) {
        (None, None, None, None) => Some(AdxAuth::Default),
        (Some(token), None, None, None) => Some(AdxAuth::Token(token)),
        (None, Some(tenant), Some(client_id), Some(client_secret)) => {
            Some(AdxAuth::ServicePrincipal {
                tenant: tenant.value,
                client_id: client_id.value,
                client_secret,
            })
        }
        _ => {
            let message = "`adx` signs in by `token`, or by `tenant`, `client_id` and \
                           `client_secret` together";
            found.push(Diagnostic::error(fields.span, message));
            None
        }
    }
}
