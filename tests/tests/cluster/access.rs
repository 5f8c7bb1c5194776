//! Who may listen, as a real API server says: a gateway's own token opens discovery and nothing else, and no other opens
//! discovery.

use std::path::PathBuf;

use anyhow::ensure;
use http::Request;
use krypton_e2e::authority::{Authority, Validity};
use krypton_e2e::cluster::{Cluster, Namespace, shared};
use krypton_e2e::programs::{Controller, Gateway};
use krypton_e2e::wait::eventually;
use kube::Client;
use kube::config::{AuthInfo, Config, KubeConfigOptions, Kubeconfig};
use serde_json::json;
use tempfile::TempDir;

use crate::api_proxy::{ApiProxy, Behaviour};
use crate::objects::{agent, put};
use crate::support::{SOON, is_ready, metric, metric_becomes, table};

/// What a token must be for.
pub(crate) const AUDIENCE: &str = "krypton-discovery";

/// The service account of gateways.
pub(crate) const GATEWAY: &str = "krypton-gateway";

/// A service account as the controller's flag wants it.
pub(crate) fn account(namespace: &Namespace, name: &str) -> String {
    format!("{}/{name}", namespace.name())
}

/// A file with a token.
pub(crate) struct Token {
    folder: TempDir,
    text: String,
}

/// A controller that asks for tokens, and shows a certificate.
struct Place<'n> {
    namespace: &'n Namespace,
    controller: Controller,
    folder: TempDir,
}

// === impl Token ===

impl Token {
    /// One that the API server made for the account `name`, which is made if need be. Without audiences it is for the
    /// API server itself.
    pub(crate) async fn of(namespace: &Namespace, name: &str, audiences: &[&str]) -> Self {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": name, "namespace": namespace.name() },
        });
        let apply = ["apply", "--server-side", "--filename=-"];
        namespace.cluster().kubectl(&apply, &account.to_string()).await.unwrap();
        let mut create = vec!["create", "token", name, "--namespace", namespace.name()];
        create.extend(audiences.iter().flat_map(|audience| ["--audience", audience]));
        Self::new(namespace.cluster().kubectl(&create, "").await.unwrap().trim())
    }

    fn new(text: &str) -> Self {
        let token = Self { folder: TempDir::new().unwrap(), text: text.to_owned() };
        std::fs::write(token.path(), text).unwrap();
        token
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// By which a gateway finds it.
    pub(crate) fn flags(&self) -> [String; 2] {
        ["--discovery-token-file".to_owned(), self.path().to_str().unwrap().to_owned()]
    }
}

// === impl Place ===

impl<'n> Place<'n> {
    async fn start(namespace: &'n Namespace, kubeconfig: &std::path::Path) -> Self {
        let (folder, authority) = (TempDir::new().unwrap(), Authority::new().unwrap());
        authority.issue(folder.path(), &["localhost"], Validity::Now).unwrap();
        std::fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
        let args = [
            "--namespace",
            namespace.name(),
            "--lease-namespace",
            namespace.name(),
            "--discovery-cert-dir",
            folder.path().to_str().unwrap(),
            "--gateway-service-account",
            &account(namespace, GATEWAY),
        ];
        let controller = Controller::start_on_cluster(kubeconfig, &args).await.unwrap();
        Self { namespace, controller, folder }
    }

    async fn gateway(&self, token: Option<&Token>) -> Gateway {
        let discovery = format!("https://localhost:{}", self.controller.discovery.port());
        let bundle = self.folder.path().join("ca.crt");
        let mut args = vec!["--discovery-ca-file".to_owned(), bundle.to_str().unwrap().to_owned()];
        args.extend(token.into_iter().flat_map(Token::flags));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Gateway::start_on(&discovery, &args).await.unwrap()
    }

    /// Waits until the gateway's log says why it is refused; it has learned nothing then.
    async fn is_refused(&self, gateway: &Gateway, words: &str) {
        eventually(&format!("the log says: {words}"), SOON, async || {
            let log = gateway.process.log().read()?;
            ensure!(log.contains(words), "{log}");
            Ok(())
        })
        .await
        .unwrap();
        let table = table(gateway).await.unwrap();
        assert_eq!((&table["freshness"], &table["routes"]), (&json!("empty"), &json!([])));
        assert!(metric(gateway.admin, "krypton_report_connected").await.unwrap() < 1.0);
    }
}

/// A client of the API that shows this token and nothing else.
async fn client_with(cluster: &Cluster, token: &str) -> Client {
    let mut file = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
    for user in &mut file.auth_infos {
        user.auth_info = Some(AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() });
    }
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

#[tokio::test]
async fn only_a_gateways_token_opens_discovery_and_it_opens_nothing_else() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        put(namespace, agent("echo", json!({}))).await.unwrap();
        let place = Place::start(namespace, cluster.kubeconfig()).await;
        let token = Token::of(namespace, GATEWAY, &[AUDIENCE]).await;
        let gateway = place.gateway(Some(&token)).await;
        is_ready(&gateway).await;
        metric_becomes(gateway.admin, "krypton_report_connected", 1.0).await;

        let for_the_api = Token::of(namespace, GATEWAY, &[]).await;
        let of_another = Token::of(namespace, "default", &[AUDIENCE]).await;
        let garbage = Token::new("eyJhbGciOiJub25lIn0.e30.garbage");
        for (token, words) in [
            (Some(&for_the_api), "does not accept this token"),
            (Some(&of_another), "may not listen: the controller's --gateway-service-account names who may"),
            (Some(&garbage), "does not accept this token"),
            (None, "no token: start the gateway with --discovery-token-file"),
        ] {
            let gateway = place.gateway(token).await;
            place.is_refused(&gateway, words).await;
        }
        metric_becomes(place.controller.admin, "krypton_controller_gateways", 1.0).await;

        // The same token at the API server, and for comparison one that is for it.
        let ask = || Request::get("/api").body(Vec::new()).unwrap();
        client_with(&cluster, &for_the_api.text).await.request_text(ask()).await.unwrap();
        match client_with(&cluster, &token.text).await.request_text(ask()).await {
            Err(kube::Error::Api(status)) => assert_eq!(status.code, 401),
            other => panic!("the API server answers {other:?}"),
        }
        // No log shows any of it.
        for process in [&place.controller.process, &gateway.process] {
            let log = process.log().read().unwrap();
            assert!(
                [&token, &for_the_api, &of_another, &garbage].iter().all(|token| !log.contains(&token.text))
            );
        }
    });
    test.await.unwrap();
}

#[tokio::test]
async fn while_the_api_server_is_away_who_was_let_in_is_let_in_again_and_others_wait() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let proxy = ApiProxy::start(&cluster).await;
        let place = Place::start(namespace, &proxy.kubeconfig()).await;
        let known = Token::of(place.namespace, GATEWAY, &[AUDIENCE]).await;
        let unknown = Token::of(place.namespace, GATEWAY, &[AUDIENCE, "another"]).await;
        is_ready(&place.gateway(Some(&known)).await).await;

        proxy.behave(Behaviour::Away);
        is_ready(&place.gateway(Some(&known)).await).await;
        let waiting = place.gateway(Some(&unknown)).await;
        place.is_refused(&waiting, "Unavailable: the API server cannot be asked").await;
        proxy.behave(Behaviour::Healthy);
        is_ready(&waiting).await;
    });
    test.await.unwrap();
}
