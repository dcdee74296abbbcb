//! The API's own description, built from the table of kinds and their schemas, so that it cannot fall behind them.

use crate::rest::Site;
use api::object::Scope;
use policy::Kind;
use serde_json::{Map, Value, json};

/// OpenAPI 3.1 document.
pub fn document(site: &Site, version: &str) -> Value {
    let mut paths = Map::new();
    for kind in policy::KINDS {
        resource(kind, &mut paths);
    }
    for (path, method, summary) in fixed(site) {
        let entry = paths.entry(format!("/api/v1{path}")).or_insert_with(|| json!({}));
        entry[method.to_lowercase()] = operation(summary, json!({"description": "as the summary says"}), &[]);
    }
    let mut schemas = Map::new();
    for kind in policy::KINDS {
        schemas.insert(kind.name.to_owned(), object_schema(kind));
    }
    schemas.insert("Problem".into(), problem());
    let components = json!({
        "schemas": schemas,
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": crate::auth::COOKIE},
        },
    });
    json!({
        "openapi": "3.1.0",
        "info": {"title": format!("Weft {} control plane", site.role()), "version": version},
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": components,
    })
}

/// Paths that are not resources: `(path, method, summary)`.
fn fixed(site: &Site) -> Vec<(&'static str, &'static str, &'static str)> {
    let mut all = vec![
        ("/meta", "GET", "Who answers: role, zone, version, history and revision"),
        ("/status", "GET", "How it is: headline, link, estrangement, what was sent"),
        ("/overview", "GET", "Zones and links with their health"),
        ("/stream", "GET", "The overview as server-sent events: hello, snapshot, delta, beat, bye"),
        ("/kinds", "GET", "Kinds of documents"),
        ("/schemas/{kind}", "GET", "JSON schema of a kind's spec"),
        ("/validate", "POST", "Checks a document without writing it"),
        ("/login", "POST", "Opens a session with the admin token"),
        ("/logout", "POST", "Ends the session"),
    ];
    all.extend(match site {
        Site::Global => vec![
            ("/zones", "GET", "Zones with their health"),
            ("/zones", "POST", "Creates a zone and answers its join token, once"),
            ("/zones/{zone}/token", "POST", "A new join token"),
            ("/zones/{zone}/drain", "POST", "Moves traffic of other zones away"),
            ("/zones/{zone}/undrain", "POST", "Takes traffic again"),
            ("/zones/{zone}/disable", "POST", "Gets no traffic from other zones"),
            ("/restore", "POST", "Fills an empty store with a zone's copy and continues its history"),
        ],
        Site::Zone(_) => vec![
            ("/workloads", "POST", "Registers a workload and answers its token, once"),
            ("/workloads/{mesh}/{namespace}/{name}/token", "POST", "A new workload token"),
            ("/proxies", "GET", "Proxies of the zone"),
            (
                "/proxies/{mesh}/{namespace}/{workload}/config",
                "GET",
                "What a proxy runs, with the origin of each value",
            ),
            ("/replica", "GET", "The zone's copy of what global owns"),
            ("/adopt", "POST", "Accepts the history that global has now"),
        ],
    });
    all
}

fn resource(kind: &Kind, paths: &mut Map<String, Value>) {
    let list = format!("/api/v1/resources/{}", kind.plural);
    let (one, at): (String, &[&str]) = match kind.scope {
        Scope::Global => (format!("{list}/{{name}}"), &["name"]),
        Scope::Namespaced => (format!("{list}/{{mesh}}/{{namespace}}/{{name}}"), &["mesh", "namespace", "name"]),
    };
    let object = json!({"$ref": format!("#/components/schemas/{}", kind.name)});
    let content = json!({"application/json": {"schema": object}});
    let answer = json!({"description": format!("a {}", kind.name), "content": content});
    let items = json!({"type": "object", "properties": {
        "items": {"type": "array", "items": object}, "total": {"type": "integer"},
        "next": {"type": ["string", "null"]}, "revision": {"type": "integer"}}});
    let page = json!({"description": "a page", "content": {"application/json": {"schema": items}}});
    let mut listing = operation(&format!("Lists {}", kind.plural), page, &[]);
    listing["parameters"] = ["mesh", "namespace", "zone", "labels", "q", "limit", "after", "watch"]
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}))
        .to_vec()
        .into();
    paths.insert(list, json!({"get": listing}));
    let mut put = operation(&format!("Writes a {}", kind.name), answer.clone(), at);
    put["requestBody"] = json!({"required": true, "content": content});
    if let Some(parameters) = put["parameters"].as_array_mut() {
        for name in ["dryRun", "wait"] {
            parameters.push(json!({"name": name, "in": "query", "schema": {"type": "string"}}));
        }
        parameters.push(json!({"name": "If-Match", "in": "header", "schema": {"type": "string"}}));
    }
    let gone = json!({"description": "the revision at which it was removed"});
    let methods = json!({
        "get": operation(&format!("Reads a {}", kind.name), answer, at),
        "put": put,
        "delete": operation(&format!("Removes a {}", kind.name), gone, at),
    });
    paths.insert(one, methods);
}

fn operation(summary: &str, answer: Value, at: &[&str]) -> Value {
    let problem = json!({"description": "a problem (RFC 9457)", "content":
        {api::problem::MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}});
    let parameters: Vec<Value> = at
        .iter()
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    json!({"summary": summary, "parameters": parameters, "responses": {"200": answer, "default": problem}})
}

fn object_schema(kind: &Kind) -> Value {
    let mut spec = serde_json::to_value((kind.schema)()).unwrap_or_default();
    // Definitions of a spec stay inside it, so references keep their meaning.
    if let Some(spec) = spec.as_object_mut() {
        spec.insert("$id".into(), format!("/api/v1/schemas/{}", kind.name).into());
    }
    let labels = json!({"type": "object", "additionalProperties": {"type": "string"}});
    json!({
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
        "properties": {
            "apiVersion": {"const": kind.api_version},
            "kind": {"const": kind.name},
            "metadata": {"type": "object", "required": ["name"], "additionalProperties": false, "properties": {
                "name": {"type": "string", "maxLength": api::name::NAME_LENGTH_MAX}, "namespace": {"type": "string"},
                "labels": labels, "annotations": labels, "revision": {"type": "integer"}}},
            "spec": spec,
            "status": {"type": "object", "readOnly": true},
        },
    })
}

fn problem() -> Value {
    json!({"type": "object", "required": ["code", "title", "status"], "properties": {
        "type": {"type": "string"}, "code": {"type": "string"}, "title": {"type": "string"},
        "status": {"type": "integer"}, "detail": {"type": "string"}, "requestId": {"type": "string"},
        "diagnostics": {"type": "array", "items": {"type": "object"}}, "current": {"type": "object"}}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_can_be_listed_read_written_and_removed() {
        let document = document(&Site::Global, "0");
        for kind in policy::KINDS {
            let list = format!("/api/v1/resources/{}", kind.plural);
            assert!(document["paths"][&list]["get"].is_object(), "{list}");
            let one = match kind.scope {
                Scope::Global => format!("{list}/{{name}}"),
                Scope::Namespaced => format!("{list}/{{mesh}}/{{namespace}}/{{name}}"),
            };
            for method in ["get", "put", "delete"] {
                assert!(document["paths"][&one][method].is_object(), "{method} {one}");
            }
            assert!(document["components"]["schemas"][kind.name]["properties"]["spec"].is_object());
        }
    }
}
