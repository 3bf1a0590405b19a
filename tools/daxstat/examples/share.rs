// SPDX-License-Identifier: GPL-2.0

//! Writes daxstat's manual pages and completions, as they lie in `/usr/share`:
//!
//! ```text
//! cargo run -p daxstat --example share -- FOLDER
//! ```
//!
//! The pages' NAME, SYNOPSIS and OPTIONS are those of the command line, and the sections by task are
//! in `man/`. An example may use what the program does not need in a guest.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// The section of the manual: administration.
const SECTION: &str = "8";

/// The line of a page's text that stands for the sections of options.
const OPTIONS: &str = ".\\\" @OPTIONS@\n";

/// Folders of the shells' completions.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/daxstat"),
    (Shell::Zsh, "zsh/vendor-completions/_daxstat"),
    (Shell::Fish, "fish/vendor_completions.d/daxstat.fish"),
];

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("which folder?")?;
    let folder = Path::new(&folder);
    for page in pages()? {
        let name = format!("man/man{SECTION}/{}.{SECTION}", page.name);
        page.write(&mut create(&folder.join(name))?)?;
    }
    for (shell, name) in COMPLETIONS {
        let mut file = create(&folder.join(name))?;
        clap_complete::generate(shell, &mut daxstat::command(), "daxstat", &mut file);
    }
    Ok(())
}

fn create(path: &Path) -> Result<File> {
    let open = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        File::create(path)
    };
    open().with_context(|| format!("cannot create {}", path.display()))
}

/// A manual page.
struct Page {
    name: &'static str,
    command: Command,
    /// The sections that are written by hand, with the line [`OPTIONS`].
    text: &'static str,
}

/// Returns the page of the program and that of its subcommand.
fn pages() -> Result<[Page; 2]> {
    // Without `help`, for which there is no page.
    let mut command = daxstat::command().disable_help_subcommand(true);
    // Gives the subcommand its full name.
    command.build();
    let holders = command.find_subcommand("holders").cloned();
    Ok([
        Page {
            name: "daxstat",
            command,
            text: include_str!("../man/daxstat.roff"),
        },
        Page {
            name: "daxstat-holders",
            command: holders.context("there is no subcommand holders")?,
            text: include_str!("../man/daxstat-holders.roff"),
        },
    ])
}

impl Page {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let man = Man::new(self.command.clone()).section(SECTION);
        let (before, after) = self.text.split_once(OPTIONS).unwrap_or((self.text, ""));
        // `Man` loses an empty date and shifts the rest; a date would differ from build to build. Words
        // are not hyphenated, because readers type some of them, and lines are not stretched.
        writeln!(
            out,
            ".TH {} {SECTION} \"\" \"daxstat {}\" rust-dax\n.nh\n.ad l",
            self.name,
            env!("CARGO_PKG_VERSION")
        )?;
        man.render_name_section(out)?;
        man.render_synopsis_section(out)?;
        out.write_all(before.as_bytes())?;
        man.render_options_section(out)?;
        if self.command.has_subcommands() {
            man.render_subcommands_section(out)?;
        }
        out.write_all(after.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The description of the program, whose tables name all reasons, verdicts, checks and kinds.
    const DESCRIPTION: &str = include_str!("../../../Documentation/filesystems/daxstat.rst");

    fn written(page: &Page) -> Result<String> {
        let mut text = Vec::new();
        page.write(&mut text)?;
        Ok(String::from_utf8(text)?)
    }

    #[test]
    fn pages_have_their_sections() -> Result<()> {
        let [program, holders] = pages()?;
        let both = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"];
        let tasks = [
            "SUBCOMMANDS",
            "WHY NO HUGE PAGE",
            "WATCHING RATES",
            "IS THIS DISK FIT FOR DAX?",
            "WHAT HOLDS A DEVICE?",
            "EXIT STATUS",
            "FILES",
            "EXAMPLES",
            "SEE ALSO",
        ];
        let of_holders = [
            "KINDS OF HOLDERS",
            "WHAT IS NOT KNOWN",
            "EXIT STATUS",
            "EXAMPLES",
            "SEE ALSO",
        ];
        for (page, others) in [(program, &tasks[..]), (holders, &of_holders[..])] {
            let text = written(&page)?;
            let sections: Vec<&str> = text
                .lines()
                .filter_map(|l| l.strip_prefix(".SH "))
                .collect();
            assert_eq!(sections, [&both, others].concat(), "{}", page.name);
            assert!(!text.contains(OPTIONS));
        }
        Ok(())
    }

    #[test]
    fn options_are_those_of_the_program() -> Result<()> {
        let [program, holders] = pages()?;
        let text = written(&program)?;
        for option in daxstat::command()
            .get_arguments()
            .filter_map(|a| a.get_long())
        {
            assert!(
                text.contains(&format!("\n\\fB\\-\\-{option}\\fR")),
                "{option}"
            );
        }
        assert!(text.contains("\n.TP\ndaxstat\\-holders(8)\n"));
        assert!(written(&holders)?.contains(".SH SYNOPSIS\n\\fBdaxstat holders\\fR "));
        Ok(())
    }

    #[test]
    fn each_word_of_the_tables_is_explained() -> Result<()> {
        let mut text = String::new();
        for page in pages()? {
            text += &written(&page)?.replace(['\\', '"'], "");
        }
        let tags: Vec<&str> = text
            .split("\n.TP\n.B")
            .filter_map(|t| t.lines().next()?.split_once(' '))
            .flat_map(|(_, tag)| tag.split(',').map(str::trim))
            .collect();
        let rows = DESCRIPTION.lines().filter(|line| line.starts_with("``"));
        let cells = rows.filter_map(|row| Some(row.split_once("``  ")?.0.replace('`', "")));
        let words: Vec<String> = cells
            .flat_map(|c| c.split(", ").map(str::to_owned).collect::<Vec<_>>())
            .collect();
        assert!(words.len() > 50, "{words:?}");
        for word in words {
            assert!(tags.contains(&word.as_str()), "{word}");
        }
        Ok(())
    }

    #[test]
    fn completions_know_the_options() {
        for (shell, _) in COMPLETIONS {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut daxstat::command(), "daxstat", &mut text);
            let text = String::from_utf8_lossy(&text);
            assert!(
                text.contains("holders") && text.contains("interval"),
                "{shell}"
            );
        }
    }
}
