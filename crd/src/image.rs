//! What an image reference looks like: `[domain[:port]/]path[:tag][@digest]`, the grammar of the `distribution`
//! project, which container runtimes follow. A node refuses all else with `InvalidImageName`, for good.

/// The grammar as a regular expression for the schema. [`is_image`] says the same.
pub(crate) const IMAGE_PATTERN: &str = concat!(
    r"^((([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)(\.[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(:[0-9]+)?/)?",
    r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*",
    r"(:[a-zA-Z0-9_][-.a-zA-Z0-9_]{0,127})?",
    r"(@[a-zA-Z][a-zA-Z0-9]*([-_+.][a-zA-Z][a-zA-Z0-9]*)*:[0-9a-fA-F]{32,})?$",
);

/// Longest reference, in characters: a name has at most 255, a tag 128, and the digests in use fit in the rest.
pub(crate) const MAX_IMAGE: usize = 512;

/// Longest tag, in characters.
const MAX_TAG: usize = 128;

/// Fewest hexadecimal digits of a digest.
const MIN_DIGEST: usize = 32;

/// Whether `text` is an image reference.
pub(crate) fn is_image(text: &str) -> bool {
    let (name, tag, digest) = parts(text);
    let mut components = name.split('/');
    let first = components.next().unwrap_or_default();
    let rest: Vec<&str> = components.collect();
    text.len() <= MAX_IMAGE
        && (is_component(first) || (!rest.is_empty() && is_domain(first)))
        && rest.into_iter().all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
}

/// Whether the reference means another image tomorrow: it says `latest` or nothing, and no digest.
pub(crate) fn is_latest(text: &str) -> bool {
    let (_, tag, digest) = parts(text);
    digest.is_none() && tag.is_none_or(|tag| tag == "latest")
}

/// Name, tag and digest. The last colon begins a tag unless a slash follows: then it is a port's.
fn parts(text: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag), digest),
        _ => (rest, None, digest),
    }
}

/// Runs of a-z and 0-9 with one `.`, one or two `_`, or any number of `-` between.
fn is_component(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let separated = |text: &str| {
        matches!(text, "" | "." | "_" | "__") || (!text.is_empty() && text.bytes().all(|b| b == b'-'))
    };
    text.bytes().next().is_some_and(inner)
        && text.bytes().last().is_some_and(inner)
        && separators.into_iter().all(separated)
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match address {
        Some(address) => !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(label),
    };
    is_host && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_tag(tag: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    !tag.is_empty() && tag.len() <= MAX_TAG && tag.bytes().all(inner) && !tag.starts_with(['.', '-'])
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let part = |part: &str| {
        part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(part)
        && hex.len() >= MIN_DIGEST
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_the_schema_takes_is_an_image_unless_it_is_too_long(
            image in IMAGE_PATTERN.trim_matches(['^', '$']),
        ) {
            prop_assert_eq!(is_image(&image), image.len() <= MAX_IMAGE, "{}", image);
        }
    }

    #[test]
    fn references_as_people_write_them_are_images() {
        let digest = "a".repeat(64);
        for image in [
            "example",
            "example:latest",
            "ghcr.io/org/travel-agent:1.4",
            "localhost:5000/a",
            "localhost:5000",
            "REGISTRY/a",
            "registry.example.com:443/a/b__c/d-e--f.g:v1.0_RC-1",
            "[::1]:5000/a",
            "[::1]/a",
            &format!("a@sha256:{digest}"),
            &format!("a:1@sha256:{digest}"),
        ] {
            assert!(is_image(image), "{image}");
        }
    }

    #[test]
    fn what_no_node_would_pull_is_none() {
        for image in [
            "",
            " a",
            "a b",
            "a\n",
            "Example",
            "ghcr.io/Org/agent",
            "a:",
            "a:-1",
            "a:b:c",
            "a//b",
            "/a",
            "a/",
            "a_-b",
            "a..b",
            "-a/b",
            "https://ghcr.io/a",
            "a@sha256:12",
            "a@",
            "ä",
            &format!("a:{}", "b".repeat(129)),
            &"a".repeat(513),
        ] {
            assert!(!is_image(image), "{image}");
        }
    }

    #[test]
    fn latest_is_also_what_says_nothing() {
        for (image, latest) in [
            ("a", true),
            ("a:latest", true),
            ("host:5000/a", true),
            ("a:1", false),
            ("a@sha256:0", false),
            ("a:latest@sha256:0", false),
        ] {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }
}
