//! Which calls an Ingress leads to the gateways, by its paths.
//!
//! Pure. Paths are compared by their elements, as `pathType: Prefix` is matched: `/v` leads nothing below `/v1`.

use serde_json::Value;

/// What every ingress has to lead to the gateways.
pub(super) const PREFIX: &str = "/v1/agents";

/// Where clients look for an authorization server: beside the calls, and never instead of them.
const WELL_KNOWN: &str = ".well-known";

/// What the paths to the gateways lead there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// Calls of all agents.
    All,
    /// Calls of these paths, e.g. of one namespace.
    Some(Vec<String>),
    /// No call.
    Nothing,
    /// What `ImplementationSpecific` means is the controller's matter.
    Untold,
}

/// What `paths`, each with the gateways as its backend, lead there.
pub(super) fn leads<'a>(paths: impl Iterator<Item = &'a Value>) -> Leads {
    let wanted: Vec<&str> = elements(PREFIX).collect();
    let (mut narrower, mut is_untold, mut has_calls) = (Vec::new(), false, false);
    for path in paths {
        let text = path["path"].as_str().unwrap_or("/");
        let found: Vec<&str> = elements(text).collect();
        if found.first() == Some(&WELL_KNOWN) {
            continue;
        }
        has_calls = true;
        match path["pathType"].as_str() {
            Some("ImplementationSpecific") => is_untold = true,
            Some("Exact") if found == wanted => {}
            kind if kind != Some("Exact") && wanted.starts_with(&found) => return Leads::All,
            _ if found.starts_with(&wanted) => narrower.push(text.to_owned()),
            _ => {}
        }
    }
    if is_untold || !has_calls {
        Leads::Untold
    } else if narrower.is_empty() {
        Leads::Nothing
    } else {
        Leads::Some(narrower)
    }
}

fn elements(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_compared_by_their_elements() {
        let some = |path: &str| Leads::Some(vec![path.to_owned()]);
        for (path, kind, expected) in [
            ("/v1/agents", "Prefix", Leads::All),
            ("/v1/agents/", "Prefix", Leads::All),
            ("/", "Prefix", Leads::All),
            ("/v1", "Prefix", Leads::All),
            ("/v", "Prefix", Leads::Nothing),
            ("/agents", "Prefix", Leads::Nothing),
            ("/v1/agents", "Exact", Leads::Nothing),
            ("/v1/agents/team-a", "Prefix", some("/v1/agents/team-a")),
            ("/v1/agents/team-a/travel", "Exact", some("/v1/agents/team-a/travel")),
            ("/v1/(.*)", "ImplementationSpecific", Leads::Untold),
            ("/.well-known/oauth-protected-resource/v1/agents", "Prefix", Leads::Untold),
        ] {
            let path_object = json!({ "path": path, "pathType": kind });
            assert_eq!(leads([path_object].iter()), expected, "{path} {kind}");
        }
        let both = [json!({ "path": "/v1/agents/a", "pathType": "Prefix" }), json!({ "pathType": "Prefix" })];
        assert_eq!(leads(both.iter()), Leads::All);
    }
}
