//! What tests of an install share: a node of their own.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures::FutureExt;
use krypton_e2e::cluster::Namespace;
use krypton_e2e::node::Node;
use tokio::sync::Semaphore;

/// Pods start within seconds; this is for a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_mins(2);

/// Gives `test` a namespace on a node of its own that has the images of Krypton itself.
pub(crate) async fn with_node(test: impl AsyncFnOnce(&Namespace)) {
    static TURN: Semaphore = Semaphore::const_new(1);
    let _turn = TURN.acquire().await.unwrap();
    let node = Node::start().await.unwrap();
    node.load_krypton().await.unwrap();
    let cluster = node.cluster().await.unwrap();
    let outcome = AssertUnwindSafe(cluster.with_namespace(test)).catch_unwind().await;
    drop(node);
    outcome.unwrap_or_else(|panic| resume_unwind(panic)).unwrap();
}
