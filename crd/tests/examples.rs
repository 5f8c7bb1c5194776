//! The manifests that users copy.

use std::path::Path;

use krypton_crd::{Agent, Findings, Protocol, validate};

fn example(file: &str) -> Agent {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(file);
    let yaml = std::fs::read_to_string(&path).expect("the example is there");
    let object = serde_saphyr::from_str(&yaml).expect("the example is YAML");
    assert_eq!(validate(&object, None), Findings::default(), "{file}");
    let agent = Agent::from_value(object).expect("the example is an Agent");
    agent.agent_name().expect("the example has a name that a Service can have");
    agent
}

#[test]
fn the_examples_are_agents() {
    let echo = example("echo-agent.yaml").spec;
    assert_eq!(echo.protocol, Protocol::Http);

    let a2a = example("a2a-agent.yaml").spec;
    assert_eq!((a2a.protocol, a2a.invocation_path.as_deref()), (Protocol::A2a, Some("/a2a")));

    let mcp = example("mcp-agent.yaml").spec;
    assert_eq!((mcp.protocol, mcp.invocation_path.as_deref()), (Protocol::Mcp, Some("/mcp")));
}
