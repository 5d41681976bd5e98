//! A table of contents: read the arguments, run the command, end with its exit code.

use std::process::{self, ExitCode};
use std::{env, io};

use anyhow::Result;
use clap::{CommandFactory, Parser};
use claude_tokmon::cli::{Cli, Command, PricesArgs};
use claude_tokmon::config::{self, Check, Config, Environment, NoLogs, Options};
use claude_tokmon::lab::{self, Missing};
use claude_tokmon::run::{self, Exit, Unreadable};
use claude_tokmon::sink::{self, Outlet};
use claude_tokmon::source::InputError;

fn main() -> ExitCode {
    let environment = Environment::read(&Cli::command(), env::vars_os());
    match arguments(&environment).and_then(|cli| run(cli.command)) {
        Ok(Exit::Clean) => ExitCode::SUCCESS,
        Ok(Exit::Found) => ExitCode::from(1),
        Ok(Exit::NoTimes) => ExitCode::from(2),
        Ok(Exit::Unreadable) => ExitCode::from(3),
        Ok(Exit::NoUsage) => ExitCode::from(5),
        Err(error) => fail(&error, &environment),
    }
}

fn run(command: Command) -> Result<Exit> {
    match command {
        Command::Tail(args) if args.test_alert => {
            Ok(run::test_alert(&config::output(&args.output)?))
        }
        Command::Tail(args) => run::tail(Options::tail(&args)?),
        Command::Replay(args) => {
            let now = run::wall_clock();
            let (options, span) = Options::replay(&args, now)?;
            lab::replay(&options, &span, now)
        }
        Command::Rules(args) if args.explain.is_empty() => {
            let config = Config::read(args.log.read.config.as_deref())?;
            print(&config::write_rules(&config::rules(&args.rules, &config)?))
        }
        Command::Rules(args) => lab::explain_rules(&Options::explain(&args)?, run::wall_clock()),
        Command::Prices(args) => prices(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "claude-tokmon", &mut script);
            print(&String::from_utf8(script)?)
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            print(&String::from_utf8(page)?)
        }
    }
}

fn prices(args: &PricesArgs) -> Result<Exit> {
    if !args.check.is_empty() {
        return lab::check_models(&Check::resolve(args)?, run::wall_clock());
    }
    let table = config::price_table(&args.read, &Config::read(args.read.config.as_deref())?)?;
    if args.models.is_empty() {
        return print(&sink::price_table(&table));
    }
    let texts: Vec<String> = args
        .models
        .iter()
        .map(|name| sink::price_of(&table, name).0)
        .collect();
    print(&texts.join("\n"))
}

fn print(text: &str) -> Result<Exit> {
    sink::print(text)?;
    Ok(Exit::Clean)
}

/// What was typed, with what stands in the environment.
fn arguments(environment: &Environment) -> Result<Cli> {
    let all = environment.add_to(&Cli::command(), env::args_os().collect())?;
    Ok(Cli::try_parse_from(all).unwrap_or_else(|error| refuse(&error, environment)))
}

/// Says what is wrong with the arguments, or what was asked for in place of a run, and ends.
fn refuse(error: &clap::Error, environment: &Environment) -> ! {
    let _ = error.print();
    let blamed = environment.blamed_by(&error.to_string()).join(", ");
    if error.use_stderr() && !blamed.is_empty() {
        let _ = Outlet::direct(io::stderr()).write(&format!("\nfrom the environment: {blamed}\n"));
    }
    process::exit(error.exit_code());
}

/// The one line of an error: what it is about and the next step.
fn fail(error: &anyhow::Error, environment: &Environment) -> ExitCode {
    let text = format!("{error:#}");
    let blamed = environment.blamed_by(&text).join(", ");
    let from = if blamed.is_empty() {
        String::new()
    } else {
        format!(" (from the environment: {blamed})")
    };
    let _ = Outlet::direct(io::stderr()).write(&format!("claude-tokmon: {text}{from}\n"));
    let unreadable = error.is::<NoLogs>()
        || error.is::<Missing>()
        || error.is::<Unreadable>()
        || matches!(error.downcast_ref(), Some(InputError::Kind(_)));
    ExitCode::from(if unreadable { 3 } else { 2 })
}
