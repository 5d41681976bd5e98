//! Options that nobody types each time, from the environment: `CLAUDE_TOKMON_COST_RATE=0.5` stands for `--cost-rate 0.5`.
//!
//! What is typed goes before them, and they go before a configuration. Options that may be given several times hold values with `;`
//! between them, to which typed ones are added. Knows which options there are; what they mean is decided elsewhere.

use std::collections::BTreeMap;
use std::ffi::OsString;

use anyhow::{Result, bail};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

const PREFIX: &str = "CLAUDE_TOKMON_";

/// What to look at and what to try is said anew for each run. A hook has a variable `CLAUDE_TOKMON_SINCE` of its own.
const OF_ONE_RUN: [&str; 11] = [
    "since",
    "until",
    "by",
    "assume-interval",
    "run-hooks",
    "explain",
    "check",
    "follow",
    "test-alert",
    "exec-argv",
    "help",
];

/// So is all of this.
const LABORATORY: &str = "Laboratory";

/// Options that stand in the environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// By the name of the option, those that are not empty.
    values: BTreeMap<String, String>,
}

/// The variable of an option.
fn variable(option: &str) -> String {
    format!("{PREFIX}{}", option.replace('-', "_").to_uppercase())
}

/// The name of an option that may stand in the environment.
fn name_of(arg: &Arg) -> Option<&str> {
    let name = arg.get_long()?;
    let is_of_one_run = arg.get_help_heading() == Some(LABORATORY) || OF_ONE_RUN.contains(&name);
    (!is_of_one_run).then_some(name)
}

impl Environment {
    /// Which of these variables are options. The others are nobody's business here: whoever runs us in a cluster, or from a hook of
    /// ours, has more of the same beginning.
    pub fn read(command: &Command, variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let variables: BTreeMap<String, String> = variables.filter_map(text).collect();
        let commands = command.get_subcommands();
        let names = commands.flat_map(|command| command.get_arguments().filter_map(name_of));
        let value_of = |name: &str| {
            let value = variables.get(&variable(name))?.trim();
            (!value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
        };
        Self {
            values: names.filter_map(value_of).collect(),
        }
    }

    /// The arguments that were typed, with those that were not and stand here. As they were if they cannot be meant: whoever reads
    /// them says so.
    ///
    /// # Errors
    /// If the variable of a switch holds neither yes nor no.
    pub fn add_to(&self, command: &Command, mut typed: Vec<OsString>) -> Result<Vec<OsString>> {
        let Ok(matches) = command.clone().try_get_matches_from(&typed) else {
            return Ok(typed);
        };
        let Some((name, matches)) = matches.subcommand() else {
            return Ok(typed);
        };
        let mut added = Vec::new();
        let command = command.find_subcommand(name);
        for arg in command.into_iter().flat_map(Command::get_arguments) {
            let value = name_of(arg).and_then(|name| Some((name, self.values.get(name)?)));
            if let Some((name, value)) = value {
                added.extend(self::added(arg, name, value, matches)?);
            }
        }
        typed.splice(2..2, added);
        Ok(typed)
    }

    /// The variables that an error is about.
    pub fn blamed_by(&self, error: &str) -> Vec<String> {
        let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '-';
        let is_named = |name: &&String| {
            let mut flags = error.match_indices("--");
            flags.any(|(at, _)| {
                let rest = error[at + 2..].strip_prefix(name.as_str());
                rest.is_some_and(|rest| rest.chars().next().is_none_or(is_end))
            })
        };
        let names = self.values.keys().filter(is_named);
        names.map(|name| variable(name)).collect()
    }
}

/// The arguments that an option of the environment stands for, beside those that were typed.
fn added(arg: &Arg, name: &str, value: &str, typed: &ArgMatches) -> Result<Vec<OsString>> {
    let is_typed = |id: &str| typed.value_source(id) == Some(ValueSource::CommandLine);
    let with = |value: &str| OsString::from(format!("--{name}={value}"));
    Ok(match arg.get_action() {
        ArgAction::Append => {
            let values = value.split(';').map(str::trim);
            values.filter(|value| !value.is_empty()).map(with).collect()
        }
        _ if is_typed(arg.get_id().as_str()) || (name == "exec" && is_typed("exec_argv")) => {
            Vec::new()
        }
        ArgAction::SetTrue => match value.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => vec![OsString::from(format!("--{name}"))],
            "0" | "false" | "no" | "off" => Vec::new(),
            _ => bail!("{}: \"{value}\" is neither true nor false", variable(name)),
        },
        _ => vec![with(value)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter();
        let variables = variables.map(|(name, value)| {
            (
                OsString::from(format!("{PREFIX}{name}")),
                OsString::from(value),
            )
        });
        Environment::read(&Cli::command(), variables)
    }

    /// What is run with these variables where this is typed.
    fn run(variables: &[(&str, &str)], typed: &str) -> String {
        let typed = typed.split(' ').map(OsString::from).collect();
        let added = environment(variables).add_to(&Cli::command(), typed);
        let text = |all: Vec<OsString>| {
            let all: Vec<String> = all
                .into_iter()
                .map(|arg| arg.into_string().unwrap())
                .collect();
            all[1..].join(" ")
        };
        added.map_or_else(|e| e.to_string(), text)
    }

    #[test]
    fn what_is_typed_goes_before_the_environment() {
        let rate = [
            ("COST_RATE", "0.5"),
            ("TIMEZONE", ""),
            ("LIMIT", "9"),
            ("SINCE", "-2h"),
        ];
        assert_eq!(run(&rate, "x tail app.log"), "tail --cost-rate=0.5 app.log");
        assert_eq!(run(&rate, "x tail --cost-rate 2"), "tail --cost-rate 2");
        assert_eq!(run(&rate, "x prices"), "prices");
        assert_eq!(run(&rate, "x tail --cost-rat 2"), "tail --cost-rat 2");
        assert_eq!(run(&rate, "x"), "");
        // A default that was not typed is none.
        let keys = [("MAX_KEYS", "500"), ("COLOR", "never")];
        assert_eq!(
            run(&keys, "x tail --color=always"),
            "tail --max-keys=500 --color=always"
        );
    }

    #[test]
    fn values_of_a_list_are_added_to() {
        let lists = [
            ("BUDGET", "50/day; 900/month;"),
            ("SET", r#"cost-rate.window=["60s","5m"]"#),
        ];
        assert_eq!(
            run(&lists, "x rules --set a.b=1"),
            r#"rules --budget=50/day --budget=900/month --set=cost-rate.window=["60s","5m"] --set a.b=1"#
        );
    }

    #[test]
    fn a_switch_is_on_or_off() {
        let json = |value| run(&[("JSON", value)], "x replay a");
        assert_eq!(json("1"), "replay --json a");
        assert_eq!(json("False"), "replay a");
        assert_eq!(
            json("maybe"),
            r#"CLAUDE_TOKMON_JSON: "maybe" is neither true nor false"#
        );
    }

    #[test]
    fn another_hook_that_is_typed_goes_before() {
        let hook = [("EXEC", "page me")];
        assert_eq!(run(&hook, "x tail a"), "tail --exec=page me a");
        let typed = "x tail a --exec-argv ./page";
        assert_eq!(run(&hook, typed), &typed[2..]);
    }

    #[test]
    fn the_variable_behind_an_error_is_known() {
        let environment = environment(&[("EXEC", "x"), ("EXEC_FORMAT", "slack"), ("BUDGET", "5")]);
        let blamed = |error: &str| environment.blamed_by(error).join(" ");
        assert_eq!(
            blamed("--exec-format: it shapes"),
            "CLAUDE_TOKMON_EXEC_FORMAT"
        );
        assert_eq!(blamed("--budget 5: write it"), "CLAUDE_TOKMON_BUDGET");
        assert_eq!(blamed("for '--exec <CMD>'"), "CLAUDE_TOKMON_EXEC");
        assert_eq!(blamed("cannot read --budgets"), "");
    }
}
