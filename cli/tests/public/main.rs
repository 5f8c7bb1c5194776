//! `doctor` and `call` through a public URL, against small fronts that hold back, cut, limit and mislead, each with the
//! gateway's probe behind it.
//!
//! `cfg(test)` always holds here; it tells clippy that helpers of tests are tests too.

#![cfg(test)]

mod calls;
mod front;
mod https;

mod verdicts {
    use std::process::Stdio;
    use std::time::Duration;

    use serde_json::Value;
    use tokio::process::Command;

    use crate::front::{Front, Manners};

    /// Runs the program to its end, without any cluster; its exit status and its findings by name.
    async fn doctor(front: &Front, more: &[&str]) -> (i32, Vec<(String, Value)>) {
        let url = format!("http://{}", front.address);
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-krypton"))
            .args(["doctor", "--no-cluster", "-o", "json", "--url", &url])
            .args(more)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_mins(1), output).await.unwrap().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        let findings = answer["findings"].as_array().unwrap().iter();
        let named = findings.map(|one| (one["name"].as_str().unwrap().to_owned(), one.clone()));
        (output.status.code().unwrap(), named.collect())
    }

    fn names(findings: &[(String, Value)]) -> Vec<&str> {
        findings.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Nothing is wrong but a cut, after the first of these times, or the second on a machine that is busy.
    fn only_cut(findings: &[(String, Value)], cuts: [&str; 2]) {
        let names = names(findings);
        assert!(cuts.iter().any(|cut| names == ["Streaming", *cut, "BodyPasses"]), "{names:?}");
    }

    #[tokio::test]
    async fn a_front_that_passes_everything_on_is_good() {
        let front = Front::start(Manners::default()).await;
        let (status, findings) = doctor(&front, &["--silence", "3s"]).await;
        assert_eq!((status, names(&findings)), (0, vec!["Streaming", "NotCut", "BodyPasses"]));
    }

    #[tokio::test]
    async fn a_front_that_holds_back_is_found_with_the_setting_of_its_class() {
        let front = Front::start(Manners { buffers: true, server: "nginx", ..Manners::default() }).await;
        let (status, findings) = doctor(&front, &["--quick"]).await;
        assert_eq!((status, names(&findings)), (1, vec!["Buffered", "BodyPasses"]));
        let todo = findings[0].1["todo"].as_array().unwrap();
        assert_eq!(todo.len(), 2, "both that are called nginx: {todo:?}");
        assert!(todo[0].as_str().unwrap().contains("nginx.ingress.kubernetes.io/proxy-buffering: \"off\""));
        let (_, findings) = doctor(&front, &["--quick", "--class", "nginx"]).await;
        assert_eq!(findings[0].1["todo"].as_array().unwrap().len(), 1);
    }

    /// What asks for `X-Accel-Buffering: no` to be heeded must not hide that all else is held back.
    #[tokio::test]
    async fn a_front_that_holds_back_all_but_events_is_found() {
        let front = Front::start(Manners { buffers_lines: true, ..Manners::default() }).await;
        let (status, findings) = doctor(&front, &["--quick"]).await;
        assert_eq!((status, names(&findings)), (1, vec!["Buffered", "BodyPasses"]));
        let message = findings[0].1["message"].as_str().unwrap();
        assert!(
            message.starts_with("streams of JSON lines (NDJSON) are, event streams (SSE) are not"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn credentials_for_what_is_in_front_go_with_every_request_and_are_never_shown() {
        let front = Front::start(Manners { wants: Some("Bearer hush"), ..Manners::default() }).await;
        let (status, findings) = doctor(&front, &["--quick"]).await;
        assert_eq!((status, names(&findings)), (1, vec!["NotRouted"]));
        assert!(findings[0].1["message"].as_str().unwrap().contains("give some by -H"));
        let (status, findings) =
            doctor(&front, &["--silence", "1s", "-H", "authorization: Bearer hush"]).await;
        assert_eq!((status, names(&findings)), (0, vec!["Streaming", "NotCut", "BodyPasses"]));
        let (_, findings) = doctor(&front, &["--quick", "-H", "authorization: Bearer wrong"]).await;
        assert_eq!(names(&findings), ["NotRouted"]);
        assert!(!findings[0].1.to_string().contains("wrong"));
    }

    #[tokio::test]
    async fn a_front_that_cuts_silence_is_found_with_the_time() {
        let silence = Some(Duration::from_secs(4));
        let front = Front::start(Manners { cuts_silence: silence, ..Manners::default() }).await;
        let (status, findings) = doctor(&front, &["--silence", "8s"]).await;
        assert_eq!(status, 1);
        only_cut(&findings, ["CutAfter4s", "CutAfter5s"]);
        assert!(findings[1].1["message"].as_str().unwrap().contains("without a byte"));
        assert_eq!(findings[1].1["todo"].as_array().unwrap().len(), 6, "all classes, as none is known");
    }

    #[tokio::test]
    async fn a_front_that_cuts_every_call_is_told_apart() {
        let total = Some(Duration::from_secs(5));
        let front = Front::start(Manners { cuts_calls: total, ..Manners::default() }).await;
        let (status, findings) = doctor(&front, &["--silence", "9s"]).await;
        assert_eq!(status, 1);
        only_cut(&findings, ["CutAfter5s", "CutAfter6s"]);
        assert!(findings[1].1["message"].as_str().unwrap().contains("also while it is busy"));
    }

    /// Both streams of the first look, or of the second, and never again.
    #[tokio::test]
    async fn a_gateway_that_goes_away_under_a_call_is_no_front_that_cuts() {
        for (ends, told) in [
            (0..2, vec!["EndedOnce", "Streaming", "NotCut", "BodyPasses"]),
            (2..4, vec!["Streaming", "EndedOnce", "NotCut", "BodyPasses"]),
        ] {
            let front = Front::start(Manners { ends: ends.clone(), ..Manners::default() }).await;
            let (status, findings) = doctor(&front, &["--silence", "2s"]).await;
            assert_eq!((status, names(&findings)), (0, told), "{ends:?}");
        }
    }

    #[tokio::test]
    async fn a_front_that_refuses_large_bodies_is_found_with_the_limit() {
        let front = Front::start(Manners { body_limit: Some(1024 * 1024), ..Manners::default() }).await;
        let (status, findings) = doctor(&front, &["--quick"]).await;
        assert_eq!((status, names(&findings)), (1, vec!["Streaming", "BodyLimit1MiB"]));
    }

    /// The URL leads to some other program that streams, or what is in front is stuck.
    #[tokio::test]
    async fn an_answer_of_somebody_else_that_never_ends_is_not_waited_for() {
        let begins = Some((200, "data: 1\n\n"));
        let front = Front::start(Manners { begins, ..Manners::default() }).await;
        let (status, findings) = doctor(&front, &[]).await;
        assert_eq!((status, names(&findings)), (1, vec!["NotRouted"]));
        assert!(findings[0].1["message"].as_str().unwrap().contains("something answers 200"));
    }

    #[tokio::test]
    async fn what_does_not_lead_to_a_gateway_is_told_with_a_sentence() {
        for (answer, sentence) in [
            ((404, ""), "nothing routes /v1/agents"),
            ((302, ""), "redirected to https://elsewhere.example.com/"),
            ((401, ""), "asks for credentials"),
            ((503, "<html>"), "has no gateway to call"),
            ((504, "<html>"), "has no gateway to call"),
            ((200, "<html>"), "something answers 200"),
        ] {
            let front = Front::start(Manners { answers: Some(answer), ..Manners::default() }).await;
            let (status, findings) = doctor(&front, &[]).await;
            assert_eq!((status, names(&findings)), (1, vec!["NotRouted"]), "{answer:?}");
            let message = findings[0].1["message"].as_str().unwrap();
            assert!(message.contains(sentence), "{answer:?}: {message}");
        }
    }

    #[tokio::test]
    async fn gateways_without_a_probe_are_told_apart() {
        let error = |code| match code {
            "probe_disabled" => (404, r#"{"error":"off","code":"probe_disabled","requestId":"1"}"#),
            _ => (400, r#"{"error":"no","code":"bad_path","requestId":"1"}"#),
        };
        for (code, name) in [("probe_disabled", "ProbeDisabled"), ("bad_path", "ProbeUnavailable")] {
            let front = Front::start(Manners { answers: Some(error(code)), ..Manners::default() }).await;
            let (status, findings) = doctor(&front, &[]).await;
            assert_eq!((status, names(&findings)), (1, vec![name]));
        }
    }

    #[tokio::test]
    async fn a_port_where_nothing_listens_is_not_routed() {
        let mut front = Front::start(Manners::default()).await;
        front.stop().await;
        let (status, findings) = doctor(&front, &[]).await;
        assert_eq!((status, names(&findings)), (1, vec!["NotRouted"]));
        assert!(findings[0].1["message"].as_str().unwrap().contains("cannot connect to"));
    }

    /// A name that DNS does not know is connected to where `--resolve` says.
    #[tokio::test]
    async fn an_address_may_be_given() {
        let front = Front::start(Manners::default()).await;
        let port = front.address.port();
        let url = format!("http://agents.example.invalid:{port}");
        let resolve = format!("agents.example.invalid:{port}:{}", front.address.ip());
        let status = Command::new(env!("CARGO_BIN_EXE_kubectl-krypton"))
            .args(["doctor", "--no-cluster", "--quick", "--url", &url, "--resolve", &resolve])
            .stdout(Stdio::null())
            .status();
        assert_eq!(status.await.unwrap().code(), Some(0));
    }
}
