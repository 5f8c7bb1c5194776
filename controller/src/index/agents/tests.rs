//! What an Agent says becomes its route, or is refused by field.

use std::time::Duration;

use krypton_crd::crd::agent_crd;
use proptest::prelude::*;
use proptest::string::string_regex;
use serde_json::json;

use super::*;

fn mk_agent(name: &str, spec: &serde_json::Value) -> Agent {
    let agent = json!({
        "apiVersion": "krypton.ai/v1alpha1",
        "kind": "Agent",
        "metadata": { "namespace": "ns", "name": name },
        "spec": spec,
    });
    Agent::from_value(agent).unwrap()
}

#[test]
fn a_route_carries_what_the_spec_says() {
    let spec = json!({
        "image": "i", "protocol": "mcp", "port": 9000, "invocationPath": "/mcp", "timeout": "2m",
        "maxDuration": "1h", "startupTimeout": "5s", "concurrency": 0, "maxStandingStreams": 7,
        "appProtocol": "h2c", "replicas": 0,
    });
    let agent = AgentObject::from_agent(&mk_agent("a", &spec)).unwrap();
    let expected = Route {
        protocol: discovery::Protocol::Mcp,
        app_protocol: discovery::AppProtocol::H2c,
        upstream_host: discovery::UpstreamHost::Localhost,
        port: 9000.try_into().unwrap(),
        invocation_path: InvocationPath::new("/mcp").unwrap(),
        timeouts: Timeouts {
            timeout: Duration::from_mins(2),
            max_duration: Some(Duration::from_hours(1)),
            startup_timeout: Duration::from_secs(5),
        },
        concurrency: None,
        max_standing_streams: 7,
        service: None,
        scaled_to_zero: true,
        endpoints: vec![],
    };
    assert_eq!(agent.template(), &expected);
    assert_eq!(agent.agent().as_str(), "ns/a");
}

#[test]
fn what_makes_a_route_impossible_is_named() {
    // Past the decoder, which refuses the same: the index does not depend on it.
    let mut agent = mk_agent("a", &json!({ "image": "i" }));
    agent.spec.invocation_path = Some("/a b".into());
    let bad_path = AgentObject::from_agent(&agent).unwrap_err();
    assert!(bad_path.to_string().starts_with("spec.invocationPath: "), "{bad_path}");
    let mut agent = mk_agent("a", &json!({ "image": "i" }));
    agent.metadata.namespace = Some("a/b".into());
    let bad_namespace = AgentObject::from_agent(&agent).unwrap_err();
    assert!(bad_namespace.to_string().starts_with(r#"metadata: namespace "a/b""#), "{bad_namespace}");
}

#[test]
fn a_name_that_no_service_can_have_is_refused_from_wherever_it_comes() {
    for name in ["1agent", "a.b"] {
        let problem = AgentObject::from_agent(&mk_agent(name, &json!({ "image": "i" }))).unwrap_err();
        assert_eq!(problem, AgentProblem::Name(NameError::NotALabel(name.into())));
    }
}

/// The characters of the rule that the API server checks, cut out of the definition.
fn pattern_of_the_definition() -> String {
    let definition = serde_json::to_value(agent_crd()).unwrap();
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/invocationPath";
    let rule = definition.pointer(&format!("{path}/x-kubernetes-validations/0/rule")).unwrap();
    let (_, pattern) = rule.as_str().unwrap().split_once("r'^").unwrap();
    pattern.strip_suffix("$')").unwrap().to_owned()
}

/// Paths, most of them nearly good: one wrong character, or around the longest length.
fn any_path() -> impl Strategy<Value = String> {
    let long = (1020..1030_usize).prop_map(|length| format!("/{}", "a".repeat(length - 1)));
    let one_odd = ("/[a-z]{0,3}", any::<char>(), "[a-z]{0,3}").prop_map(|(a, odd, b)| format!("{a}{odd}{b}"));
    prop_oneof!["[ -~]{1,20}", "/[ -~]{0,2}", one_odd, long, "\\PC{1,20}"]
}

fn decodes(path: &str) -> bool {
    Agent::from_value(json!({
        "apiVersion": "krypton.ai/v1alpha1",
        "kind": "Agent",
        "metadata": { "namespace": "ns", "name": "a" },
        "spec": { "image": "i", "invocationPath": path },
    }))
    .is_ok()
}

proptest! {
    #[test]
    fn an_agent_may_have_the_paths_that_a_route_may(path in any_path()) {
        prop_assert_eq!(decodes(&path), InvocationPath::new(&path).is_ok());
    }

    #[test]
    fn what_the_api_server_takes_is_a_path(path in string_regex(&pattern_of_the_definition()).unwrap()) {
        prop_assert!(decodes(&path));
        prop_assert!(InvocationPath::new(&path).is_ok());
    }
}
