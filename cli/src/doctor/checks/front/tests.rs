use serde_json::json;

use super::*;

fn ingress(class: &str, annotations: &Value) -> Value {
    json!({
        "metadata": { "namespace": "krypton-system", "name": "krypton-gateway", "annotations": annotations },
        "spec": { "ingressClassName": class, "rules": [{ "http": { "paths": [{
            "path": "/v1/agents", "pathType": "Prefix",
            "backend": { "service": { "name": "krypton-gateway", "port": { "number": 8080 } } } }] } }] },
    })
}

fn ingress_class(name: &str, controller: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "controller": controller } })
}

fn with_ingress(ingress: Value) -> Gathered {
    Gathered {
        release: "krypton".to_owned(),
        namespace: "krypton-system".to_owned(),
        ingresses: Some(vec![ingress]),
        http_routes: Some(Vec::new()),
        ingress_classes: Some(vec![
            ingress_class("nginx", "k8s.io/ingress-nginx"),
            ingress_class("f5", "nginx.org/ingress-controller"),
            ingress_class("own", "example.com/own"),
            ingress_class("contour", "projectcontour.io/ingress-controller"),
        ]),
        ..Gathered::default()
    }
}

fn names(gathered: &Gathered) -> Vec<String> {
    all(gathered).into_iter().map(|finding| finding.name).collect()
}

#[test]
fn an_ingress_is_held_to_the_settings_of_its_class() {
    for (class, annotations, expected) in [
        ("nginx", json!({}), &["WrongSetting"][..]),
        ("nginx", json!({ "nginx.ingress.kubernetes.io/proxy-read-timeout": "330" }), &["Ingress"]),
        (
            "nginx",
            json!({ "nginx.ingress.kubernetes.io/proxy-read-timeout": "299",
                "nginx.ingress.kubernetes.io/proxy-buffering": "on" }),
            &["WrongSetting", "WrongSetting"],
        ),
        ("f5", json!({}), &["WrongSetting", "WrongSetting", "NotOfTheRoute"]),
        (
            "f5",
            json!({ "nginx.org/proxy-buffering": "False", "nginx.org/proxy-read-timeout": "330s" }),
            &["Ingress", "NotOfTheRoute"],
        ),
        (
            "contour",
            json!({ "projectcontour.io/response-timeout": "infinity" }),
            &["Ingress", "NotOfTheRoute"],
        ),
        ("haproxy", json!({ "haproxy.org/timeout-server": "1h" }), &["NoIngressClass"]),
        ("own", json!({}), &["UnknownClass"]),
    ] {
        assert_eq!(names(&with_ingress(ingress(class, &annotations))), expected, "{class} {annotations}");
    }
}

#[test]
fn an_ingress_has_to_route_all_below_the_prefix() {
    let right = json!({ "nginx.ingress.kubernetes.io/proxy-read-timeout": "330" });
    for (path, kind, expected) in [
        ("/v1/agents", "Prefix", &["Ingress"][..]),
        ("/v1/", "ImplementationSpecific", &["Ingress"]),
        ("/v1/agents", "Exact", &["WrongPath"]),
        ("/v1/agents/team-a", "Prefix", &["NarrowPath", "Ingress"]),
    ] {
        let mut ingress = ingress("nginx", &right);
        ingress["spec"]["rules"][0]["http"]["paths"][0]["path"] = json!(path);
        ingress["spec"]["rules"][0]["http"]["paths"][0]["pathType"] = json!(kind);
        assert_eq!(names(&with_ingress(ingress)), expected, "{path} {kind}");
    }
}

#[test]
fn paths_to_something_else_lead_nothing_to_the_gateways() {
    let right = json!({ "nginx.ingress.kubernetes.io/proxy-read-timeout": "330" });
    let mut shared = ingress("nginx", &right);
    let mut ui = shared["spec"]["rules"][0]["http"]["paths"][0].clone();
    ui["backend"]["service"]["name"] = json!("ui");
    shared["spec"]["rules"][0]["http"]["paths"][0]["path"] = json!("/agents");
    shared["spec"]["rules"][0]["http"]["paths"].as_array_mut().unwrap().push(ui);
    assert_eq!(names(&with_ingress(shared.clone())), ["WrongPath"]);
    shared["spec"]["defaultBackend"] = json!({ "service": { "name": "krypton-gateway" } });
    assert_eq!(names(&with_ingress(shared)), ["Ingress"]);
}

#[test]
fn of_the_charts_own_ingress_the_charts_value_is_named_first() {
    let cures = |labels: Value| {
        let mut ingress = ingress("nginx", &json!({}));
        ingress["metadata"]["labels"] = labels;
        let gathered = with_ingress(ingress);
        (all(&gathered).remove(0).todo, has_read_timeout_of_the_chart(&gathered))
    };
    let annotation = "nginx.ingress.kubernetes.io/proxy-read-timeout: \"330\"";
    for mark in ["helm.sh/chart", "app.kubernetes.io/managed-by"] {
        let (cures, by_the_chart) = cures(json!({ "app.kubernetes.io/instance": "krypton", (mark): "Helm" }));
        assert!(by_the_chart);
        assert!(cures[0].starts_with("set ingress.readTimeout: 5m30s in the chart's values"), "{cures:?}");
        assert!(cures[1].contains(annotation) && cures[1].contains("ingress.annotations"), "{cures:?}");
    }
    let others = json!({ "app.kubernetes.io/instance": "edge", "app.kubernetes.io/managed-by": "Helm" });
    for labels in [json!({}), others] {
        let (cures, by_the_chart) = cures(labels);
        assert!(
            !by_the_chart && cures[0].starts_with(&format!("annotate it with {annotation}")),
            "{cures:?}"
        );
    }
}

/// An Agent has 300 s unless it says otherwise.
#[test]
fn a_read_timeout_is_held_to_the_agents() {
    let annotations = json!({ "nginx.ingress.kubernetes.io/proxy-read-timeout": "300" });
    let agent = |spec: Value| {
        json!({ "apiVersion": krypton_crd::keys::API_VERSION, "kind": krypton_crd::keys::KIND,
            "metadata": { "namespace": "team-a", "name": "x" }, "spec": spec })
    };
    let with =
        |spec| Gathered { agents: Some(vec![agent(spec)]), ..with_ingress(ingress("nginx", &annotations)) };
    assert_eq!(names(&with(json!({ "image": "a:1", "timeout": "250s" }))), ["Ingress"]);
    assert_eq!(names(&with(json!({ "image": "a:1" }))), ["WrongSetting"]);
}

#[test]
fn an_ingress_to_something_else_is_not_looked_at() {
    let mut other = ingress("nginx", &json!({}));
    other["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = json!("ui");
    assert_eq!(names(&with_ingress(other)), ["NoIngress"]);
}

fn route() -> Value {
    json!({
        "metadata": { "namespace": "krypton-system", "name": "krypton-gateway" },
        "spec": {
            "parentRefs": [{ "name": "public", "namespace": "edge" }],
            "rules": [{ "timeouts": { "request": "0s" }, "backendRefs": [{ "name": "krypton-gateway", "port": 8080 }] }],
        },
        "status": { "parents": [{ "parentRef": { "name": "public", "namespace": "edge" },
            "conditions": [{ "type": "Accepted", "status": "True", "reason": "Accepted", "message": "" }] }] },
    })
}

fn with_route(route: Value) -> Gathered {
    Gathered {
        release: "krypton".to_owned(),
        namespace: "krypton-system".to_owned(),
        http_routes: Some(vec![route]),
        gateway_objects: Some(vec![json!({ "metadata": { "namespace": "edge", "name": "public" },
            "spec": { "gatewayClassName": "eg" } })]),
        gateway_classes: Some(vec![json!({ "metadata": { "name": "eg" },
            "spec": { "controllerName": "gateway.envoyproxy.io/gatewayclass-controller" } })]),
        ..Gathered::default()
    }
}

#[test]
fn a_route_is_held_to_its_parent_and_its_timeout() {
    assert_eq!(names(&with_route(route())), ["HTTPRoute", "NotOfTheRoute"]);
    assert_eq!(classes(&with_route(route())), BTreeSet::from([Class::EnvoyGateway]));

    let mut lost = route();
    lost["spec"]["parentRefs"][0]["name"] = json!("privat");
    let gathered = with_route(lost);
    assert_eq!(names(&gathered), ["NoGateway"]);
    assert!(all(&gathered)[0].message.contains("the Gateway privat, does not exist"));

    let mut refused = route();
    refused["status"]["parents"][0]["conditions"][0] =
        json!({ "type": "Accepted", "status": "False", "reason": "NotAllowedByListeners", "message": "no" });
    assert!(all(&with_route(refused))[0].message.contains("public refuses it: NotAllowedByListeners, no"));

    let mut silent = route();
    silent["status"] = json!({});
    assert_eq!(names(&with_route(silent)), ["NotAccepted", "NotOfTheRoute"]);

    for timeouts in [json!({}), json!({ "request": "15s" })] {
        let mut cut = route();
        cut["spec"]["rules"][0]["timeouts"] = timeouts;
        assert_eq!(names(&with_route(cut)), ["WrongSetting", "NotOfTheRoute"]);
    }
}

#[test]
fn the_class_is_told_by_the_ingress_class() {
    let of = |class| classes(&with_ingress(ingress(class, &json!({}))));
    assert_eq!(of("f5"), BTreeSet::from([Class::Nginx]));
    assert_eq!(of("nginx"), BTreeSet::from([Class::IngressNginx]));
    assert_eq!(of("own"), BTreeSet::new());
}

#[test]
fn what_was_not_read_is_not_said_to_be_absent() {
    assert_eq!(
        names(&Gathered { release: "krypton".to_owned(), ..Gathered::default() }),
        Vec::<String>::new()
    );
    let right = json!({ "haproxy.org/timeout-server": "330s" });
    let unread = Gathered { ingress_classes: None, ..with_ingress(ingress("haproxy", &right)) };
    assert_eq!(names(&unread), ["Ingress"]);
    let unread = Gathered { gateway_objects: None, ..with_route(route()) };
    assert_eq!(names(&unread), ["HTTPRoute"]);
}

#[test]
fn the_annotation_of_old_needs_no_ingress_class() {
    let mut old = ingress(
        "x",
        &json!({ "kubernetes.io/ingress.class": "haproxy",
        "haproxy.org/timeout-server": "330s" }),
    );
    old["spec"].as_object_mut().unwrap().remove("ingressClassName");
    assert_eq!(names(&with_ingress(old)), ["Ingress"]);
}

#[test]
fn a_parents_word_is_found_by_all_that_names_it() {
    let mut two = route();
    two["spec"]["parentRefs"] = json!([
        { "name": "public", "namespace": "edge", "sectionName": "http" },
        { "name": "public", "namespace": "edge", "sectionName": "https" },
    ]);
    let says = |namespace: &str, section: &str, status: &str| {
        json!({ "parentRef": { "name": "public", "namespace": namespace, "sectionName": section },
            "conditions": [{ "type": "Accepted", "status": status, "reason": "NoMatchingParent" }] })
    };
    two["status"]["parents"] = json!([
        says("krypton-system", "https", "True"),
        says("edge", "http", "True"),
        says("edge", "https", "False")
    ]);
    let findings = all(&with_route(two));
    let refused = |finding: &&Finding| finding.message.contains("refuses it: NoMatchingParent");
    assert_eq!(findings.iter().filter(refused).count(), 1, "{findings:?}");
}
