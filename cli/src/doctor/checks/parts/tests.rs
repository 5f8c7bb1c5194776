use serde_json::json;

use super::*;
use crate::doctor::gather::GatewayPod;
use crate::routes::view::{Asked, Table};

fn deployment(component: &str, image: &str, available: i64) -> Value {
    json!({
        "metadata": { "name": format!("krypton-{component}"), "generation": 3,
            "labels": { (keys::COMPONENT_LABEL): component } },
        "spec": { "replicas": 2, "template": { "spec": { "containers": [{ "image": image, "args": [] }] } } },
        "status": { "availableReplicas": available, "updatedReplicas": 2, "observedGeneration": 3 },
    })
}

fn names(findings: &[Finding]) -> Vec<(Level, &str)> {
    findings.iter().map(|finding| (finding.level, finding.name.as_str())).collect()
}

#[test]
fn an_installation_that_is_not_there_is_a_problem() {
    let findings = deployments(&Gathered::default());
    assert_eq!(names(&findings), [(Level::Problem, "NotInstalled"); 2]);
}

#[test]
fn a_deployment_is_judged_by_its_pods() {
    for (available, level) in [(2, Level::Good), (1, Level::Warning), (0, Level::Problem)] {
        assert_eq!(availability(&deployment("gateway", "r/krypton-gateway:1", available)).level, level);
    }
    let mut rolling = deployment("gateway", "a:1", 2);
    rolling["status"]["observedGeneration"] = json!(2);
    assert_eq!(availability(&rolling).level, Level::Warning);
}

#[test]
fn different_versions_are_told() {
    let gathered = Gathered {
        deployments: vec![
            deployment("gateway", "r:5000/krypton-gateway:1.2", 2),
            deployment("controller", "r:5000/krypton-controller:1.3", 2),
        ],
        ..Gathered::default()
    };
    let findings = deployments(&gathered);
    assert_eq!(findings[2].name, "VersionsDiffer");
    assert!(findings[2].message.contains("1.2, 1.3"));
    assert_eq!((version("a"), version("r:5000/a")), (Some("latest"), Some("latest")));
    assert_eq!((version("r:5000/a:1@sha256:1"), version("r:5000/a@sha256:1")), (Some("1"), None));
}

#[test]
fn digests_are_no_versions() {
    let gathered = Gathered {
        deployments: vec![
            deployment("gateway", "r:5000/krypton-gateway@sha256:1", 2),
            deployment("controller", "r:5000/krypton-controller@sha256:2", 2),
        ],
        ..Gathered::default()
    };
    assert_eq!(names(&deployments(&gathered)), [(Level::Good, "Available"); 2]);
}

#[test]
fn agents_of_one_namespace_are_held_to_routes_of_that_one() {
    let route =
        |name: &str| json!({ "name": name, "version": "aaaaaaaa", "endpointCount": 0, "endpoints": [] });
    let page = json!({ "freshness": "live", "ageSeconds": 1.0, "dials": "endpoints",
        "routes": [route("team-a/x"), route("team-b/y")], "next": null });
    let table = Table::of(serde_json::from_value(page).unwrap());
    let agent = json!({ "metadata": { "namespace": "team-a", "name": "x" },
        "status": { "conditions": [{ "type": "Programmed", "status": "True" }] } });
    let mut gathered = Gathered {
        tables: vec![Asked { gateway: "g-1".to_owned(), table: Ok(table) }],
        agents: Some(vec![agent]),
        agents_of: Some("team-a".to_owned()),
        ..Gathered::default()
    };
    assert_eq!(names(&tables(&gathered)), [(Level::Good, "TablesAgree")]);
    gathered.agents_of = None;
    assert_eq!(names(&tables(&gathered)), [(Level::Warning, "TablesDiffer")]);
    gathered.agents = None;
    assert_eq!(names(&tables(&gathered)), []);
}

#[test]
fn a_gateway_without_a_table_is_told_once() {
    let page = |freshness: &str, routes: Value| {
        let page = json!({ "freshness": freshness, "ageSeconds": 1.0, "dials": "endpoints", "routes": routes,
            "next": null });
        Ok(Table::of(serde_json::from_value(page).unwrap()))
    };
    let route = json!([{ "name": "a/x", "version": "aaaaaaaa", "endpointCount": 0, "endpoints": [] }]);
    let agent = json!({ "metadata": { "namespace": "a", "name": "x" },
        "status": { "conditions": [{ "type": "Programmed", "status": "True" }] } });
    let told = |ready: Result<(bool, String), String>, table: Result<Table, String>| {
        let pod = |name: &str, ready| GatewayPod { name: name.to_owned(), is_terminating: false, ready };
        let asked = |gateway: &str, table| Asked { gateway: gateway.to_owned(), table };
        let gathered = Gathered {
            gateways: vec![pod("g-1", Ok((true, String::new()))), pod("g-2", ready)],
            tables: vec![asked("g-1", page("live", route.clone())), asked("g-2", table)],
            agents: Some(vec![agent.clone()]),
            ..Gathered::default()
        };
        let findings = [gateways(&gathered), tables(&gathered)].concat();
        findings.into_iter().map(|finding| finding.name).collect::<Vec<_>>()
    };
    let silent = || Err("the pod does not run".to_owned());
    let unready = Ok((false, "[-] table: none yet\n".to_owned()));
    let ready = Ok((true, String::new()));
    assert_eq!(told(silent(), Err("no".to_owned())), ["GatewaysReady", "GatewayNotAsked", "TablesAgree"]);
    assert_eq!(told(unready, page("empty", json!([]))), ["GatewaysReady", "GatewayNotReady", "TablesAgree"]);
    assert_eq!(told(ready, Err("no".to_owned())), ["GatewaysReady", "TablesDiffer"]);
}

#[test]
fn a_gateway_that_goes_away_need_not_be_ready() {
    let ready = Ok((false, "[-] draining: 3 calls\n".to_owned()));
    let gateway = GatewayPod { name: "g-1".to_owned(), is_terminating: true, ready };
    let gathered = Gathered { gateways: vec![gateway], ..Gathered::default() };
    assert_eq!(names(&gateways(&gathered)), [(Level::Note, "GatewayTerminating")]);
}

#[test]
fn a_gateway_says_itself_what_is_missing() {
    let pod = |name: &str, ready| GatewayPod { name: name.to_owned(), is_terminating: false, ready };
    let verbose = "[+] listening: ready\n[-] routes: no table yet\nnot ready\n".to_owned();
    let gathered = Gathered {
        gateways: vec![
            pod("g-1", Ok((true, "ready\n".to_owned()))),
            pod("g-2", Ok((false, verbose))),
            pod("g-3", Err("the pod does not run".to_owned())),
        ],
        ..Gathered::default()
    };
    let findings = gateways(&gathered);
    assert_eq!(findings[0].message, "1 of 3 are ready by their own word");
    assert_eq!(findings[1].message, "is not ready: routes: no table yet");
    assert_eq!(findings[2].name, "GatewayNotAsked");
}

#[test]
fn a_lease_that_nobody_renews_has_no_leader() {
    let lease = |holder: &str| {
        let lease = json!({ "spec": { "holderIdentity": holder, "leaseDurationSeconds": 10,
            "renewTime": "2026-01-01T00:00:00.000000Z" } });
        Gathered { lease: Some(Some(serde_json::from_value(lease).unwrap())), ..Gathered::default() }
    };
    let renewed = Duration::from_hours(490_896);
    let judged =
        |gathered: &Gathered, age| super::lease(gathered, renewed + Duration::from_secs(age)).unwrap().name;
    assert_eq!(judged(&lease("krypton-controller-a"), 5), "Leader");
    assert_eq!(judged(&lease("krypton-controller-a"), 31), "NoLeader");
    assert_eq!(judged(&lease(""), 5), "NoLeader");
    let named = Gathered { lease_name: "agents-controller".to_owned(), ..lease("") };
    assert_eq!(super::lease(&named, renewed).unwrap().about, "Lease agents-controller");
    assert_eq!(judged(&Gathered { lease: Some(None), ..Gathered::default() }, 5), "NoLeader");
    assert_eq!(super::lease(&Gathered::default(), renewed), None, "it was not read");
}

#[test]
fn a_definition_that_lacks_fields_is_old() {
    let mut crd = serde_json::to_value(agent_crd()).unwrap();
    let gathered = |crd| Gathered { crd: Some(Some(crd)), ..Gathered::default() };
    assert_eq!(definition(&gathered(crd.clone())).unwrap().level, Level::Good);
    let fields = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    crd.pointer_mut(fields).unwrap().as_object_mut().unwrap().remove("maxDuration");
    let finding = definition(&gathered(crd)).unwrap();
    assert!(finding.message.ends_with("it lacks maxDuration"), "{}", finding.message);
    let absent = Gathered { crd: Some(None), ..Gathered::default() };
    assert_eq!(definition(&absent).unwrap().name, "NoDefinition");
    assert_eq!(definition(&Gathered::default()), None, "it was not read");
}

#[test]
fn plain_discovery_is_told() {
    let gathered = |flag: &str| {
        let mut gateway = deployment("gateway", "a:1", 2);
        gateway["spec"]["template"]["spec"]["containers"][0]["args"] = json!([flag]);
        Gathered { deployments: vec![gateway, deployment("controller", "a:1", 2)], ..Gathered::default() }
    };
    let named = |flag| discovery(&gathered(flag)).unwrap().name;
    assert_eq!(named("--discovery=http://krypton-controller:9090"), "DiscoveryPlaintext");
    assert_eq!(named("--discovery=https://krypton-controller:9090"), "DiscoveryEncrypted");
    assert_eq!(discovery(&Gathered::default()), None);
}
