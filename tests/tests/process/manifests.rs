//! A folder of manifests as people change it, seen by a caller of the gateway.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Context, ensure};
use krypton_e2e::programs::Controller;
use krypton_e2e::wait::eventually;
use serde_json::{Value, json};

use crate::support::manifest::{Manifests, Pod, agent, agent_alone, slice};
use crate::support::{
    Krypton, SOON, agent as start_agent, controller_on, endpoints_become, is_ready, status_becomes,
};
use krypton_e2e::client::get;

/// The problems that `/debug/sources` lists, once there are that many.
async fn problems(controller: &Controller, count: usize) -> Vec<Value> {
    eventually(&format!("{count} problems are listed"), SOON, async || {
        let report = get(controller.admin, "/debug/sources").await?.json();
        let folder = &report["manifests"];
        ensure!(folder["problemCount"] == count, "{folder}");
        Ok(folder["problems"].as_array().context("no list")?.clone())
    })
    .await
    .unwrap()
}

/// The agents that the controller tells of, once they are these.
async fn agents_become(controller: &Controller, expected: &[&str]) {
    eventually(&format!("the agents are {expected:?}"), SOON, async || {
        let snapshot = get(controller.admin, "/debug/snapshot").await?.json();
        let routes = snapshot["routes"].as_array().context("no snapshot")?;
        let names: Vec<_> = routes.iter().filter_map(|route| route["agent"].as_str()).collect();
        ensure!(names == expected, "{names:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// A controller on one good agent, `good`, and one file.
async fn with_file(name: &str, text: impl AsRef<[u8]>) -> (Manifests, Controller) {
    let manifests = Manifests::new();
    manifests.put("a-good.yaml", agent_alone("good", "protocol: http"));
    manifests.put(name, text);
    let controller = controller_on(&manifests).await;
    (manifests, controller)
}

/// The one problem of a controller's folder; the good agent is not disturbed by it.
async fn only_problem(name: &str, text: impl AsRef<[u8]>) -> Value {
    let (manifests, controller) = with_file(name, text).await;
    let problem = problems(&controller, 1).await.remove(0);
    assert_eq!(problem["file"], manifests.path().join(name).to_str().unwrap());
    agents_become(&controller, &["default/good"]).await;
    problem
}

#[tokio::test]
async fn an_agent_comes_with_its_file_and_goes_with_it() {
    let (first, second) = (start_agent("first").await, start_agent("second").await);
    let krypton = Krypton::start(Manifests::with_echo(&[first.http])).await;
    assert_eq!(krypton.get("/v1/agents/default/late/").await.code(), "agent_not_found");

    krypton.manifests.put("late.yaml", agent("late", "protocol: http", &[second.http]));
    let answer = status_becomes(krypton.gateway.http, "/v1/agents/default/late/", 200).await;
    assert_eq!(answer.header("x-agent-name"), "second");

    krypton.manifests.remove("late.yaml");
    let answer = status_becomes(krypton.gateway.http, "/v1/agents/default/late/", 404).await;
    assert_eq!(answer.code(), "agent_not_found");
    assert_eq!(krypton.get("/v1/agents/default/echo/").await.status, 200);
}

#[tokio::test]
async fn a_changed_file_changes_the_route() {
    let (first, second) = (start_agent("first").await, start_agent("second").await);
    let krypton = Krypton::start(Manifests::with_echo(&[first.http])).await;
    krypton.manifests.put("echo.yaml", agent("echo", "protocol: http", &[second.http]));
    endpoints_become(&krypton.gateway, "echo", &[second.http]).await;
    assert_eq!(krypton.get("/v1/agents/default/echo/").await.header("x-agent-name"), "second");
}

#[tokio::test]
async fn a_broken_file_keeps_its_last_good_objects() {
    let echo = start_agent("first").await;
    let krypton = Krypton::start(Manifests::with_echo(&[echo.http])).await;
    krypton.manifests.put("echo.yaml", "apiVersion: krypton.ai/v1alpha1\nkind: Agent\nmetadata: [\n");

    let problem = problems(&krypton.controller, 1).await.remove(0);
    let file = krypton.manifests.path().join("echo.yaml");
    assert_eq!(problem["file"], file.to_str().unwrap());
    assert!(problem["line"].as_u64().is_some_and(|line| line >= 3), "{problem}");
    assert_eq!(krypton.get("/v1/agents/default/echo/").await.status, 200);

    // What comes after is not held up by it, and mending it ends the problem.
    krypton.manifests.put("other.yaml", agent("other", "protocol: http", &[echo.http]));
    status_becomes(krypton.gateway.http, "/v1/agents/default/other/", 200).await;
    krypton.manifests.put("echo.yaml", agent("echo", "protocol: http", &[echo.http]));
    problems(&krypton.controller, 0).await;
}

#[tokio::test]
async fn a_yaml_bomb_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        let items = [below.as_str(); 10].join(", ");
        writeln!(bomb, "a{level}: &a{level} [{items}]").unwrap();
    }
    let problem = only_problem("bomb.yaml", bomb).await;
    assert!(problem["reason"].as_str().unwrap().contains("alias"), "{problem}");
}

#[tokio::test]
async fn a_binary_file_is_refused() {
    let problem = only_problem("program.yaml", b"\x7fELF\x02\x01\x01\x00\x00").await;
    assert_eq!(problem["reason"], "the file is not text: byte 0 is 0x7f");
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused() {
    let problem = only_problem("large.yaml", "# a comment\n".repeat(5 * 1024 * 1024 / 12)).await;
    assert_eq!(problem["reason"], "the file is larger than 4 MiB");
}

#[tokio::test]
async fn the_field_that_is_wrong_is_named() {
    for (spec, named) in [
        ("protocol: grpc", "protocol"),
        ("protocol: http\ntimeout: soon", "timeout"),
        ("protocol: http\ntimeout: -5s", "timeout"),
        ("protocol: http\nport: -1", "port"),
        ("protocol: http\nport: 65536", "port"),
        ("protocol: http\nconcurrency: 99999999999999999999999999", "concurrency"),
        ("protocol: http\nmaxReplicas: 5000000000", "maxReplicas"),
    ] {
        let problem = only_problem("bad.yaml", agent_alone("bad", spec)).await;
        let reason = problem["reason"].as_str().unwrap();
        assert!(reason.contains("Agent bad") && reason.contains(named), "{spec:?}: {reason}");
    }
}

#[tokio::test]
async fn of_two_agents_of_one_name_the_first_file_counts() {
    let (first, second) = (start_agent("first").await, start_agent("second").await);
    let krypton = Krypton::start(Manifests::with_echo(&[first.http])).await;
    krypton.manifests.put("later.yaml", agent_alone("echo", "protocol: mcp"));

    let problem = problems(&krypton.controller, 1).await.remove(0);
    assert_eq!(problem["file"], krypton.manifests.path().join("later.yaml").to_str().unwrap());
    let reason = problem["reason"].as_str().unwrap();
    assert!(reason.contains("default/echo") && reason.contains("echo.yaml"), "{reason}");
    assert_eq!(krypton.get("/v1/agents/default/echo/").await.header("x-agent-name"), "first");

    // Without the first the second takes its place.
    krypton.manifests.put("slice.yaml", slice("echo", &Pod::ready(second.http)));
    krypton.manifests.remove("echo.yaml");
    endpoints_become(&krypton.gateway, "echo", &[second.http]).await;
}

#[tokio::test]
async fn a_list_is_read_as_what_it_holds() {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "metadata": { "name": "one" },
          "spec": { "image": "example" } },
        { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" } },
        { "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "metadata": { "name": "two", "namespace": "team" },
          "spec": { "image": "example" } },
    ]});
    let (_manifests, controller) = with_file("list.json", list.to_string()).await;
    agents_become(&controller, &["default/good", "default/one", "team/two"]).await;
    problems(&controller, 0).await;
}

#[tokio::test]
async fn folders_within_the_folder_are_read_and_watched() {
    let manifests = Manifests::new();
    fs::create_dir_all(manifests.path().join("team/a")).unwrap();
    manifests.put("team/a/one.yaml", agent_alone("one", "protocol: http"));
    let controller = controller_on(&manifests).await;
    agents_become(&controller, &["default/one"]).await;

    fs::create_dir_all(manifests.path().join("team/b")).unwrap();
    manifests.put("team/b/two.yml", agent_alone("two", "protocol: http"));
    agents_become(&controller, &["default/one", "default/two"]).await;
    fs::remove_dir_all(manifests.path().join("team/a")).unwrap();
    agents_become(&controller, &["default/two"]).await;
}

#[tokio::test]
async fn the_temporary_files_of_editors_are_ignored() {
    let manifests = Manifests::new();
    for name in [".one.yaml.swp", ".one.yaml", "one.yaml~", "#one.yaml#", "4913", "one.yaml.bak"] {
        fs::write(manifests.path().join(name), agent_alone("one", "protocol: http")).unwrap();
    }
    manifests.put("two.yaml", agent_alone("two", "protocol: http"));
    let controller = controller_on(&manifests).await;
    agents_become(&controller, &["default/two"]).await;
    problems(&controller, 0).await;
}

/// How the kubelet mounts a ConfigMap: files are links into `..data`, itself a link that is swapped.
#[tokio::test]
async fn a_mounted_config_map_may_be_swapped() {
    let manifests = Manifests::new();
    let folder = manifests.path();
    let publish = |generation: &str, name: &str| {
        fs::create_dir(folder.join(generation)).unwrap();
        fs::write(folder.join(generation).join("agent.yaml"), agent_alone(name, "protocol: http")).unwrap();
        symlink(generation, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    publish("..2026_01", "one");
    symlink("..data/agent.yaml", folder.join("agent.yaml")).unwrap();
    let controller = controller_on(&manifests).await;
    agents_become(&controller, &["default/one"]).await;

    publish("..2026_02", "two");
    fs::remove_dir_all(folder.join("..2026_01")).unwrap();
    agents_become(&controller, &["default/two"]).await;
}

#[tokio::test]
async fn an_empty_folder_is_a_start() {
    let manifests = Manifests::new();
    let controller = controller_on(&manifests).await;
    is_ready(controller.admin).await;
    manifests.put("one.yaml", agent_alone("one", "protocol: http"));
    agents_become(&controller, &["default/one"]).await;
}
