//! `doctor`: is the installation healthy, and what does the ingress in front of it do.
//!
//! 1. [`gather`] reads the cluster; what cannot be read is a note and no end.
//! 2. [`checks`] judge what was read.
//! 3. [`probe`] asks the gateway's probe through the public URL, [`verdict`] judges what arrived when, and [`class`]
//!    knows which setting changes it.
//!
//! It changes nothing, anywhere.

mod checks;
mod class;
mod gather;
mod probe;
pub(crate) mod refusal;
mod verdict;

pub(crate) use checks::flags;

use std::collections::BTreeSet;
use std::io::Write as _;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::args::{Class, DoctorArgs, Global, Output};
use crate::cluster::Cluster;
use crate::findings::{self, Finding, Level};
use crate::http::Way;
use crate::progress;
use verdict::{Limit, Verdict};

/// Runs the command. `false`: something is to be done.
pub(crate) async fn run(global: &Global, args: &DoctorArgs) -> Result<bool> {
    let mut findings = Vec::new();
    let mut classes = BTreeSet::new();
    let mut by_the_chart = false;
    if !args.no_cluster {
        match Cluster::connect(global).await {
            Ok(cluster) => {
                let gathered =
                    progress::during("reading the cluster", None, gather::gather(&cluster, global)).await?;
                classes = checks::front::classes(&gathered);
                by_the_chart = checks::front::has_read_timeout_of_the_chart(&gathered);
                findings.extend(checks::all(&gathered));
            }
            Err(error) if args.url.is_some() => findings.push(Finding::new(
                Level::Note,
                "NoCluster",
                "The cluster",
                format!("is not looked at: {error:#}"),
            )),
            Err(error) => return Err(error),
        }
    }
    if let Some(url) = &args.url {
        let way = Way::new(url.clone(), &args.connect)?.with_headers(&args.headers);
        let looked = probe::look(&way, args).await;
        let classes = narrowed(args.class, &classes, &looked.classes);
        let url = url.to_string();
        findings.extend(looked.verdicts.iter().map(|verdict| finding(verdict, &url, &classes, by_the_chart)));
    }
    let good = !findings::any_to_do(&findings);
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Text => {
            write!(out, "{}", findings::text(&findings))?;
            writeln!(out, "{}", if good { "All is well." } else { "Something is to be done." })?;
        }
        Output::Json => {
            let answer = json!({ "good": good, "findings": findings });
            writeln!(out, "{}", serde_json::to_string_pretty(&answer).context("findings are JSON")?)?;
        }
    }
    if findings.is_empty() {
        bail!("nothing was looked at");
    }
    Ok(good)
}

/// What stands in front: as told, else what both the cluster and the answers speak for, else what one of them does.
fn narrowed(told: Option<Class>, cluster: &BTreeSet<Class>, answers: &BTreeSet<Class>) -> BTreeSet<Class> {
    if let Some(class) = told {
        return BTreeSet::from([class]);
    }
    let both: BTreeSet<Class> = cluster.intersection(answers).copied().collect();
    [&both, cluster, answers].into_iter().find(|classes| !classes.is_empty()).cloned().unwrap_or_default()
}

/// `by_the_chart`: the read timeout of what is in front is one of the chart's values.
fn finding(verdict: &Verdict, url: &str, classes: &BTreeSet<Class>, by_the_chart: bool) -> Finding {
    let level = match verdict {
        Verdict::Streaming | Verdict::NotCut { .. } | Verdict::BodyPasses { .. } => Level::Good,
        Verdict::EndedOnce { .. } => Level::Note,
        Verdict::BodyLimit { .. }
        | Verdict::Unsteady { .. }
        | Verdict::ProbeDisabled
        | Verdict::ProbeUnavailable { .. } => Level::Warning,
        Verdict::Buffered { .. } | Verdict::Cut { .. } | Verdict::NotRouted { .. } => Level::Problem,
    };
    let mut finding = Finding::new(level, verdict.to_string(), url, verdict.sentence());
    if let Verdict::Unsteady { .. } = verdict {
        finding = finding.todo("look again when no rollout and no change of the ingress is under way");
    }
    if let (Verdict::Cut { limit: Limit::Silence, .. }, true) = (verdict, by_the_chart) {
        finding = finding.todo(
            "the chart renders the Ingress: set ingress.readTimeout in its values above the timeout of the slowest \
             Agent, with ingress.class; by hand it would be:",
        );
    }
    for line in class::settings(verdict, classes) {
        finding = finding.todo(line);
    }
    finding
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_class_that_both_speak_for_is_the_one() {
        let all = |classes: &[Class]| classes.iter().copied().collect::<BTreeSet<_>>();
        let (nginx, f5, contour) = (Class::IngressNginx, Class::Nginx, Class::Contour);
        assert_eq!(narrowed(Some(contour), &all(&[nginx]), &all(&[nginx])), all(&[contour]));
        assert_eq!(narrowed(None, &all(&[f5]), &all(&[nginx, f5])), all(&[f5]));
        assert_eq!(narrowed(None, &all(&[f5]), &all(&[contour])), all(&[f5]));
        assert_eq!(narrowed(None, &all(&[]), &all(&[contour])), all(&[contour]));
        assert_eq!(narrowed(None, &all(&[]), &all(&[])), all(&[]));
    }

    #[test]
    fn a_bad_verdict_comes_with_what_to_change() {
        let verdict = Verdict::BodyLimit { bytes: 1024 * 1024 };
        let finding = finding(&verdict, "https://a", &BTreeSet::from([Class::IngressNginx]), false);
        assert_eq!((finding.level, finding.name.as_str()), (Level::Warning, "BodyLimit1MiB"));
        assert!(finding.todo[0].contains("nginx.ingress.kubernetes.io/proxy-body-size"));
    }

    #[test]
    fn of_a_cut_by_the_charts_ingress_the_charts_value_is_named_first() {
        let cut = Verdict::Cut { after: Duration::from_mins(1), limit: Limit::Silence };
        let finding =
            |by_the_chart| finding(&cut, "https://a", &BTreeSet::from([Class::Nginx]), by_the_chart).todo;
        assert!(finding(true)[0].contains("ingress.readTimeout"));
        assert_eq!(finding(true)[1..], finding(false));
    }
}
