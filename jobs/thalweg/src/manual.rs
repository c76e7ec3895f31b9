//! `thalweg completions` and `thalweg man`; the page `docs/commands.md` is made here too.

use clap::CommandFactory as _;

use crate::command::{Cli, CompletionsArguments, ManArguments};
use crate::{Failure, terminal};

pub(crate) fn completions(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "thalweg", &mut script);
    Ok(terminal::print(&String::from_utf8_lossy(&script))?)
}

pub(crate) fn man(arguments: &ManArguments) -> Result<(), Failure> {
    let Some(folder) = &arguments.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        return Ok(terminal::print(&String::from_utf8_lossy(&page))?);
    };
    let unwritable =
        |error: std::io::Error| Failure::User(format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(unwritable)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page: every command's help, as it prints it.
    fn page() -> String {
        let mut page = String::from(
            "# Commands\n\nThis page is made from the command line's own help. Every command that \
             prints a result prints it as JSON with `--json`; words to people and log lines go to \
             standard error. Exit status: 0 finished or stopped cleanly, 1 the user's error, 2 the \
             outside world's, 3 a bug of ours.\n",
        );
        let mut root = Cli::command();
        root.build();
        add(&root, "thalweg", &mut page);
        page
    }

    fn add(command: &clap::Command, path: &str, page: &mut String) {
        let help = command.clone().bin_name(path).render_long_help();
        let help = help.to_string();
        let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
        page.push_str(&format!(
            "\n## {path}\n\n```text\n{}\n```\n",
            lines.join("\n")
        ));
        for inner in command
            .get_subcommands()
            .filter(|inner| inner.get_name() != "help" && !inner.is_hide_set())
        {
            add(inner, &format!("{path} {}", inner.get_name()), page);
        }
    }

    #[test]
    fn page_is_that_of_the_command_line() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/commands.md");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, page()).expect("docs can be written");
        }
        let text = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(text, page(), "docs/commands.md is stale: run `make docs`");
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
