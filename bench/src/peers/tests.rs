use super::*;

#[test]
fn peers_are_called_the_same_everywhere() {
    for kind in PeerKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
        let value = kind.to_possible_value().unwrap();
        assert_eq!(value.get_name(), kind.as_str());
    }
    let error = "traefik".parse::<PeerKind>().unwrap_err().to_string();
    assert!(error.starts_with(r#"there is no peer "traefik"; those known are direct, krypton, "#), "{error}");
    assert!(PeerKind::ALL.iter().all(|kind| error.contains(kind.as_str())));
}

#[test]
fn pools_and_limits_have_the_same_names_in_all_files() {
    let templates = [nginx::TEMPLATE, haproxy::TEMPLATE, envoy::TEMPLATE];
    for template in templates {
        for name in ["pool", "clients", "silence", "client_idle", "header", "connect"] {
            assert!(template.contains(&format!("{{{{{name}}}}}")), "{name} is not in\n{template}");
        }
        assert!(template.contains("# Why it is fair:"));
        assert!(template.contains("only with access_log") && template.contains("only with h2c"));
    }
}

#[test]
fn what_is_missing_says_how_to_get_it() {
    let error = StartError::no_package("nginx").to_string();
    assert_eq!(error, "nginx is not there: apt-get install -y --no-install-recommends nginx");
}
