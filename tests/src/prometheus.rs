//! A real Prometheus that scrapes programs of a test.
//!
//! Owns: the process with its configuration and its storage in a folder that goes with it, and questions to it. Never
//! reaches beyond loopback, and never meets a Prometheus that somebody else runs: it takes a port of its own.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::get;
use crate::process::{Program, Running};
use crate::state::RunDir;

/// It is up in half a second; this is for a machine that is busy with other tests.
const START_DEADLINE: Duration = Duration::from_secs(30);

const PROGRAM: &str = "prometheus";

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    _process: Running,
    http: SocketAddr,
    _folder: TempDir,
}

/// What it scrapes, every second.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The value of the label `job`.
    pub job: &'a str,
    /// Where `/metrics` is.
    pub address: SocketAddr,
}

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its labels, a JSON object.
    pub labels: Value,
    /// Its value.
    pub value: f64,
}

// === impl Prometheus ===

impl Prometheus {
    /// Whether this machine has one.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn can_start() -> Result<()> {
        let version =
            Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        ensure!(
            version.is_ok_and(|status| status.success()),
            "{PROGRAM} is not there: install the package of that name"
        );
        Ok(())
    }

    /// Starts one that scrapes `targets` as the chart's `ServiceMonitor` has it: labels of the metrics win over those
    /// of the target, which bears the namespace of the programs.
    ///
    /// # Errors
    /// When it does not come to listen; with the end of its log.
    pub async fn start(targets: &[Target<'_>]) -> Result<Self> {
        let folder = TempDir::new()?;
        let config = folder.path().join("prometheus.yaml");
        // JSON is YAML.
        fs::write(&config, scrape_config(targets).to_string())?;
        let program = Program::new(PROGRAM, PROGRAM)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--log.format=logfmt"]);
        let mut process = program.start(RunDir::of_this_process()?)?;
        let log = process.log();
        let http = process
            .until("it tells its address", START_DEADLINE, async || {
                listening(&log.read()?).context("no such line")
            })
            .await?;
        process
            .until("it is ready", START_DEADLINE, async || {
                let answer = get(http, "/-/ready").await?;
                ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
                Ok(())
            })
            .await?;
        Ok(Self { _process: process, http, _folder: folder })
    }

    /// The series that `expression` has now.
    ///
    /// # Errors
    /// When the expression is not valid; with what Prometheus says.
    pub async fn query(&self, expression: &str) -> Result<Vec<Sample>> {
        let target = format!("/api/v1/query?query={}", percent_encoded(expression));
        let answer = get(self.http, &target).await?;
        let answer = answer.json();
        ensure!(answer["status"] == "success", "{}", answer["error"]);
        let found = answer["data"]["result"].as_array().context("no result")?;
        found.iter().map(sample).collect()
    }
}

fn scrape_config(targets: &[Target<'_>]) -> Value {
    let scrapes = targets.iter().map(|target| {
        json!({
            "job_name": target.job,
            "honor_labels": true,
            "static_configs": [{
                "targets": [target.address.to_string()],
                "labels": { "namespace": "krypton-system", "pod": format!("{}-0", target.job) },
            }],
        })
    });
    json!({
        "global": { "scrape_interval": "1s", "scrape_timeout": "1s" },
        "scrape_configs": scrapes.collect::<Vec<_>>(),
    })
}

/// The address in its line `msg="Listening on" address=…`.
fn listening(log: &str) -> Option<SocketAddr> {
    // A line without its end may be half written: the address may go on.
    let whole = &log[..log.rfind('\n').map_or(0, |end| end + 1)];
    let line = whole.lines().find(|line| line.contains("msg=\"Listening on\""))?;
    line.split_once("address=")?.1.trim_end().parse().ok()
}

fn sample(found: &Value) -> Result<Sample> {
    let value = found["value"][1].as_str().context("no value")?;
    Ok(Sample { labels: found["metric"].clone(), value: value.parse()? })
}

/// Every byte: no need to know which ones a query may have.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").expect("a String takes everything");
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_address_that_it_took_and_not_the_one_that_it_was_given() {
        let log = "ts=1 level=info msg=\"Start listening for connections\" address=127.0.0.1:0\n\
                   ts=2 level=info msg=\"Listening on\" address=127.0.0.1:35719\n";
        assert_eq!(listening(log), Some("127.0.0.1:35719".parse().unwrap()));
        assert_eq!(listening(log.trim_end()), None);
    }

    #[test]
    fn a_query_becomes_one_value_of_a_target() {
        assert_eq!(percent_encoded("a b"), "%61%20%62");
    }
}
