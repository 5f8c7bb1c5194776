//! The flags that a Deployment's program was started with.

use serde_json::Value;

/// The value of `--{flag}` of the first container of `deployment`: from its arguments, else from the environment. A
/// switch has the value `true`; of a flag that is given twice the last one counts. Not seen are values that come from elsewhere (`valueFrom`).
pub(crate) fn value(deployment: &Value, flag: &str) -> Option<String> {
    let container = deployment.pointer("/spec/template/spec/containers/0")?;
    let words = |list: &str| container[list].as_array().into_iter().flatten().filter_map(Value::as_str);
    let args: Vec<&str> = words("command").chain(words("args")).collect();
    let long = format!("--{flag}");
    for (index, arg) in args.iter().enumerate().rev() {
        let Some(rest) = arg.strip_prefix(&long) else { continue };
        if let Some(value) = rest.strip_prefix('=') {
            return Some(value.to_owned());
        }
        if rest.is_empty() {
            let next = args.get(index + 1).filter(|next| !next.starts_with("--"));
            return Some(next.map_or("true", |next| next).to_owned());
        }
    }
    let variable = format!("KRYPTON_{}", flag.replace('-', "_").to_uppercase());
    let env = container["env"].as_array()?;
    env.iter().find(|one| one["name"] == variable)?["value"].as_str().map(ToOwned::to_owned)
}

/// The namespaces that `controller` looks at; empty: all.
pub(crate) fn watched_namespaces(controller: &Value) -> Vec<String> {
    list(controller, "namespace")
}

/// The hosts that `gateway` serves; empty: all.
pub(crate) fn allowed_hosts(gateway: &Value) -> Vec<String> {
    list(gateway, "allowed-hosts")
}

/// The Lease by which controllers like `controller` agree on a leader; where that cannot be read, the one that the chart
/// names after the release.
pub(crate) fn lease_name(controller: Option<&Value>, fullname: &str) -> String {
    match controller {
        Some(controller) => {
            value(controller, "lease-name").unwrap_or_else(|| "krypton-controller".to_owned())
        }
        None => format!("{fullname}-controller"),
    }
}

fn list(deployment: &Value, flag: &str) -> Vec<String> {
    let value = value(deployment, flag).unwrap_or_default();
    value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_flag_is_found_however_it_is_given() {
        let deployment = json!({ "spec": { "template": { "spec": { "containers": [{
            "args": ["--discovery=https://a:9090", "--discovery-plaintext", "--x",
                     "--ingress-read-timeout=60s", "--ingress-read-timeout", "330s"],
            "env": [{ "name": "KRYPTON_THREADS", "value": "2" }, { "name": "KRYPTON_IDENTITY", "valueFrom": {} }],
        }] } } } });
        let value = |flag| value(&deployment, flag);
        assert_eq!(value("discovery").as_deref(), Some("https://a:9090"));
        assert_eq!(value("ingress-read-timeout").as_deref(), Some("330s"));
        assert_eq!(value("discovery-plaintext").as_deref(), Some("true"));
        assert_eq!(value("threads").as_deref(), Some("2"));
        assert_eq!((value("identity"), value("ingress"), value("y")), (None, None, None));
    }

    #[test]
    fn a_lease_has_its_usual_name_unless_the_controller_was_told_another() {
        let with = |args: &[&str]| {
            let container = json!({ "args": args });
            lease_name(
                Some(&json!({ "spec": { "template": { "spec": { "containers": [container] } } } })),
                "x",
            )
        };
        assert_eq!(with(&["--lease-name=agents-controller"]), "agents-controller");
        assert_eq!(with(&[]), "krypton-controller", "as versions do that know no such flag");
        assert_eq!(lease_name(None, "agents"), "agents-controller");
    }

    #[test]
    fn lists_are_taken_apart() {
        let deployment = json!({ "spec": { "template": { "spec": { "containers": [{
            "args": ["--namespace=team-a,team-b", "--allowed-hosts", "a.example.com,b.example.com"] }] } } } });
        assert_eq!(watched_namespaces(&deployment), ["team-a", "team-b"]);
        assert_eq!(allowed_hosts(&deployment), ["a.example.com", "b.example.com"]);
        assert_eq!(watched_namespaces(&json!({})), Vec::<String>::new());
    }
}
