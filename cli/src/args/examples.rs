//! What stands below the flags on each help page: examples, and what the exit status means.
//!
//! Lines are at most 80 columns wide: a narrow terminal has clap break longer ones, and what is broken cannot be
//! copied. What explains an example is a comment of the shell, so that a line works as a whole.

pub(super) const EXIT_STATUS: &str = "\
Exit status: 0 all is well; 1 something was found, or the command failed;
2 it was called wrongly; 130 interrupted.";

pub(super) const PROGRAM: &str = "\
Examples:
  # is the installation healthy?
  kubectl krypton doctor
  # what does the ingress do to a stream?
  kubectl krypton doctor --url https://agents.example.com
  # what every gateway holds
  kubectl krypton routes
  kubectl krypton call team-a/travel/ask -d '{\"city\":\"Oslo\"}'
  # what the Go system left behind (writes nothing)
  kubectl krypton migrate

Any program in PATH that is called kubectl-krypton is `kubectl krypton`.
Exit status: 0 all is well; 1 something was found, or the command failed;
2 it was called wrongly; 130 interrupted.";

pub(super) const DOCTOR: &str = "\
Examples:
  kubectl krypton doctor
  kubectl krypton doctor --url https://agents.example.com
  # as silent as the slowest agent
  kubectl krypton doctor --url https://agents.example.com --silence 5m30s
  kubectl krypton doctor --url http://10.0.0.7 --no-cluster --quick \\
    --class ingress-nginx
  kubectl krypton doctor --url https://agents.example.com \\
    -H \"authorization: Bearer $TOKEN\"
  kubectl krypton doctor --url https://agents.example.com \\
    --resolve agents.example.com:443:10.0.0.7 -o json

Through --url go: a stream of events and one of JSON lines (do they arrive as
they are sent?), a long silence and, beside it, a stream of the same length (is
one of them cut?), and an upload (is it refused?). The gateway answers them
itself; no agent is called. Where a call ends early, doctor looks once more.

Exit status: 0 all is well; 1 something was found, or the command failed;
2 it was called wrongly; 130 interrupted.";

pub(super) const CALL: &str = "\
Examples:
  # a GET, through the API server to a gateway
  kubectl krypton call team-a/travel
  # a POST of JSON
  kubectl krypton call travel/v1/ask -n team-a -d '{\"city\":\"Oslo\"}'
  kubectl krypton call team-a/travel/ask -d @question.json \\
    --url https://agents.example.com
  kubectl krypton call team-a/tools/mcp -H 'accept: text/event-stream' --raw

Exit status: 0 answered 2xx; 1 anything else; 2 called wrongly; 130 interrupted.";

pub(super) const MIGRATE: &str = "\
Examples:
  kubectl krypton migrate          # what would be written; nothing is
  kubectl krypton migrate --yes    # write it
  kubectl krypton migrate --ask    # show it, ask, write it
  kubectl krypton migrate --only crd --yes

Run it twice: before `helm upgrade`, for the definition of Agents, and after
it, for the Agents themselves. Whatever cannot be done yet is named with the
reason. A third run finds nothing to do.

  kubectl krypton migrate --yes
  helm upgrade krypton CHART --namespace krypton-system
  kubectl krypton migrate --yes

Exit status:
  0    nothing can be written now, or all of it was; what is left alone, with
       its reason, is no failure
  1    something is to be written and was not (without --yes, or the answer was
       no), a write failed, or an object changed meanwhile
  2    it was called wrongly
  130  interrupted";

pub(super) const COMPLETION: &str = "\
Completion of the program itself:
  # bash, in ~/.bashrc
  source <(kubectl-krypton completion bash)
  # zsh
  kubectl-krypton completion zsh > \"${fpath[1]}/_kubectl-krypton\"
  # fish
  kubectl-krypton completion fish \\
    > ~/.config/fish/completions/kubectl-krypton.fish

Of `kubectl krypton` as a plugin: kubectl (1.26 or newer) asks a program
kubectl_complete-krypton in PATH. This one does it for the names of commands and
flags:
  printf '%s\\n' '#!/bin/sh' 'exec kubectl-krypton complete-words \"$@\"' \\
    > /usr/local/bin/kubectl_complete-krypton
  chmod +x /usr/local/bin/kubectl_complete-krypton";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::args::Cli;

    /// A usual terminal.
    const WIDTH: usize = 80;

    /// As a terminal of that width shows it, every line of every page stands as it was written.
    #[test]
    fn no_example_is_broken_by_the_width_of_a_terminal() {
        let mut root = Cli::command().term_width(WIDTH);
        root.build();
        let mut examples = 0;
        let pages = std::iter::once(root.clone()).chain(root.get_subcommands().cloned());
        for mut page in pages.map(|page| page.term_width(WIDTH)) {
            let Some(written) = page.get_after_help().map(ToString::to_string) else { continue };
            let shown = page.render_long_help().to_string();
            assert!(shown.contains(&written), "{}: lines are broken\n{shown}", page.get_name());
            for line in written.lines() {
                assert!(line.chars().count() <= WIDTH, "{}: {line}", page.get_name());
                let is_command = line.trim_start().starts_with("kubectl");
                examples += usize::from(line.starts_with("  ") && is_command);
            }
        }
        assert!(examples > 15, "{examples}");
    }
}
