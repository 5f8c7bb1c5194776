//! What stands in front: which it is, and the setting of each that changes a verdict.
//!
//! Pure. The settings are those of each project's documentation; where a project cannot do what was seen by itself,
//! the sentence says where else to look.

use std::collections::BTreeSet;

use clap::ValueEnum as _;

use super::verdict::{Limit, Verdict};
use crate::args::Class;

/// The controller that an IngressClass names, and the class that this is.
const INGRESS_CONTROLLERS: [(&str, Class); 6] = [
    ("k8s.io/ingress-nginx", Class::IngressNginx),
    ("nginx.org/ingress-controller", Class::Nginx),
    ("haproxy.org/ingress-controller", Class::Haproxy),
    ("haproxy-ingress.github.io/controller", Class::Haproxy),
    ("traefik.io/ingress-controller", Class::Traefik),
    ("projectcontour.io/", Class::Contour),
];

/// The same for a GatewayClass.
const GATEWAY_CONTROLLERS: [(&str, Class); 5] = [
    ("gateway.envoyproxy.io/", Class::EnvoyGateway),
    ("projectcontour.io/", Class::Contour),
    ("traefik.io/", Class::Traefik),
    ("gateway.nginx.org/", Class::Nginx),
    ("haproxy.org/", Class::Haproxy),
];

/// The class of an IngressClass or GatewayClass with this controller.
pub(crate) fn of_controller(controller: &str) -> Option<Class> {
    let known = INGRESS_CONTROLLERS.iter().chain(&GATEWAY_CONTROLLERS);
    known.into_iter().find(|(prefix, _)| controller.starts_with(prefix)).map(|(_, class)| *class)
}

/// What may have written this `server` header; nothing where it tells nothing.
pub(crate) fn of_server_header(server: &str) -> BTreeSet<Class> {
    let server = server.to_ascii_lowercase();
    let classes: &[Class] = if server.contains("nginx") {
        &[Class::IngressNginx, Class::Nginx]
    } else if server.contains("envoy") {
        &[Class::Contour, Class::EnvoyGateway]
    } else if server.contains("haproxy") {
        &[Class::Haproxy]
    } else if server.contains("traefik") {
        &[Class::Traefik]
    } else {
        &[]
    };
    classes.iter().copied().collect()
}

/// What to change for `verdict`, a line for each of `classes`, or of all where it is empty.
pub(crate) fn settings(verdict: &Verdict, classes: &BTreeSet<Class>) -> Vec<String> {
    let all = classes.is_empty();
    let wanted = Class::value_variants().iter().filter(|class| all || classes.contains(class));
    wanted.filter_map(|class| Some(format!("{}: {}", name(*class), setting(verdict, *class)?))).collect()
}

/// As `--class` and the chart's `ingress.class` have it.
pub(crate) fn name(class: Class) -> &'static str {
    match class {
        Class::IngressNginx => "ingress-nginx",
        Class::Nginx => "nginx",
        Class::Haproxy => "haproxy",
        Class::Traefik => "traefik",
        Class::Contour => "contour",
        Class::EnvoyGateway => "envoy-gateway",
    }
}

fn setting(verdict: &Verdict, class: Class) -> Option<&'static str> {
    match verdict {
        Verdict::Buffered { .. } => Some(against_buffering(class)),
        Verdict::Cut { limit: Limit::Silence, .. } => Some(against_cuts_of_silence(class)),
        Verdict::Cut { limit: Limit::Total, .. } => Some(against_cuts_of_calls(class)),
        Verdict::BodyLimit { .. } => Some(against_limits_of_bodies(class)),
        Verdict::Streaming
        | Verdict::NotCut { .. }
        | Verdict::Unsteady { .. }
        | Verdict::EndedOnce { .. }
        | Verdict::BodyPasses { .. }
        | Verdict::NotRouted { .. }
        | Verdict::ProbeDisabled
        | Verdict::ProbeUnavailable { .. } => None,
    }
}

/// What decides too, and belongs to the owner of the ingress: no Ingress and no route can set it, nor tell it.
pub(crate) fn of_its_owner(class: Class) -> Option<&'static str> {
    match class {
        Class::Nginx => Some(
            "stores a whole upload before an agent sees it, unless its ConfigMap says location-snippets: \
             \"proxy_request_buffering off;\"",
        ),
        Class::Traefik => Some(
            "cuts what takes longer than 60 s to be sent (uploads, streams in both directions), unless its entry point \
             says transport.respondingTimeouts.readTimeout=0; silence of an answer it never cuts",
        ),
        Class::Contour => Some(
            "cuts silence after 5 minutes whatever an Ingress or a route says, unless its configuration says \
             timeouts.stream-idle-timeout: 330s",
        ),
        Class::EnvoyGateway => Some(
            "cuts silence after 5 minutes, unless a BackendTrafficPolicy of the HTTPRoute (the chart renders one) says \
             timeout.http.streamIdleTimeout: 330s",
        ),
        Class::IngressNginx | Class::Haproxy => None,
    }
}

fn against_buffering(class: Class) -> &'static str {
    match class {
        Class::IngressNginx => {
            "annotate the Ingress with nginx.ingress.kubernetes.io/proxy-buffering: \"off\" (the ConfigMap or a snippet \
             turned it on), and take X-Accel-Buffering out of proxy_ignore_headers if a snippet has it"
        }
        Class::Nginx => {
            "annotate the Ingress with nginx.org/proxy-buffering: \"False\", and take X-Accel-Buffering out of \
             proxy_ignore_headers if a snippet has it"
        }
        Class::Haproxy => {
            "HAProxy holds no answer back by itself: look for compression in haproxy.org/backend-config-snippet, and at \
             what stands in front of it"
        }
        Class::Traefik => {
            "take the middlewares Buffering and Compress off the router (traefik.ingress.kubernetes.io/router.middlewares), \
             or list text/event-stream in excludedContentTypes of Compress"
        }
        Class::Contour => {
            "Envoy holds no answer back by itself: look for an external processor, and at what stands in front of it"
        }
        Class::EnvoyGateway => {
            "take responses out of the EnvoyExtensionPolicy (extProc.processingMode.response.body: Streamed, not \
             Buffered), and compression out of the BackendTrafficPolicy"
        }
    }
}

fn against_cuts_of_silence(class: Class) -> &'static str {
    match class {
        Class::IngressNginx => {
            "annotate the Ingress with nginx.ingress.kubernetes.io/proxy-read-timeout: \"330\""
        }
        Class::Nginx => "annotate the Ingress with nginx.org/proxy-read-timeout: \"330s\"",
        // timeout client does not cut a client that only reads.
        Class::Haproxy => {
            "annotate the Ingress with haproxy.org/timeout-server: \"330s\" (the community's controller: \
             haproxy-ingress.github.io/timeout-server)"
        }
        Class::Traefik => {
            "Traefik cuts no silence of an answer by itself: look for forwardingTimeouts.responseHeaderTimeout of a \
             ServersTransport, and at what stands in front of it"
        }
        Class::Contour => {
            "set timeouts.stream-idle-timeout: 330s in Contour's configuration; neither \
             projectcontour.io/response-timeout nor timeouts.request of an HTTPRoute lifts it (timeoutPolicy.idle of an \
             HTTPProxy does)"
        }
        Class::EnvoyGateway => {
            "set timeout.http.streamIdleTimeout: 330s in a BackendTrafficPolicy of the HTTPRoute; releases that do not \
             know it there have it in a ClientTrafficPolicy of the Gateway"
        }
    }
}

fn against_cuts_of_calls(class: Class) -> &'static str {
    match class {
        Class::IngressNginx | Class::Nginx => {
            "nginx cuts silence, not calls: look at reloads (worker-shutdown-timeout), and at the load balancer in front"
        }
        Class::Haproxy => {
            "HAProxy cuts silence, not calls: look at reloads (hard-stop-after), and at the load balancer in front"
        }
        Class::Traefik => {
            "start Traefik with --entryPoints.NAME.transport.respondingTimeouts.writeTimeout=0, which is the default"
        }
        Class::Contour => {
            "annotate the Ingress with projectcontour.io/response-timeout: infinity, set timeouts.request: 0s in the rule \
             of the HTTPRoute, or timeoutPolicy.response: infinity in the HTTPProxy"
        }
        Class::EnvoyGateway => {
            "set timeouts.request: 0s in the rule of the HTTPRoute, and timeout.http.requestTimeout: 0s in a \
             BackendTrafficPolicy of it"
        }
    }
}

fn against_limits_of_bodies(class: Class) -> &'static str {
    match class {
        Class::IngressNginx => {
            "annotate the Ingress with nginx.ingress.kubernetes.io/proxy-body-size: \"0\" (no limit), or the size you want"
        }
        Class::Nginx => {
            "annotate the Ingress with nginx.org/client-max-body-size: \"0\" (no limit), or the size you want"
        }
        Class::Haproxy => "HAProxy has no limit by itself: look for a rule on req.body_size in a snippet",
        Class::Traefik => "raise maxRequestBodyBytes of the middleware Buffering, or take it off the router",
        Class::Contour => "Envoy has no limit by itself: look at what stands in front of it",
        Class::EnvoyGateway => "raise requestBuffer.limit of the BackendTrafficPolicy, or take it out",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::verdict::Held;

    fn cut() -> Verdict {
        Verdict::Cut { after: Duration::from_mins(1), limit: Limit::Silence }
    }

    #[test]
    fn a_known_class_gets_its_own_setting_alone() {
        let lines = settings(&cut(), &BTreeSet::from([Class::Haproxy]));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("haproxy: ") && lines[0].contains("haproxy.org/timeout-server"));
    }

    #[test]
    fn all_are_listed_where_none_is_known() {
        let buffered = Verdict::Buffered { held: Duration::ZERO, what: Held::Both };
        for verdict in [cut(), buffered, Verdict::BodyLimit { bytes: 1 }] {
            assert_eq!(settings(&verdict, &BTreeSet::new()).len(), Class::value_variants().len());
        }
        assert_eq!(settings(&Verdict::Streaming, &BTreeSet::new()), Vec::<String>::new());
    }

    #[test]
    fn classes_are_known_by_their_controllers() {
        assert_eq!(of_controller("k8s.io/ingress-nginx"), Some(Class::IngressNginx));
        assert_eq!(of_controller("haproxy.org/ingress-controller/haproxy"), Some(Class::Haproxy));
        assert_eq!(of_controller("projectcontour.io/projectcontour/contour"), Some(Class::Contour));
        assert_eq!(of_controller("gateway.envoyproxy.io/gatewayclass-controller"), Some(Class::EnvoyGateway));
        assert_eq!(of_controller("example.com/own"), None);
    }

    #[test]
    fn a_server_header_narrows_it_down() {
        assert_eq!(of_server_header("nginx/1.27"), BTreeSet::from([Class::IngressNginx, Class::Nginx]));
        assert_eq!(of_server_header("envoy"), BTreeSet::from([Class::Contour, Class::EnvoyGateway]));
        assert_eq!(of_server_header("cloudflare"), BTreeSet::new());
    }

    #[test]
    fn a_class_is_called_as_on_the_command_line() {
        for class in Class::value_variants() {
            let value = class.to_possible_value().expect("none is hidden");
            assert_eq!(name(*class), value.get_name());
        }
    }
}
