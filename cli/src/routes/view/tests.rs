use serde_json::json;

use super::*;

fn table(routes: &[(&str, &str, usize)]) -> Table {
    let routes: Vec<Value> = routes
        .iter()
        .map(|(name, version, endpoints)| {
            let endpoints: Vec<Value> = (0..*endpoints)
                .map(|i| {
                    json!({ "address": format!("10.0.0.{i}:8080"), "podUid": null, "inFlight": i,
                    "standingStreams": 0 })
                })
                .collect();
            json!({ "name": name, "version": version, "scaledToZero": false, "endpointCount": endpoints.len(),
                "endpoints": endpoints, "refused": [], "timeoutMs": 300_000 })
        })
        .collect();
    let page = json!({ "freshness": "live", "ageSeconds": 1.2, "dials": "endpoints", "agents": routes.len(),
        "changes": 3, "routes": routes, "next": null });
    Table::of(serde_json::from_value(page).unwrap())
}

fn asked(gateway: &str, routes: &[(&str, &str, usize)]) -> Asked {
    Asked { gateway: gateway.to_owned(), table: Ok(table(routes)) }
}

fn agent(name: &str, status: &str, reason: &str) -> Value {
    let (namespace, name) = name.split_once('/').unwrap();
    json!({ "metadata": { "namespace": namespace, "name": name, "generation": 2 },
        "status": { "conditions": [{ "type": "Programmed", "status": status, "reason": reason }] } })
}

const V1: &str = "aaaaaaaa11111111";
const V2: &str = "bbbbbbbb22222222";

#[test]
fn gateways_that_hold_the_same_do_not_differ() {
    let asked = [asked("g-1", &[("a/x", V1, 2)]), asked("g-2", &[("a/x", V1, 2)])];
    let view = View::of(&asked, &[agent("a/x", "True", "Programmed")], None);
    assert_eq!(view.differences, Vec::<String>::new());
    assert_eq!(
        view.text(false),
        "GATEWAY  TABLE  AGE  AGENTS  DIALS\n\
         g-1      live   1s   1       endpoints\n\
         g-2      live   1s   1       endpoints\n\
         \n\
         AGENT  PROGRAMMED  VERSION   ENDPOINTS  GATEWAYS\n\
         a/x    True        aaaaaaaa  2          2 of 2\n"
    );
    assert!(view.text(true).contains("a/x    g-1      10.0.0.1:8080  1          0"));
}

#[test]
fn every_difference_is_a_sentence() {
    let asked = [
        asked("g-1", &[("a/x", V1, 2), ("a/gone", V1, 0)]),
        asked("g-2", &[("a/x", V2, 1)]),
        Asked { gateway: "g-3".to_owned(), table: Err("the pod does not run".to_owned()) },
    ];
    let agents = [agent("a/x", "True", "Programmed"), agent("a/new", "False", "NoGateways")];
    let view = View::of(&asked, &agents, None);
    assert_eq!(
        view.differences,
        [
            "g-3 cannot be asked: the pod does not run",
            "a/gone: g-2 does not hold it",
            "a/gone: g-1 holds it, but there is no such Agent",
            "a/new: its status says that it is not programmed (NoGateways)",
            "a/x: gateways hold different versions: g-1 aaaaaaaa, g-2 bbbbbbbb",
        ]
    );
    let text = view.text(false);
    assert!(text.contains("a/x     True        differs   1/2        2 of 2"), "{text}");
    assert!(text.contains("a/new   NoGateways  -                    0 of 2"), "{text}");
}

#[test]
fn a_programmed_agent_that_no_gateway_holds_is_a_difference() {
    let view = View::of(&[asked("g-1", &[])], &[agent("a/x", "True", "Programmed")], None);
    assert_eq!(view.differences, ["a/x: g-1 does not hold it"]);
}

#[test]
fn a_gateway_without_a_controller_is_named() {
    let mut one = asked("g-1", &[]);
    one.table.as_mut().unwrap().freshness = "lost".to_owned();
    assert!(View::of(&[one], &[], None).differences[0].contains("lost the controller"));
}

#[test]
fn one_namespace_may_be_asked_for() {
    let asked = [asked("g-1", &[("a/x", V1, 1), ("ab/x", V1, 1)])];
    let view = View::of(&asked, &[agent("a/x", "True", "Programmed")], Some("a"));
    assert_eq!(view.agents.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["a/x"]);
    assert_eq!(view.differences, Vec::<String>::new());
}

#[test]
fn agents_that_no_controller_looks_at_are_left_out() {
    let agents = || vec![agent("a/x", "True", "Programmed"), agent("b/x", "", "")];
    assert_eq!(watched(agents(), &["a".to_owned()]), agents()[..1]);
    assert_eq!(watched(agents(), &[]), agents());
}
