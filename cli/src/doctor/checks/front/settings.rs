//! The annotations of an Ingress by which its class streams and bears silence, and whether they do.
//!
//! Pure. Defaults and units are those of each project's documentation.

use std::time::Duration;

use serde_json::Value;

use crate::args::Class;
use crate::doctor::checks::agents;
use crate::doctor::gather::Gathered;

/// For how long an Agent may be silent that says nothing of it: what is asked where there are no Agents yet.
const SILENCE: Duration = Duration::from_mins(5);

/// The chart's read timeout: longer than [`SILENCE`], so that the gateway is the one who answers.
const READ_TIMEOUT: Duration = Duration::from_secs(330);

/// By how much a read timeout is to exceed the silence of agents, as the chart's does.
const MARGIN: Duration = Duration::from_secs(30);

/// What stands behind an annotation's value.
enum Rule {
    /// One word, or nothing where that is the same.
    Word { wanted: &'static str, is_default: bool },
    /// A read timeout.
    Silence { unit: Unit, default: Duration },
}

/// What a number means.
#[derive(Clone, Copy)]
enum Unit {
    /// Seconds, and nothing but a number is understood.
    OnlySeconds,
    /// A number with a unit; without one, seconds.
    ElseSeconds,
    /// A number with a unit; without one, milliseconds.
    ElseMillis,
}

struct Setting {
    class: Class,
    /// The first is what is told; the others are the same to another controller of the class.
    annotations: &'static [&'static str],
    rule: Rule,
    otherwise: &'static str,
}

const NGINX_DEFAULT: Duration = Duration::from_mins(1);

/// Of each class that has them as annotations; what a class does without one counts.
const SETTINGS: [Setting; 6] = [
    Setting {
        class: Class::IngressNginx,
        annotations: &["nginx.ingress.kubernetes.io/proxy-buffering"],
        // Off unless the controller's ConfigMap turns it on.
        rule: Rule::Word { wanted: "off", is_default: true },
        otherwise: "answers are held back",
    },
    Setting {
        class: Class::IngressNginx,
        annotations: &["nginx.ingress.kubernetes.io/proxy-read-timeout"],
        rule: Rule::Silence { unit: Unit::OnlySeconds, default: NGINX_DEFAULT },
        otherwise: "silence is cut, after 60 s where nothing is set",
    },
    Setting {
        class: Class::Nginx,
        annotations: &["nginx.org/proxy-buffering"],
        rule: Rule::Word { wanted: "False", is_default: false },
        otherwise: "parts of answers that come in pieces are held back",
    },
    Setting {
        class: Class::Nginx,
        annotations: &["nginx.org/proxy-read-timeout"],
        rule: Rule::Silence { unit: Unit::ElseSeconds, default: NGINX_DEFAULT },
        otherwise: "silence is cut, after 60 s where nothing is set",
    },
    Setting {
        class: Class::Haproxy,
        annotations: &["haproxy.org/timeout-server", "haproxy-ingress.github.io/timeout-server"],
        rule: Rule::Silence { unit: Unit::ElseMillis, default: Duration::from_secs(50) },
        otherwise: "silence is cut, after 50 s where nothing is set",
    },
    Setting {
        class: Class::Contour,
        annotations: &["projectcontour.io/response-timeout"],
        rule: Rule::Word { wanted: "infinity", is_default: false },
        otherwise: "calls are cut, after 15 s where nothing is set",
    },
];

/// A setting that is not as it has to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What is so.
    pub(super) message: String,
    /// `ANNOTATION: VALUE`.
    pub(super) wanted: String,
    /// The least read timeout that would do, where it is one.
    pub(super) read_timeout: Option<Duration>,
}

/// For how long an ingress has to bear silence.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Silence {
    /// Of the Agents that were read, the longest.
    agents: Option<Duration>,
    /// What the controllers were told that the ingress bears.
    told: Option<Duration>,
}

// === impl Silence ===

impl Silence {
    /// As the Agents and the controllers have it.
    pub(super) fn of(gathered: &Gathered) -> Self {
        Self { agents: agents::longest_timeout(gathered), told: agents::read_timeout(gathered) }
    }

    /// Why `borne` is not enough; an Agent that reaches it is too much, as both would end at one time.
    fn why_not(self, borne: Duration) -> Option<String> {
        let shown = agents::written;
        match (self.agents, self.told) {
            (Some(agents), _) if borne <= agents => {
                Some(format!("there are Agents that may be silent for {}", shown(agents)))
            }
            (_, Some(told)) if borne < told => {
                Some(format!("the controllers were told {}, and warn of no Agent below it", shown(told)))
            }
            (None, _) if borne < SILENCE => {
                Some(format!("an Agent may be silent for {} by default", shown(SILENCE)))
            }
            _ => None,
        }
    }

    fn wanted(self) -> Duration {
        let agents = self.agents.map(|agents| agents.saturating_add(MARGIN));
        [agents, self.told].into_iter().flatten().max().unwrap_or(READ_TIMEOUT)
    }
}

// === impl Unit ===

impl Unit {
    fn read(self, text: &str) -> Option<Duration> {
        match (text.parse(), self) {
            (Ok(number), Self::OnlySeconds | Self::ElseSeconds) => Some(Duration::from_secs(number)),
            (Ok(number), Self::ElseMillis) => Some(Duration::from_millis(number)),
            (Err(_), Self::OnlySeconds) => None,
            (Err(_), _) => humantime::parse_duration(text).ok(),
        }
    }

    fn write(self, duration: Duration) -> String {
        // Rounded up: it is a least one.
        let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
        match self {
            Self::OnlySeconds => format!("\"{seconds}\""),
            Self::ElseSeconds | Self::ElseMillis => format!("\"{seconds}s\""),
        }
    }
}

/// What is wrong with the settings of `ingress`, which is of `class`.
pub(super) fn wrong(ingress: &Value, class: Class, silence: Silence) -> Vec<Wrong> {
    let annotations = ingress.pointer("/metadata/annotations");
    let of_class = SETTINGS.iter().filter(|setting| setting.class == class);
    of_class
        .filter_map(|setting| {
            let find = |name: &&str| annotations.and_then(|all| all[*name].as_str());
            let value = setting.annotations.iter().find_map(find);
            setting.judge(value, silence)
        })
        .collect()
}

// === impl Setting ===

impl Setting {
    fn judge(&self, value: Option<&str>, silence: Silence) -> Option<Wrong> {
        let (why, wanted, read_timeout) = match self.rule {
            Rule::Word { wanted, is_default } => {
                if value.map_or(is_default, |value| value.eq_ignore_ascii_case(wanted)) {
                    return None;
                }
                (String::new(), format!("\"{wanted}\""), None)
            }
            Rule::Silence { unit, default } => {
                // What is not understood is not obeyed.
                let borne = value.and_then(|value| unit.read(value)).unwrap_or(default);
                let wanted = silence.wanted();
                (format!("; {}", silence.why_not(borne)?), unit.write(wanted), Some(wanted))
            }
        };
        let name = self.annotations[0];
        let found = value.map_or("is not set".to_owned(), |value| format!("is {value:?}"));
        let message = format!("{name} {found}: {}{why}", self.otherwise);
        Some(Wrong { message, wanted: format!("{name}: {wanted}"), read_timeout })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted(class: Class, annotation: (&str, &str), silence: Silence) -> Option<String> {
        let ingress = json!({ "metadata": { "annotations": { (annotation.0): annotation.1,
            "nginx.org/proxy-buffering": "false" } } });
        wrong(&ingress, class, silence).pop().map(|wrong| wrong.wanted)
    }

    const NGINX: &str = "nginx.ingress.kubernetes.io/proxy-read-timeout";
    const F5: &str = "nginx.org/proxy-read-timeout";
    const HAPROXY: &str = "haproxy.org/timeout-server";

    #[test]
    fn a_number_means_what_the_class_takes_it_for() {
        let of = |class, name, value| wanted(class, (name, value), Silence::default());
        assert_eq!(of(Class::IngressNginx, NGINX, "300"), None, "the guide's own");
        assert_eq!(of(Class::IngressNginx, NGINX, "60"), Some(format!("{NGINX}: \"330\"")));
        assert!(of(Class::IngressNginx, NGINX, "330s").is_some(), "it takes a number alone");
        assert_eq!(of(Class::Nginx, F5, "330"), None);
        assert_eq!(of(Class::Nginx, F5, "1h"), None);
        assert_eq!(of(Class::Haproxy, HAPROXY, "330"), Some(format!("{HAPROXY}: \"330s\"")), "330 ms");
        assert_eq!(of(Class::Haproxy, HAPROXY, "330000"), None);
        assert_eq!(of(Class::Haproxy, "haproxy-ingress.github.io/timeout-server", "330s"), None);
    }

    #[test]
    fn a_read_timeout_is_held_to_agents_and_to_what_the_controllers_were_told() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (agents, told, value, expected) in [
            (seconds(30), None, "60", None),
            (seconds(60), None, "60", Some("90")),
            (seconds(300), None, "300", Some("330")),
            (seconds(600), None, "330", Some("630")),
            (seconds(600), seconds(660), "700", None),
            (seconds(30), seconds(330), "300", Some("330")),
            (None, seconds(330), "300", Some("330")),
            (None, seconds(300), "300", None),
        ] {
            let found = wanted(Class::IngressNginx, (NGINX, value), Silence { agents, told });
            let expected = expected.map(|seconds| format!("{NGINX}: \"{seconds}\""));
            assert_eq!(found, expected, "{agents:?} {told:?} {value}");
        }
    }
}
