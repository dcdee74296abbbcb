//! Kinds as they are typed: `Timeout`, `timeout`, `timeouts` or a short name, all from the table of kinds.

use crate::exit::{Exit, Failure};
use policy::Kind;
use std::sync::LazyLock;

/// Short names, for those who type a lot. Kinds not listed have none.
const SHORT: &[(&str, &str)] = &[
    ("svc", "Service"),
    ("wl", "Workload"),
    ("xsvc", "ExternalService"),
    ("hr", "HTTPRoute"),
    ("gr", "GRPCRoute"),
    ("tr", "TCPRoute"),
    ("authz", "Authorization"),
    ("lb", "LoadBalancing"),
];

/// Names in lowercase: `timeout`.
static SINGULARS: LazyLock<Vec<String>> =
    LazyLock::new(|| policy::KINDS.iter().map(|kind| kind.name.to_lowercase()).collect());

/// Every word that names a kind.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = SINGULARS.iter().map(String::as_str).collect();
    names.extend(policy::KINDS.iter().flat_map(|kind| [kind.plural, kind.name]));
    names.extend(SHORT.iter().map(|(short, _)| *short));
    names
}

/// The kind that a word names.
pub fn find(word: &str) -> Result<&'static Kind, Failure> {
    let long = SHORT.iter().find(|(short, _)| *short == word).map_or(word, |(_, name)| name);
    policy::KINDS
        .iter()
        .find(|kind| kind.name.eq_ignore_ascii_case(long) || kind.plural == long)
        .ok_or_else(|| Failure::new(Exit::Usage, format!("no kind is named `{word}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_names_exactly_one_kind() {
        let names = names();
        for name in &names {
            assert!(find(name).is_ok(), "{name}");
        }
        for (short, _) in SHORT {
            assert!(policy::KINDS.iter().all(|kind| kind.plural != *short), "{short} hides a kind");
        }
    }
}
