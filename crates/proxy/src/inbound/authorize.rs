//! May this caller do this? Deny rules, then allow rules, then the default (`api::config::Authorization`).

use api::config::{Authorization, AuthorizationAction, AuthorizationRule, PeerMatch, RequestMatch};
use api::kinds::DefaultAuthorization;
use api::{Account, MeshName, Namespace, SpiffeId, ZoneName};

/// What is asked for. A connection of bytes has no method and no path.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Port, as callers name it.
    pub port: u16,
    /// Method and path in its one form.
    pub request: Option<(&'a str, &'a str)>,
}

/// Who asks, taken apart once for all requests of a connection.
#[derive(Clone, Debug)]
pub struct Peer(Option<(ZoneName, MeshName, Namespace, Account)>);

impl Peer {
    /// Of a verified identity; one that is no workload's matches no rule that names callers.
    pub fn of(id: &SpiffeId) -> Self {
        Self(id.as_workload())
    }
}

/// The answer.
#[derive(Debug, Eq, PartialEq)]
pub enum Verdict<'a> {
    /// Let through.
    Allowed,
    /// Refused by this policy; `None`: by the mesh's default.
    Denied(Option<&'a str>),
}

/// Decides. Policies that would have refused, were they not on audit, are told to `audited`.
pub fn decide<'a>(
    authorization: &'a Authorization,
    caller: Option<&Peer>,
    asked: Asked<'_>,
    mut audited: impl FnMut(&'a str),
) -> Verdict<'a> {
    let Authorization { default, rules } = authorization;
    let mut allowed = false;
    let mut denied = None;
    for rule in rules.iter().filter(|rule| speaks(rule, caller, asked)) {
        match (rule.action, rule.audit) {
            (AuthorizationAction::Deny, true) => audited(&rule.policy),
            (AuthorizationAction::Deny, false) => denied = denied.or(Some(rule.policy.as_str())),
            (AuthorizationAction::Allow, false) => allowed = true,
            // An Allow on audit lets nobody in: it would weaken what holds without it.
            (AuthorizationAction::Allow, true) => {}
        }
    }
    match (denied, allowed, default) {
        (Some(policy), _, _) => Verdict::Denied(Some(policy)),
        (None, true, _) | (None, false, DefaultAuthorization::Allow) => Verdict::Allowed,
        (None, false, DefaultAuthorization::Deny) => Verdict::Denied(None),
    }
}

fn speaks(rule: &AuthorizationRule, caller: Option<&Peer>, asked: Asked<'_>) -> bool {
    // Plaintext has no caller. A Deny that names callers cannot clear somebody unknown, so it refuses him as well.
    let from = match caller {
        Some(caller) => rule.from.is_empty() || rule.from.iter().any(|peer| is(peer, caller)),
        None => rule.action == AuthorizationAction::Deny,
    };
    from && (rule.to.is_empty() || rule.to.iter().any(|request| covers(request, rule.action, asked)))
}

/// Whether a rule with these matches is about this caller and this request. Bytes cannot be told apart, so they match
/// no rule about some requests only; a caller without identity matches no rule about some callers only.
pub fn concerns(from: &[PeerMatch], to: &[RequestMatch], caller: Option<&SpiffeId>, asked: Asked<'_>) -> bool {
    let by_caller =
        from.is_empty() || caller.map(Peer::of).is_some_and(|caller| from.iter().any(|peer| is(peer, &caller)));
    by_caller && (to.is_empty() || to.iter().any(|request| covers(request, AuthorizationAction::Allow, asked)))
}

fn is(peer: &PeerMatch, Peer(caller): &Peer) -> bool {
    let PeerMatch { zone, namespace, account } = peer;
    let Some((in_zone, _, in_namespace, as_account)) = caller else { return false };
    zone.as_ref().is_none_or(|zone| zone == in_zone)
        && namespace.as_ref().is_none_or(|namespace| namespace == in_namespace)
        && account.as_ref().is_none_or(|account| account == as_account.as_str())
}

fn covers(given: &RequestMatch, action: AuthorizationAction, asked: Asked<'_>) -> bool {
    let RequestMatch { ports, methods, paths } = given;
    let port = ports.is_empty() || ports.contains(&asked.port);
    let request = match asked.request {
        Some((method, path)) => {
            (methods.is_empty() || methods.iter().any(|m| m == method))
                && (paths.is_empty() || paths.iter().any(|p| path_is(p, path)))
        }
        // Bytes cannot be told apart: an Allow for some requests does not allow all, a Deny for some refuses all.
        None => action == AuthorizationAction::Deny || (methods.is_empty() && paths.is_empty()),
    };
    port && request
}

fn path_is(given: &str, path: &str) -> bool {
    match given.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == given,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(action: &str, policy: &str, from: &str, to: &str) -> AuthorizationRule {
        serde_json::from_str(&format!(
            r#"{{"policy":"{policy}","action":"{action}","audit":false,"from":{from},"to":{to}}}"#
        ))
        .unwrap()
    }

    fn verdict(rules: &[AuthorizationRule], default: DefaultAuthorization, caller: &str, asked: Asked<'_>) -> String {
        let authorization = Authorization { default, rules: rules.to_vec() };
        let caller = caller.parse().ok().as_ref().map(Peer::of);
        match decide(&authorization, caller.as_ref(), asked, |_| {}) {
            Verdict::Allowed => "allowed".into(),
            Verdict::Denied(policy) => policy.unwrap_or("default").to_owned(),
        }
    }

    const WEB: &str = "spiffe://west.default/ns/shop/sa/web";
    const JOB: &str = "spiffe://east.default/ns/batch/sa/job";
    const NOBODY: &str = "";
    const GET: Asked<'_> = Asked { port: 80, request: Some(("GET", "/cart/1")) };
    const BYTES: Asked<'_> = Asked { port: 80, request: None };

    #[test]
    fn deny_wins_then_allow_then_the_default() {
        use DefaultAuthorization::{Allow, Deny};
        let shop = r#"[{"zone":null,"namespace":"shop","account":null}]"#;
        let allow = rule("Allow", "shop/allow", shop, "[]");
        let deny = rule("Deny", "shop/deny", r#"[{"zone":"east","namespace":null,"account":null}]"#, "[]");
        let admin = rule("Deny", "shop/admin", "[]", r#"[{"ports":[],"methods":[],"paths":["/admin*"]}]"#);
        let reads = rule("Allow", "shop/reads", "[]", r#"[{"ports":[80],"methods":["GET"],"paths":[]}]"#);
        let one = std::slice::from_ref;
        let cases: &[(&[AuthorizationRule], DefaultAuthorization, &str, Asked<'_>, &str)] = &[
            (&[], Deny, WEB, GET, "default"),
            (&[], Allow, WEB, GET, "allowed"),
            (one(&allow), Deny, WEB, GET, "allowed"),
            (one(&allow), Deny, JOB, GET, "default"),
            (&[allow.clone(), deny.clone()], Allow, JOB, GET, "shop/deny"),
            (&[reads.clone(), deny.clone()], Deny, JOB, GET, "shop/deny"),
            (one(&reads), Deny, WEB, GET, "allowed"),
            (one(&reads), Deny, WEB, BYTES, "default"),
            (one(&admin), Allow, WEB, GET, "allowed"),
            (one(&admin), Allow, WEB, Asked { port: 80, request: Some(("GET", "/admin/x")) }, "shop/admin"),
            (one(&admin), Allow, WEB, BYTES, "shop/admin"),
            (one(&allow), Deny, NOBODY, GET, "default"),
            (one(&deny), Allow, NOBODY, GET, "shop/deny"),
        ];
        for (rules, default, caller, asked, expect) in cases {
            assert_eq!(verdict(rules, *default, caller, *asked), *expect, "{rules:?} {caller} {asked:?}");
        }
    }

    #[test]
    fn a_rule_on_audit_only_tells() {
        let mut deny = rule("Deny", "shop/deny", "[]", "[]");
        deny.audit = true;
        let authorization = Authorization { default: DefaultAuthorization::Allow, rules: vec![deny] };
        let mut told = Vec::new();
        let verdict =
            decide(&authorization, WEB.parse().ok().as_ref().map(Peer::of).as_ref(), GET, |policy| told.push(policy));
        assert_eq!((verdict, told), (Verdict::Allowed, vec!["shop/deny"]));
    }
}
