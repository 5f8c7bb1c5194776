use std::net::IpAddr;

use clap::CommandFactory as _;

use super::*;

fn parse(args: &[&str]) -> Result<Cli, String> {
    let args = std::iter::once("kubectl-krypton").chain(args.iter().copied());
    Cli::try_parse_from(args).map_err(|error| error.to_string())
}

#[test]
fn the_command_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn what_is_global_may_stand_behind_the_command() {
    let cli = parse(&["routes", "-n", "team-a", "--system-namespace", "elsewhere"]).unwrap();
    assert_eq!(cli.global.namespace.as_deref(), Some("team-a"));
    assert_eq!(cli.global.system_namespace, "elsewhere");
    assert_eq!(cli.global.release, "krypton");
}

#[test]
fn a_header_is_a_name_and_a_value() {
    let cli = parse(&["call", "a/b", "-H", "X-One:  1 ", "-X", "PUT", "-d", "{}"]).unwrap();
    let Command::Call(call) = cli.command else { unreachable!("it is a call") };
    assert_eq!(call.headers[0].0, "x-one");
    assert_eq!(call.headers[0].1, "1");
    assert_eq!(call.method, Some(::http::Method::PUT));
}

#[test]
fn what_a_header_says_is_never_shown() {
    let doctor = ["doctor", "--url", "https://a", "-H"];
    let cli = parse(&[&doctor[..], &["authorization: Bearer hush"]].concat()).unwrap();
    assert!(!format!("{cli:?}").contains("hush"));
    for wrong in ["authorization Bearer hush", "authori zation: hush", "authorization: hush\u{1}"] {
        let error = parse(&[&doctor[..], &[wrong]].concat()).unwrap_err();
        assert!(error.contains("--header ") && !error.contains("hush"), "{error}");
    }
    assert!(parse(&["doctor", "-H", "a: b"]).unwrap_err().contains("--url"));
}

#[test]
fn an_address_is_given_as_curl_takes_it() {
    let resolve: Resolve = "Agents.example.com:443:10.0.0.7".parse().unwrap();
    assert_eq!(
        resolve,
        Resolve { host: "agents.example.com".into(), port: 443, address: "10.0.0.7".parse().unwrap() }
    );
    let resolve: Resolve = "a:80:[::1]".parse().unwrap();
    assert_eq!(resolve.address, "::1".parse::<IpAddr>().unwrap());
    for wrong in ["", "a", "a:1", "a:x:1.2.3.4", ":1:1.2.3.4", "a:1:b", "a:99999:1.2.3.4"] {
        assert!(wrong.parse::<Resolve>().is_err(), "{wrong}");
    }
}

#[test]
fn a_duration_is_written_as_in_the_chart() {
    let cli = parse(&["doctor", "--silence", "5m30s"]).unwrap();
    let Command::Doctor(doctor) = cli.command else { unreachable!("it is a doctor") };
    assert_eq!(doctor.silence, Duration::from_secs(330));
}

#[test]
fn a_path_of_an_agent_may_hold_a_url() {
    for agent in ["team-a/travel/fetch?url=https://b.example.com/c", "travel?to=https://b", "a/b/https://c"] {
        let cli = parse(&["call", agent]).unwrap();
        let Command::Call(call) = cli.command else { unreachable!("it is a call") };
        assert_eq!(call.agent, agent);
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_a_sentence() {
    for (args, sentence) in [
        (&["doctor", "--no-cluster"][..], "--url"),
        (&["doctor", "--url", "ftp://a"], "http"),
        (&["doctor", "--url", "a.example.com"], "http"),
        (&["doctor", "--silence", "0s"], "above 0"),
        (&["doctor", "--silence", "16m"], "15m"),
        (&["doctor", "--silence", "long"], "expected a duration such as 65s or 5m30s"),
        (&["doctor", "--class", "apache"], "possible values"),
        (&["call"], "AGENT"),
        (&["call", "team-a/travel agent"], "expected NAMESPACE/NAME/PATH, where ' ' cannot stand"),
        (&["call", "team-a/travel/ask?city=New York"], "written %20"),
        (&["call", "team-a/travel/ask?x=#"], "'#' cannot stand; in the path or query it is written %23"),
        (&["call", "team-a/travel/\u{f8}l"], "written %C3%B8"),
        (&["call", "https://a/v1/agents/team-a/travel?x"], "write --url https://a team-a/travel?x"),
        (&["call", "https://a/base/v1/agents/team-a/travel"], "write --url https://a/base team-a/travel"),
        (&["call", "team-a/travel/ask?x=\"y\""], "written %22"),
        (&["call", "https://a"], "write --url https://a NAMESPACE/NAME/PATH"),
        (&["call", "a/b", "-H", "x"], "NAME: VALUE"),
        (&["migrate", "--yes", "--ask"], "cannot be used with"),
        (&["migrate", "--only", "pods"], "possible values"),
        (&["completion", "tcsh"], "bash, zsh or fish"),
        (&[], "Usage"),
    ] {
        let error = parse(args).unwrap_err();
        assert!(error.contains(sentence), "{args:?}: {error}");
    }
}
