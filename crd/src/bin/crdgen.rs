//! Prints the CustomResourceDefinition of the Agent as YAML.

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(krypton_crd::crd::agent_crd_yaml().as_bytes())
}
