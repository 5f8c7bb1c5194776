//! What a file says, and what is said of a file that says nothing good.

use super::*;

const AGENT: &str = "apiVersion: krypton.ai/v1alpha1\nkind: Agent\nmetadata: {name: a}\nspec: {image: i}\n";

fn yaml(text: &str) -> Parsed {
    parse(text.as_bytes(), false, &EndpointPolicy::default())
}

fn names(parsed: &Parsed) -> Vec<String> {
    let ids = parsed.objects.iter().map(|(_, object)| object.id());
    ids.map(|(kind, id)| format!("{kind} {id}")).collect()
}

/// The one problem of a file, as `document:line:column reason`.
fn problem(parsed: &Parsed) -> String {
    let [Problem { position, reason }] = parsed.problems.as_slice() else {
        panic!("not one problem: {:?}", parsed.problems);
    };
    let n = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    let document = position.document.map(|n| n.to_string()).unwrap_or_default();
    format!("{document}:{}:{} {reason}", n(position.line), n(position.column))
}

#[test]
fn documents_and_lists_hold_objects() {
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nendpoints: []\n\
        metadata:\n  namespace: ns\n  name: a-1\n  labels:\n    krypton.ai/agent: a\n    \
        kubernetes.io/service-name: a\n";
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {krypton.ai/agent: a}}\n";
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: krypton.ai/v1alpha1, kind: Agent, \
        metadata: {name: b, namespace: ns}, spec: {image: i}}\n";
    let typed = "apiVersion: krypton.ai/v1alpha1\nkind: AgentList\nitems:\n- {metadata: {name: c}, \
        spec: {image: i}}\n- {metadata: {name: d}, spec: {image: i}}\n";
    let text =
        format!("# a comment\n---\n{AGENT}---\n{slice}---\n{service}---\n---\n{list}---\n{typed}...\n");
    let parsed = yaml(&text);
    assert_eq!(parsed.problems, []);
    assert_eq!(
        names(&parsed),
        [
            "Agent default/a",
            "EndpointSlice ns/a-1",
            "Service default/a",
            "Agent ns/b",
            "Agent default/c",
            "Agent default/d",
        ]
    );
}

#[test]
fn json_is_read_as_json() {
    let text = "{\n\t\"apiVersion\": \"krypton.ai/v1alpha1\", \"kind\": \"Agent\",\n\
        \t\"metadata\": {\"name\": \"a\"}, \"spec\": {\"image\": \"i\"}\n}\n";
    let parsed = parse(text.as_bytes(), true, &EndpointPolicy::default());
    assert_eq!(names(&parsed), ["Agent default/a"]);
    let broken = parse(b"{\n \"kind\": }", true, &EndpointPolicy::default());
    assert!(broken.broken);
    assert_eq!(problem(&broken), "1:2:10 expected value at line 2 column 10");
}

#[test]
fn other_kinds_are_left_alone() {
    let parsed = yaml(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: ns}}\n---\n{AGENT}---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\n"
    ));
    assert_eq!(parsed.problems, []);
    assert_eq!(names(&parsed), ["Agent default/a"]);
    assert_eq!(parsed.ignored, ["Namespace ns", "Service web (not of an Agent)"]);
}

#[test]
fn a_bad_object_is_named_by_document_and_field_and_spares_the_others() {
    for (bad, expected) in [
        ("protocol: smoke", "spec.protocol: unknown variant `smoke`"),
        ("port: -1", "spec.port: "),
        ("port: 99999999999999999999", "spec.port: "),
        ("port: [80]", "spec.port: "),
        ("concurrency: -8", "spec.concurrency: "),
        ("timeout: 5 parsecs", "spec.timeout: "),
        ("timeout: 99999999999999999999h", "spec.timeout: "),
        ("invocationPath: '/a<b'", "spec.invocationPath: "),
        ("invocationPath: no/slash", "spec.invocationPath: "),
    ] {
        let parsed = yaml(&format!(
            "{AGENT}---\napiVersion: krypton.ai/v1alpha1\nkind: Agent\nmetadata: {{name: b}}\n\
             spec:\n  image: i\n  {bad}\n"
        ));
        assert_eq!(names(&parsed), ["Agent default/a"], "{bad}");
        assert!(!parsed.broken, "{bad}");
        let expected = format!("2:6:1 Agent b: {expected}");
        assert!(problem(&parsed).starts_with(&expected), "{bad}: {}", problem(&parsed));
    }
}

#[test]
fn what_is_no_object_is_named() {
    for (text, expected) in [
        ("- 1\n- 2\n", "1:1:1 not an object with apiVersion, kind and metadata"),
        ("metadata: {name: a}\n", "1:1:1 kind: missing"),
        ("kind: Agent\n", "1:1:1 apiVersion: missing"),
        ("kind: Agent\napiVersion: krypton.ai/v1alpha1\n", "1:1:1 metadata: missing"),
        (
            "kind: Agent\napiVersion: krypton.ai/v1alpha1\nmetadata: {}\n",
            "1:1:1 Agent : metadata.name: missing",
        ),
        (
            "kind: Agent\napiVersion: krypton.ai/v9\nmetadata: {name: a}\n",
            "1:1:1 Agent a: not an Agent of krypton.ai/v1alpha1 but \"Agent\" of \"krypton.ai/v9\"",
        ),
        (
            "kind: Agent\napiVersion: krypton.ai/v1alpha1\nmetadata: {name: a.b}\nspec: {image: i}\n",
            "1:1:1 Agent a.b: metadata.name \"a.b\" cannot name a Service: it must start with a letter, end with a \
             letter or digit and have only a-z, 0-9 and '-' between",
        ),
        ("apiVersion: v1\nkind: List\nitems: [{kind: Agent}]\n", "1:1:1 items[0].apiVersion: missing"),
    ] {
        assert_eq!(problem(&yaml(text)), expected);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_broken_as_a_whole() {
    for (bytes, expected) in [
        (&b""[..], "the file is empty"),
        (b"kind: [a", "unclosed bracket"),
        (b"a: 1\nb:\t- 2\n\t- 3", ""),
        (b"a: 1\na: 2\n", "duplicate"),
        (b"\x7fELF\x02\x01\x01\0\0", "the file is not text: byte 0 is 0x7f"),
        (b"kind: Agent\0", "the file is not text: byte 11 is 0x00"),
        (b"kind: \xff\xfe", "the file is not text: byte 6 is 0xff"),
    ] {
        let parsed = parse(bytes, false, &EndpointPolicy::default());
        let text = String::from_utf8_lossy(bytes);
        assert!(parsed.broken, "{text}");
        assert!(problem(&parsed).contains(expected), "{text}: {}", problem(&parsed));
    }
    let infinite = yaml(&AGENT.replace("image: i", "image: i, port: 1e400"));
    assert!(infinite.broken && problem(&infinite).starts_with("1:4:"), "{}", problem(&infinite));
    let good_then_broken = yaml(&format!("{AGENT}---\nkind: [a"));
    assert!(good_then_broken.broken && good_then_broken.objects.is_empty());
    assert!(problem(&good_then_broken).starts_with("2:6:"), "{}", problem(&good_then_broken));
    let large = parse(&vec![b'a'; MAX_FILE_BYTES + 1], false, &EndpointPolicy::default());
    assert_eq!(problem(&large), ":: the file is larger than 4 MiB");
}

#[test]
fn documents_that_grow_when_read_are_refused() {
    let first = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    let laughs = ('a'..'h').zip('b'..='h').fold(first, |text, (before, name)| {
        let items = vec![format!("*{before}"); 9].join(", ");
        format!("{text}{name}: &{name} [{items}]\n")
    });
    let long = "x".repeat(1 << 20);
    let copies = vec!["*a"; 90].join(", ");
    let wide = format!("a: &a {long}\nb: [{copies}]\n");
    let deep = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    for bomb in [laughs, wide, deep] {
        let parsed = yaml(&bomb);
        assert!(parsed.broken, "{}", &bomb[..40]);
        assert!(problem(&parsed).len() < 1_000);
    }
}

#[test]
fn problems_of_one_file_are_bounded_in_number_and_length() {
    let parsed = yaml(&"--- 1\n".repeat(1_000));
    assert_eq!(parsed.problems.len(), MAX_PROBLEMS);
    let parsed = yaml(&AGENT.replace("image: i", &format!("image: i, port: {}", "x".repeat(10_000))));
    assert!(problem(&parsed).len() <= MAX_REASON_BYTES + 10);
}
