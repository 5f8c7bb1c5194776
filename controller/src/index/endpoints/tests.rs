//! Which slices and endpoints count, and what they make together.

use serde_json::{Value, json};

use super::*;

fn mk_slice(name: &str, address_type: &str, endpoints: &Value) -> Value {
    json!({
        "metadata": {
            "namespace": "ns", "name": name,
            "labels": { "krypton.ai/agent": "a", "kubernetes.io/service-name": "a" },
        },
        "addressType": address_type,
        "ports": [{ "name": "metrics", "port": 1 }, { "name": "http", "port": 8080 }],
        "endpoints": endpoints,
    })
}

fn convert_with(slice: &Value, policy: &EndpointPolicy) -> Option<SliceObject> {
    let slice: EndpointSlice = serde_json::from_value(slice.clone()).unwrap();
    SliceObject::from_slice(&slice, policy)
}

fn convert(slice: &Value) -> Option<SliceObject> {
    convert_with(slice, &EndpointPolicy::default())
}

fn merged(slices: &[Value]) -> Vec<String> {
    let slices: Vec<_> = slices.iter().filter_map(convert).collect();
    let forward = merge(slices.iter());
    assert_eq!(merge(slices.iter().rev()), forward, "order must not matter");
    forward.iter().map(|endpoint| format!("{endpoint:?}")).collect()
}

#[test]
fn a_slice_counts_if_both_labels_bear_the_name_of_the_agent() {
    let slice = mk_slice("a-1", "IPv4", &json!([{ "addresses": ["10.0.0.1"] }]));
    assert_eq!(convert(&slice).unwrap().agent().as_str(), "ns/a");
    for (label, value) in [
        ("krypton.ai/agent", json!("b")),
        ("krypton.ai/agent", Value::Null),
        ("kubernetes.io/service-name", json!("b")),
        ("kubernetes.io/service-name", Value::Null),
    ] {
        let mut other = slice.clone();
        let labels = other["metadata"]["labels"].as_object_mut().unwrap();
        match value {
            Value::Null => labels.remove(label),
            value => labels.insert(label.to_owned(), value),
        };
        assert_eq!(convert(&other), None, "{other}");
    }
    assert_eq!(convert(&mk_slice("a-1", "FQDN", &json!([{ "addresses": ["example.org"] }]))), None);
}

#[test]
fn new_calls_go_to_what_is_ready_or_silent_and_not_terminating() {
    let with = |last: u8, conditions: Value| json!({ "addresses": [format!("10.0.0.{last}")], "conditions": conditions });
    let endpoints = json!([
        with(1, json!({ "ready": true })),
        with(2, json!({})),
        with(3, json!({ "ready": false })),
        with(4, json!({ "ready": true, "terminating": true })),
        with(5, json!({ "ready": true, "serving": true, "terminating": false })),
        { "addresses": ["10.0.0.6", "10.0.0.7"] },
    ]);
    let expected = ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.5:8080", "10.0.0.6:8080"];
    assert_eq!(merged(&[mk_slice("a-1", "IPv4", &endpoints)]), expected);
}

#[test]
fn a_pod_counts_once_and_so_does_an_address_without_one() {
    let one = json!([
        { "addresses": ["10.0.0.1"], "targetRef": { "uid": "pod-1" } },
        { "addresses": ["10.0.0.2"] },
        { "addresses": ["10.0.0.3"] },
    ]);
    let other = json!([
        { "addresses": ["10.0.0.9"], "targetRef": { "uid": "pod-1" } },
        { "addresses": ["10.0.0.1"] },
        { "addresses": ["10.0.0.2"] },
    ]);
    let expected = ["10.0.0.1:8080 (pod pod-1)", "10.0.0.2:8080", "10.0.0.3:8080"];
    assert_eq!(merged(&[mk_slice("a-1", "IPv4", &one), mk_slice("a-2", "IPv4", &other)]), expected);
}

#[test]
fn one_address_family_is_used_ipv4_where_there_is_any() {
    let v4 = mk_slice("a-1", "IPv4", &json!([{ "addresses": ["10.0.0.1"] }]));
    let v6 = mk_slice("a-2", "IPv6", &json!([{ "addresses": ["fd00::1"] }]));
    let unready =
        mk_slice("a-3", "IPv4", &json!([{ "addresses": ["10.0.0.2"], "conditions": { "ready": false } }]));
    assert_eq!(merged(&[v4, v6.clone()]), ["10.0.0.1:8080"]);
    assert_eq!(merged(&[unready, v6]), ["[fd00::1]:8080"]);
}

#[test]
fn what_may_not_be_dialled_is_refused_by_name() {
    let endpoints = json!([
        { "addresses": ["10.0.0.1"] },
        { "addresses": ["169.254.169.254"] },
        { "addresses": ["127.0.0.1"] },
        { "addresses": ["not an address"] },
        { "addresses": ["fd00::1"] },
        { "addresses": [] },
    ]);
    let slice = convert(&mk_slice("a-1", "IPv4", &endpoints)).unwrap();
    assert_eq!(slice.endpoints.len(), 1);
    let refused: Vec<String> = slice.refused().iter().map(ToString::to_string).collect();
    assert_eq!(
        refused,
        [
            r#"endpoint "169.254.169.254": 169.254.169.254 is a link-local address"#,
            r#"endpoint "127.0.0.1": 127.0.0.1 is a loopback address"#,
            r#"endpoint "not an address": not an address of type IPv4"#,
            r#"endpoint "fd00::1": not an address of type IPv4"#,
            r#"endpoint "": not an address of type IPv4"#,
        ]
    );
    let policy = EndpointPolicy { allow_loopback: true, deny: vec!["10.0.0.0/8".parse().unwrap()] };
    let slice = convert_with(&mk_slice("a-1", "IPv4", &endpoints), &policy).unwrap();
    assert_eq!(merge([&slice].into_iter()).len(), 1);
    assert_eq!(slice.endpoints[0].address(), "127.0.0.1:8080".parse().unwrap());
}

#[test]
fn without_a_port_named_http_nothing_can_be_dialled() {
    let endpoints = json!([{ "addresses": ["10.0.0.1"] }]);
    for ports in [
        json!([]),
        json!([{ "name": "web", "port": 80 }]),
        json!([{ "name": "http", "port": 80, "protocol": "UDP" }]),
        json!([{ "name": "http" }]),
        json!([{ "name": "http", "port": 0 }]),
        json!([{ "name": "http", "port": 65_536 }]),
        json!([{ "name": "http", "port": -1 }]),
    ] {
        let mut slice = mk_slice("a-1", "IPv4", &endpoints);
        slice["ports"] = ports.clone();
        let slice = convert(&slice).unwrap();
        assert_eq!(slice.refused()[0].reason, RefusedReason::NoPort, "{ports}");
        assert!(slice.endpoints.is_empty(), "{ports}");
    }
}
