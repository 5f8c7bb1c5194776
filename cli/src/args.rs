//! The command line, parsed once into valid values.

mod examples;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::url::Url;
pub use values::{Header, Resolve};
use values::{HeaderParser, agent, shell, silence};

/// Looks after an installation of Krypton: what its gateways hold, what the ingress in front of them does, and what
/// the Go system left behind.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "kubectl-krypton",
    bin_name = "kubectl krypton",
    version,
    max_term_width = 110,
    disable_help_subcommand = true,
    after_help = examples::PROGRAM
)]
pub struct Cli {
    /// Where Krypton is.
    #[command(flatten)]
    pub global: Global,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// How to reach the cluster [default: the file that KUBECONFIG names, else ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,

    /// Namespace of the Agents [default: routes, doctor, migrate: all of them; call: that of the context]
    #[arg(long, short, global = true, value_name = "NAME")]
    pub namespace: Option<String>,

    /// Namespace that Krypton is installed in
    #[arg(
        long,
        global = true,
        env = "KRYPTON_SYSTEM_NAMESPACE",
        value_name = "NAME",
        default_value = "krypton-system"
    )]
    pub system_namespace: String,

    /// Name of the Helm release
    #[arg(long, global = true, env = "KRYPTON_RELEASE", value_name = "NAME", default_value = "krypton")]
    pub release: String,
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show what every gateway holds, and where they differ
    #[command(after_help = examples::EXIT_STATUS)]
    Routes(RoutesArgs),
    /// Call an agent and print its answer as it comes
    #[command(after_help = examples::CALL)]
    Call(CallArgs),
    /// Find out whether the installation is healthy, and what the ingress in front of it does
    #[command(after_help = examples::DOCTOR)]
    Doctor(DoctorArgs),
    /// Clean up what the Go system stored: defaults nobody wrote, finalizers, an unowned definition
    #[command(after_help = examples::MIGRATE)]
    Migrate(MigrateArgs),
    /// Print the completion script of a shell
    #[command(after_help = examples::COMPLETION)]
    Completion(CompletionArgs),
    /// Complete words for kubectl: what kubectl_complete-krypton calls
    #[command(hide = true)]
    CompleteWords(CompleteWordsArgs),
}

/// The form of what is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// `routes`
#[derive(Debug, Clone, Args)]
pub struct RoutesArgs {
    /// The form of the answer
    #[arg(long, short, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,

    /// Name each endpoint with its calls in flight and its standing streams
    #[arg(long)]
    pub endpoints: bool,
}

/// `call`
#[derive(Debug, Clone, Args)]
pub struct CallArgs {
    /// The agent and, behind it, the path and query at the agent: NAMESPACE/NAME/PATH, or NAME/PATH with -n; also
    /// /v1/agents/NAMESPACE/NAME/PATH as the gateway has it. It is sent as it is written, and nothing in it encoded
    #[arg(value_name = "AGENT", value_parser = agent)]
    pub agent: String,

    /// Call through this public URL instead of through the API server
    #[arg(long, env = "KRYPTON_URL", value_name = "URL")]
    pub url: Option<Url>,

    /// Body of the request; @FILE reads a file, @- standard input. Makes it a POST of JSON unless -X or -H say otherwise
    #[arg(long, short, value_name = "DATA")]
    pub data: Option<String>,

    /// A header, NAME: VALUE; may be given several times
    #[arg(long = "header", short = 'H', value_name = "HEADER", value_parser = HeaderParser)]
    pub headers: Vec<Header>,

    /// Method [default: GET, or POST with -d]
    #[arg(long = "request", short = 'X', value_name = "METHOD")]
    pub method: Option<::http::Method>,

    /// Print event streams as they are on the wire, not only their data
    #[arg(long)]
    pub raw: bool,

    /// How connections to --url are made.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// How a public URL is connected to.
#[derive(Debug, Clone, Default, Args)]
pub struct ConnectArgs {
    /// Believe the certificates in this PEM file too
    #[arg(long, env = "KRYPTON_CACERT", value_name = "FILE")]
    pub cacert: Option<PathBuf>,

    /// Believe any certificate
    #[arg(long)]
    pub insecure: bool,

    /// Connect to ADDR instead of to what DNS says for HOST:PORT; may be given several times
    #[arg(long, value_name = "HOST:PORT:ADDR")]
    pub resolve: Vec<Resolve>,
}

/// What stands in front of the gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Class {
    /// kubernetes/ingress-nginx.
    IngressNginx,
    /// NGINX Ingress Controller of F5.
    Nginx,
    /// HAProxy Kubernetes Ingress Controller.
    Haproxy,
    /// Traefik.
    Traefik,
    /// Contour.
    Contour,
    /// Envoy Gateway.
    EnvoyGateway,
}

/// `doctor`
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Public URL that leads to the gateways: see what is done to streams, silence and uploads on the way
    #[arg(long, env = "KRYPTON_URL", value_name = "URL")]
    pub url: Option<Url>,

    /// A header for every request to --url, NAME: VALUE; may be given several times. Its value is never shown
    #[arg(long = "header", short = 'H', requires = "url", value_name = "HEADER", value_parser = HeaderParser)]
    pub headers: Vec<Header>,

    /// Look at --url only
    #[arg(long, requires = "url")]
    pub no_cluster: bool,

    /// What the ingress is, for the settings to change [default: guessed from the cluster and the answers]
    #[arg(long, value_enum, value_name = "CLASS")]
    pub class: Option<Class>,

    /// How long the silent probe is silent: a cut is seen only if it comes before. The default sees 60 s
    #[arg(long, value_name = "DURATION", default_value = "65s", value_parser = silence)]
    pub silence: Duration,

    /// Leave out the silence, and upload 2 MiB instead of 8
    #[arg(long, conflicts_with = "silence")]
    pub quick: bool,

    /// The form of the answer
    #[arg(long, short, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,

    /// How connections to --url are made.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// `migrate`
#[derive(Debug, Clone, Args)]
pub struct MigrateArgs {
    /// Write. Without it, what would be written is only shown
    #[arg(long, conflicts_with = "ask")]
    pub yes: bool,

    /// Show it, ask on the terminal, then write
    #[arg(long)]
    pub ask: bool,

    /// Only these parts; may be given several times, or as a list with commas
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<Part>,

    /// Also drop defaults of Agents of which nothing tells what was applied (made by kubectl create, or by Helm 3)
    #[arg(long)]
    pub unrecorded: bool,
}

/// The parts of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Part {
    /// The definition of Agents: Helm may take it as the release's.
    Crd,
    /// Defaults that the API server stored and nobody wrote.
    Defaults,
    /// Finalizers that nobody takes away any more, of Agents and Models.
    Finalizers,
}

/// `completion`
#[derive(Debug, Clone, Args)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_parser = shell)]
    pub shell: Shell,
}

/// What kubectl passes: the words typed so far, the last of them being completed.
#[derive(Debug, Clone, Args)]
pub struct CompleteWordsArgs {
    /// The words behind `kubectl krypton`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

// === impl MigrateArgs ===

impl MigrateArgs {
    /// Whether `part` is asked for.
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

#[cfg(test)]
mod tests;
