//! Which objects a list shows: selectors, text search, and pages that survive changes in between.

use crate::auth::{hex, unhex};
use crate::objects::Objects;
use crate::problem::{Answer, Refused};
use api::{Key, Object};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Objects in a page unless asked otherwise.
const PAGE_DEFAULT: usize = 100;
/// Most objects in a page (Kubernetes' usual chunk).
const PAGE_MAX: usize = 500;

/// What to list.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    mesh: Option<String>,
    namespace: Option<String>,
    zone: Option<String>,
    labels: Vec<Wanted>,
    text: Option<String>,
    limit: usize,
    after: Option<Key>,
    /// Stream changes instead of answering once.
    pub watch: bool,
}

/// One term of a label selector.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Wanted {
    Equal(String, String),
    Unequal(String, String),
    Present(String),
    Absent(String),
}

/// One page.
pub(super) struct Page {
    pub items: Vec<(Key, Arc<Object>)>,
    pub total: usize,
    /// Where the next page begins.
    pub next: Option<String>,
}

impl Query {
    /// Reads query parameters; unknown ones are refused.
    pub fn read(given: &BTreeMap<String, String>) -> Answer<Self> {
        let mut query = Self { limit: PAGE_DEFAULT, ..Self::default() };
        for (name, value) in given {
            match name.as_str() {
                "mesh" => query.mesh = Some(value.clone()),
                "namespace" => query.namespace = Some(value.clone()),
                "zone" => query.zone = Some(value.clone()),
                "labels" => query.labels = selector(value)?,
                "q" => query.text = Some(value.to_lowercase()),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
                    let wrong = || Refused::bad_request(format!("limit must be between 1 and {PAGE_MAX}"));
                    query.limit = limit.ok_or_else(wrong)?;
                }
                "after" => {
                    let key = unhex(value).and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
                    query.after = Some(key.ok_or_else(|| Refused::bad_request("after must be the `next` of a page"))?);
                }
                "watch" => query.watch = value == "true",
                other => {
                    let known = "mesh, namespace, zone, labels, q, limit, after, watch";
                    return Err(Refused::bad_request(format!("there is no parameter `{other}`; known are {known}")));
                }
            }
        }
        Ok(query)
    }

    /// Whether one object is asked for.
    pub fn matches(&self, key: &Key, object: &Object) -> bool {
        let same = |wanted: &Option<String>, has: Option<&str>| wanted.is_none() || wanted.as_deref() == has;
        same(&self.mesh, key.mesh.as_ref().map(|mesh| mesh.as_str()))
            && same(&self.namespace, key.namespace.as_ref().map(|namespace| namespace.as_str()))
            && same(&self.zone, key.zone.as_ref().map(|zone| zone.as_str()))
            && self.labels.iter().all(|wanted| wanted.holds(object))
            && self.text.as_ref().is_none_or(|text| mentions(key, object, text))
    }

    /// One page of a kind.
    pub fn page(&self, objects: &Objects, kind: &str) -> Page {
        let all = || objects.of_kind(kind).filter(|(key, object)| self.matches(key, object));
        let from = self.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = objects
            .items
            .range::<Key, _>((from, Bound::Unbounded))
            .filter(|(key, object)| key.kind == kind && self.matches(key, object))
            .map(|(key, object)| (key.clone(), object.clone()));
        let items: Vec<_> = rest.by_ref().take(self.limit).collect();
        let next = rest.next().and(items.last()).map(|(key, _)| hex(key.to_string().as_bytes()));
        Page { items, total: all().count(), next }
    }
}

impl Wanted {
    fn holds(&self, object: &Object) -> bool {
        let labels = &object.metadata.labels;
        match self {
            Self::Equal(key, value) => labels.get(key) == Some(value),
            Self::Unequal(key, value) => labels.get(key) != Some(value),
            Self::Present(key) => labels.contains_key(key),
            Self::Absent(key) => !labels.contains_key(key),
        }
    }
}

/// `a=b,c!=d,e,!f`, as kubectl writes it.
fn selector(text: &str) -> Answer<Vec<Wanted>> {
    text.split(',')
        .map(str::trim)
        .filter(|term| !term.is_empty())
        .map(|term| {
            let wanted = if let Some((key, value)) = term.split_once("!=") {
                Wanted::Unequal(key.trim().into(), value.trim().into())
            } else if let Some((key, value)) = term.split_once('=') {
                Wanted::Equal(key.trim().into(), value.trim_start_matches('=').trim().into())
            } else if let Some(key) = term.strip_prefix('!') {
                Wanted::Absent(key.trim().into())
            } else {
                Wanted::Present(term.into())
            };
            let (Wanted::Equal(key, _) | Wanted::Unequal(key, _) | Wanted::Present(key) | Wanted::Absent(key)) =
                &wanted;
            if key.is_empty() || key.contains(char::is_whitespace) {
                return Err(Refused::bad_request(format!("`{term}` is no label selector; write a=b, a!=b, a or !a")));
            }
            Ok(wanted)
        })
        .collect()
}

fn mentions(key: &Key, object: &Object, text: &str) -> bool {
    let in_labels = || object.metadata.labels.iter().any(|(k, v)| k.contains(text) || v.to_lowercase().contains(text));
    key.name.as_str().contains(text)
        || key.namespace.as_ref().is_some_and(|namespace| namespace.as_str().contains(text))
        || key.zone.as_ref().is_some_and(|zone| zone.as_str().contains(text))
        || in_labels()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(count: usize) -> Objects {
        let items = (0..count).map(|i| {
            let key: Key = format!("Timeout/default/-/shop/t-{i:03}").parse().unwrap();
            let tier = if i % 2 == 0 { "gold" } else { "tin" };
            let object = serde_json::json!({"apiVersion": "weft.dev/v1", "kind": "Timeout",
                "metadata": {"name": key.name, "labels": {"tier": tier}}});
            (key, Arc::new(serde_json::from_value(object).unwrap()))
        });
        Objects { items: items.collect(), history: 1, revision: 9 }
    }

    fn query(pairs: &[(&str, &str)]) -> Answer<Query> {
        Query::read(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_overlap() {
        let objects = objects(25);
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let mut pairs = vec![("limit", "10")];
            pairs.extend(after.as_deref().map(|after| ("after", after)));
            let page = query(&pairs).ok().unwrap().page(&objects, "Timeout");
            assert_eq!(page.total, 25);
            seen.extend(page.items.into_iter().map(|(key, _)| key));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, objects.items.keys().cloned().collect::<Vec<_>>());
    }

    #[test]
    fn selectors_read_like_kubectl() {
        let objects = objects(10);
        for (labels, expect) in
            [("tier=gold", 5), ("tier!=gold", 5), ("tier", 10), ("!tier", 0), ("tier==tin,other!=x", 5), ("", 10)]
        {
            let page = query(&[("labels", labels)]).ok().unwrap().page(&objects, "Timeout");
            assert_eq!(page.total, expect, "{labels}");
        }
        assert!(query(&[("labels", "=x")]).is_err());
    }

    #[test]
    fn unknown_parameters_and_bad_limits_are_refused() {
        for bad in [("limt", "5"), ("limit", "0"), ("limit", "501"), ("after", "zz")] {
            assert!(query(&[bad]).is_err(), "{bad:?}");
        }
        assert_eq!(query(&[("q", "T-00")]).ok().unwrap().page(&objects(25), "Timeout").total, 10);
    }
}
