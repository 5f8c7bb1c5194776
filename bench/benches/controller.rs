//! What a change in the cluster costs in the controller, from the object as it came to the response for a gateway.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use krypton_bench::routes::{ENDPOINTS, address, names, pod_uid};
use krypton_controller::discovery::session::Session;
use krypton_controller::index::{AgentObject, Index, SliceObject};
use krypton_controller::object::Scope;
use krypton_controller::source::{Change, SourceEvent};
use krypton_crd::Agent;
use krypton_discovery::EndpointPolicy;
use serde_json::json;

/// Agents in the cluster.
const SIZES: [usize; 3] = [100, 5_000, 100_000];

/// Agents whose slice is changed in turn.
const CHANGED: usize = 64;

fn agent(n: usize) -> AgentObject {
    let (namespace, name) = names(n);
    let agent = json!({
        "apiVersion": "krypton.ai/v1alpha1",
        "kind": "Agent",
        "metadata": { "namespace": namespace, "name": name },
        "spec": { "image": "registry.example.com/agent:1" },
    });
    let agent = Agent::from_value(agent).expect("a good Agent");
    AgentObject::from_agent(&agent).expect("an Agent that can have a route")
}

fn slice(n: usize, endpoints: usize) -> EndpointSlice {
    let (namespace, name) = names(n);
    let endpoint = |pod| {
        json!({
            "addresses": [address(n, pod).to_string()],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": "node-1",
            "targetRef": { "kind": "Pod", "namespace": namespace, "name": format!("{name}-{pod}"), "uid": pod_uid(n, pod) },
        })
    };
    let slice = json!({
        "metadata": {
            "namespace": namespace,
            "name": format!("{name}-x7k2p"),
            "labels": { "krypton.ai/agent": name, "kubernetes.io/service-name": name },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>(),
    });
    serde_json::from_value(slice).expect("a good EndpointSlice")
}

fn restarted<T>(objects: Vec<T>) -> Change<T> {
    Change::Restarted { scope: Scope::AllNamespaces, objects, refused: Vec::new() }
}

fn index(agents: usize, policy: &EndpointPolicy) -> Index {
    let mut index = Index::new(&[Scope::AllNamespaces]);
    let slices = (0..agents).filter_map(|n| SliceObject::from_slice(&slice(n, ENDPOINTS), policy)).collect();
    index.apply(SourceEvent::EndpointSlices(restarted(slices)));
    index.apply(SourceEvent::Services(restarted(Vec::new())));
    index.apply(SourceEvent::Agents(restarted((0..agents).map(agent).collect())));
    index
}

/// One slice changes: index, snapshot, and the response of one gateway's session with its answer.
fn slice_change(c: &mut Criterion) {
    let policy = EndpointPolicy::default();
    let mut group = c.benchmark_group("slice_change");
    for agents in SIZES {
        let mut index = index(agents, &policy);
        let first = index.commit().expect("all lists have come");
        assert_eq!((first.len(), first.endpoints()), (agents, agents * ENDPOINTS));
        let mut session = Session::new([]);
        while let Some(response) = session.next(&first, None) {
            session.answer(response.nonce, &[]).expect("the answer to what is outstanding");
        }
        let changes = |endpoints| (0..CHANGED).map(move |n| slice(n * (agents / CHANGED), endpoints));
        let slices: Vec<EndpointSlice> = changes(ENDPOINTS - 1).chain(changes(ENDPOINTS)).collect();
        let mut next = slices.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(agents), |b| {
            b.iter(|| {
                let slice = SliceObject::from_slice(black_box(next.next()?), &policy)?;
                index.apply(SourceEvent::EndpointSlices(Change::Apply(slice)));
                let response = session.next(&index.commit()?, None)?;
                session.answer(response.nonce, &[]).ok()?;
                Some(response)
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(40)
        .configure_from_args();
    slice_change(&mut criterion);
    criterion.final_summary();
}
