//! Flags and environment → options that are typed, checked and complete.
//!
//! After this nothing is left to a default, and nobody else sees a flag.

mod calendar;
mod environment;
mod fields;
mod file;
mod laboratory;
mod rules;
mod units;

use std::env;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;
use jiff::tz::Offset;

pub use environment::Environment;
pub use fields::write_rules;
pub use file::Config;
pub use laboratory::{Axis, Combination, Laboratory, Suggest};
pub use rules::rules;
pub use units::{duration, moment, write_amount, write_duration};

use crate::cli::{
    ColorArg, ExecFormatArg, LogArgs, OtelInputArg, OutputArgs, PricesArgs, ReadArgs, ReplayArgs,
    RuleArgs, RulesArgs, TailArgs,
};
use crate::monitor::{GroupBy, Period, Settings, Time};
use crate::parse::{InputCount, ParseOptions, Pointer, Zone};
use crate::price::PriceTable;
use crate::sink::{Clock, HookCommand, HookOptions, MuteFile, Output, Payload, Style, Terminal};
use crate::source::{Input, claude_code_folders, inputs, reason};

/// Fewer responses than this cannot tell copies apart: one response stands in many lines.
const MIN_RESPONSES: usize = 1000;

/// Fewer keys than this would be added up all the time.
const MIN_KEYS: usize = 100;

const DEFAULT_LATENESS_SECS: i64 = 2;
const DEFAULT_BACKFILL_SECS: i64 = 7 * 86_400;

/// Where a log is and how it is read: what both commands need.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is read.
    pub inputs: Vec<Input>,
    /// How lines are read.
    pub parse: ParseOptions,
    /// What tokens cost.
    pub prices: PriceTable,
    /// Rules and bounds.
    pub settings: Settings,
    /// The configuration that has changed any of this.
    pub config: Option<PathBuf>,
    /// Somebody has said how late responses may come.
    pub is_lateness_said: bool,
    /// History that is read silently, in seconds.
    pub backfill_secs: i64,
    /// How changes of files are noticed.
    pub watch: Watch,
    /// What is remembered across restarts.
    pub state: Option<PathBuf>,
    /// How often a sign of life is given.
    pub heartbeat: Option<Duration>,
    /// What is run with it.
    pub heartbeat_exec: Option<String>,
    /// The first response is due so many seconds after the start.
    pub expect_within_secs: Option<i64>,
    /// By how much the patience for blind spots is divided. For tests.
    pub haste: u32,
    /// What is put out.
    pub output: Output,
}

/// How changes of files are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// By file events, and by looking.
    Events,
    /// By looking only.
    Poll,
    /// By events that are all lost, and by looking. For tests.
    Blind,
    /// As where the system refuses to watch. For tests.
    Refused,
    /// As where all files lie on another machine. For tests.
    Remote,
}

/// The variable by which tests need not wait.
const TEST_HASTE: &str = "CLAUDE_TOKMON_TEST_HASTE";

/// The variable by which tests lose all file events, or are refused them.
const TEST_WATCH: &str = "CLAUDE_TOKMON_TEST_WATCH";

/// What only `replay` needs.
#[derive(Debug, Clone)]
pub struct Span {
    /// First moment of the report.
    pub since: Option<Time>,
    /// First moment after it.
    pub until: Option<Time>,
    /// Milliseconds between records that have no time.
    pub assume_interval_ms: Option<i64>,
    /// Run hooks for the alerts of history.
    pub run_hooks: bool,
    /// What is tried.
    pub lab: Laboratory,
}

/// No path was given and there are no Claude Code sessions.
#[derive(Debug, thiserror::Error)]
#[error(
    "no log was named and there is no Claude Code folder ({0}); name a file or folder, such as app.log"
)]
pub struct NoLogs(String);

impl Options {
    /// The options of `tail`.
    ///
    /// # Errors
    /// If a flag cannot be meant.
    pub fn tail(args: &TailArgs) -> Result<Self> {
        if args.max_responses < MIN_RESPONSES {
            bail!(
                "--max-responses: {} is too few to tell copies apart; at least {MIN_RESPONSES}",
                args.max_responses
            );
        }
        let config = Config::read(args.log.read.config.as_deref())?;
        let settings = settings(
            &args.rules,
            &args.log,
            &config,
            args.output.timezone.as_deref(),
            Some(args.max_responses),
        )?;
        let mut options = Self::resolve(&args.paths, settings, &args.log, &config, &args.output)?;
        options.haste = haste();
        options.expect_within_secs = seconds("--expect-within", args.expect_within.as_deref())?;
        if options.expect_within_secs.is_some() && args.rules.silent_for.is_none() {
            bail!("--expect-within: it is the rule silence that says so; add --silent-for 10m");
        }
        options.heartbeat_exec.clone_from(&args.heartbeat_exec);
        let heartbeat = seconds("--heartbeat", args.heartbeat.as_deref())?;
        let heartbeat = heartbeat.or(args.heartbeat_exec.as_ref().map(|_| 60));
        if heartbeat == Some(0) {
            bail!("--heartbeat: 0s is no pause; write 60s");
        }
        if args.heartbeat.is_some() && args.heartbeat_exec.is_none() && !args.output.json {
            bail!(
                "--heartbeat: add --json to have it on stdout, or --heartbeat-exec CMD to have it run something"
            );
        }
        options.heartbeat = heartbeat.map(|secs| Duration::from_secs(secs.unsigned_abs()));
        options.state.clone_from(&args.state);

        if options.state.is_some() && options.inputs.iter().any(|i| matches!(i, Input::Stdin)) {
            bail!(
                "--state: standard input cannot be read again after a restart; name the file, or leave --state out"
            );
        }
        options.watch = match env::var_os(TEST_WATCH) {
            _ if args.poll => Watch::Poll,
            Some(kind) if kind == "blind" => Watch::Blind,
            Some(kind) if kind == "refused" => Watch::Refused,
            Some(kind) if kind == "remote" => Watch::Remote,
            _ => Watch::Events,
        };
        Ok(options)
    }

    /// The options of `replay`. `now` is what relative times are seen from.
    ///
    /// # Errors
    /// If a flag cannot be meant.
    pub fn replay(args: &ReplayArgs, now: Time) -> Result<(Self, Span)> {
        let config = Config::read(args.log.read.config.as_deref())?;
        let settings = settings(
            &args.rules,
            &args.log,
            &config,
            args.output.timezone.as_deref(),
            None,
        )?;
        let mut options = Self::resolve(&args.paths, settings, &args.log, &config, &args.output)?;
        if let Some(by) = &args.by {
            let group_by = group_by(by, &mut options.parse.label_fields)?;
            options.settings.group_by = Some(group_by);
        }
        let zone = options.output.stderr.clock.zone;
        let moment = |flag: &str, text: &Option<String>| {
            let time = text.as_deref().map(|text| units::moment(text, now, zone));
            time.transpose().map_err(|e| anyhow!("{flag}: {e}"))
        };
        let since = moment("--since", &args.since)?;
        let until = moment("--until", &args.until)?;
        if since
            .zip(until)
            .is_some_and(|(since, until)| since >= until)
        {
            bail!("--since is not before --until; the span is empty");
        }
        let interval = seconds("--assume-interval", args.assume_interval.as_deref())?;
        let assume_interval_ms = interval.map(|secs| secs * 1000);
        let lab = Laboratory::resolve(args, &options, config, now)?;
        Ok((
            options,
            Span {
                since,
                until,
                assume_interval_ms,
                run_hooks: args.run_hooks,
                lab,
            },
        ))
    }

    /// The options of `rules --explain`.
    ///
    /// # Errors
    /// If a flag cannot be meant.
    pub fn explain(args: &RulesArgs) -> Result<Self> {
        let output = OutputArgs {
            timezone: args.timezone.clone(),
            ..OutputArgs::default()
        };
        let config = Config::read(args.log.read.config.as_deref())?;
        let timezone = args.timezone.as_deref();
        let settings = settings(&args.rules, &args.log, &config, timezone, None)?;
        Self::resolve(&args.explain, settings, &args.log, &config, &output)
    }

    fn resolve(
        paths: &[PathBuf],
        settings: Settings,
        log: &LogArgs,
        config: &Config,
        output: &OutputArgs,
    ) -> Result<Self> {
        let inputs = if paths.is_empty() {
            claude_code()?
        } else {
            inputs(paths)?
        };
        let mut parse = parse_options(&log.read)?;
        parse.label_fields = rules::places_of(&settings.rules);
        Ok(Self {
            inputs,
            parse,
            prices: price_table(&log.read, config)?,
            config: config.file.clone(),
            backfill_secs: seconds("--backfill", log.backfill.as_deref())?
                .unwrap_or(DEFAULT_BACKFILL_SECS),
            watch: Watch::Events,
            state: None,
            heartbeat: None,
            heartbeat_exec: None,
            expect_within_secs: None,
            haste: 1,
            settings,
            is_lateness_said: log.lateness.is_some(),
            output: self::output(output)?,
        })
    }

    /// A hash of all that what is remembered depends on: a state of other rules, prices or places is of no use.
    pub fn fingerprint(&self) -> u64 {
        let text = format!(
            "{} {:?} {:?} {:?} {}",
            env!("CARGO_PKG_VERSION"),
            self.inputs,
            self.settings,
            self.parse,
            self.prices.fingerprint()
        );
        xxhash_rust::xxh3::xxh3_64(text.as_bytes())
    }

    /// The history that the rules need, which may be more than was asked for.
    pub fn history_secs(&self) -> i64 {
        let windows = self.settings.rules.iter().flat_map(|rule| &rule.windows);
        let periods = self.settings.rules.iter().filter_map(|rule| rule.period);
        let periods = periods.map(Period::longest_secs);
        let longest = windows.copied().chain(periods).max();
        longest.unwrap_or(0).max(self.backfill_secs)
    }
}

fn claude_code() -> Result<Vec<Input>> {
    let dirs = env::var("CLAUDE_CONFIG_DIR").ok();
    let home = env::var_os("HOME").map(PathBuf::from);
    let folders = claude_code_folders(dirs.as_deref(), home.as_deref());
    if folders.is_empty() {
        let searched =
            dirs.unwrap_or_else(|| "~/.claude/projects, ~/.config/claude/projects".to_owned());
        return Err(NoLogs(searched).into());
    }
    Ok(folders.into_iter().map(Input::Dir).collect())
}

fn settings(
    args: &RuleArgs,
    log: &LogArgs,
    config: &Config,
    timezone: Option<&str>,
    max_responses: Option<usize>,
) -> Result<Settings> {
    if args.max_keys < MIN_KEYS {
        bail!(
            "--max-keys: {} is too few to tell sessions apart; at least {MIN_KEYS}",
            args.max_keys
        );
    }
    let lateness = seconds("--lateness", log.lateness.as_deref())?;
    Ok(Settings {
        rules: rules(args, config)?,
        lateness_secs: lateness.unwrap_or(DEFAULT_LATENESS_SECS),
        max_responses,
        max_keys: args.max_keys,
        group_by: None,
        calendar: Arc::new(zone("--timezone", timezone)?),
    })
}

/// What sums are given by: a label, or a place in the line.
fn group_by(text: &str, places: &mut Vec<Pointer>) -> Result<GroupBy> {
    Ok(match text {
        "model" => GroupBy::Model,
        "session" => GroupBy::Session,
        "project" => GroupBy::Project,
        place if place.starts_with('/') => {
            let pointer = place.parse().map_err(|e: String| anyhow!("--by: {e}"))?;
            places.push(pointer);
            GroupBy::Place(places.len() - 1)
        }
        other => bail!(
            "--by: \"{other}\" is none of project, session and model, nor a JSON Pointer such as \"/{other}\""
        ),
    })
}

/// Which logs `prices --check` looks at, and how they are read.
#[derive(Debug)]
pub struct Check {
    /// What is read.
    pub inputs: Vec<Input>,
    /// How lines are read.
    pub parse: ParseOptions,
    /// What tokens cost.
    pub prices: PriceTable,
}

impl Check {
    /// The options of `prices --check`.
    ///
    /// # Errors
    /// If a flag cannot be meant.
    pub fn resolve(args: &PricesArgs) -> Result<Self> {
        Ok(Self {
            inputs: inputs(&args.check)?,
            parse: parse_options(&args.read)?,
            prices: price_table(&args.read, &Config::read(args.read.config.as_deref())?)?,
        })
    }
}

fn seconds(flag: &str, text: Option<&str>) -> Result<Option<i64>> {
    text.map(duration)
        .transpose()
        .map_err(|e| anyhow!("{flag}: {e}"))
}

fn zone(flag: &str, text: Option<&str>) -> Result<Zone> {
    let zone = text
        .map(str::parse)
        .transpose()
        .map_err(|e: String| anyhow!("{flag}: {e}"))?;
    Ok(zone.unwrap_or_default())
}

fn parse_options(log: &ReadArgs) -> Result<ParseOptions> {
    let pointer = |flag: &str, text: &Option<String>| -> Result<Option<Pointer>> {
        text.as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|e: String| anyhow!("{flag}: {e}"))
    };
    Ok(ParseOptions {
        usage_field: pointer("--usage-field", &log.usage_field)?,
        model_field: pointer("--model-field", &log.model_field)?,
        time_field: pointer("--time-field", &log.time_field)?,
        id_field: pointer("--id-field", &log.id_field)?,
        session_field: pointer("--session-field", &log.session_field)?,
        label_fields: Vec::new(),
        zone: zone("--assume-tz", log.assume_tz.as_deref())?,
        otel_input: match log.otel_input {
            OtelInputArg::Inclusive => InputCount::Inclusive,
            OtelInputArg::Exclusive => InputCount::Exclusive,
        },
    })
}

/// The built-in prices, with those of a file over them and the names that the user maps.
///
/// # Errors
/// If a file cannot be read or is not what it should be, or a name is mapped to nothing.
pub fn price_table(args: &ReadArgs, config: &Config) -> Result<PriceTable> {
    let mut table = PriceTable::embedded();
    if let Some(path) = &args.prices {
        overlay(&mut table, path)?;
    }
    for alias in &config.model_aliases {
        let added = table.alias(&alias.name, &alias.model);
        added.with_context(|| alias.place.clone())?;
    }
    for alias in &args.model_alias {
        // A name may hold "=", a model never does.
        let (name, model) = alias
            .rsplit_once('=')
            .filter(|(name, model)| !name.trim().is_empty() && !model.trim().is_empty())
            .with_context(|| {
                format!("--model-alias {alias}: write it as NAME=MODEL, such as my-profile=claude-sonnet-4-5")
            })?;
        table
            .alias(name, model.trim())
            .with_context(|| format!("--model-alias {alias}"))?;
    }
    Ok(table)
}

fn overlay(table: &mut PriceTable, path: &Path) -> Result<()> {
    let text = fs::read_to_string(path)
        .map_err(|e| anyhow!("cannot read {}: {}", path.display(), reason(&e)))?;
    let written = fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|time| Timestamp::try_from(time).ok())
        .map(|time| Offset::UTC.to_datetime(time).date());
    table
        .overlay(&text, &path.display().to_string(), written)
        .with_context(|| {
            format!(
                "{} is not a price file (see `claude-tokmon prices --help` and the README)",
                path.display()
            )
        })
}

/// By how much tests divide all patience.
fn haste() -> u32 {
    let haste = env::var(TEST_HASTE).ok().and_then(|text| text.parse().ok());
    haste.unwrap_or(1).max(1)
}

fn payload(format: ExecFormatArg) -> Result<Payload> {
    Ok(match format {
        ExecFormatArg::Json => Payload::Json,
        ExecFormatArg::Slack => Payload::Slack,
        ExecFormatArg::Alertmanager => Payload::Alertmanager,
        ExecFormatArg::Pagerduty => Payload::PagerDuty {
            routing_key: env::var(ROUTING_KEY).ok().filter(|key| !key.is_empty()).with_context(
                || format!("--exec-format pagerduty: set {ROUTING_KEY} to the integration key of your service"),
            )?,
        },
    })
}

/// The variable that holds the integration key of PagerDuty: a secret has no place among arguments.
const ROUTING_KEY: &str = "CLAUDE_TOKMON_PAGERDUTY_KEY";

/// What is put out, and how.
///
/// # Errors
/// If a flag cannot be meant.
pub fn output(args: &OutputArgs) -> Result<Output> {
    let clock = Clock {
        zone: zone("--timezone", args.timezone.as_deref())?,
    };
    let flag = if args.no_color {
        ColorArg::Never
    } else {
        args.color
    };
    let style = |is_terminal: bool, terminal: Terminal| Style {
        colour: wants_colour(flag, is_terminal),
        terminal: is_terminal.then_some(terminal),
        clock,
    };
    let hook = match (&args.exec, &args.exec_argv) {
        (Some(line), _) if line.trim().is_empty() => bail!("--exec: the command is empty"),
        (Some(line), _) => Some(HookCommand::Shell(line.clone())),
        (None, Some(argv)) => Some(HookCommand::Argv(argv.clone())),
        (None, None) => None,
    };
    let hook = match hook {
        Some(command) => Some(HookOptions {
            command,
            payload: payload(args.exec_format)?,
            clock,
            haste: haste(),
        }),
        None if args.exec_format != ExecFormatArg::Json => {
            bail!("--exec-format: it shapes what --exec reads; add --exec 'curl …'")
        }
        None => None,
    };
    let mute = args
        .mute
        .clone()
        .map(|path| MuteFile::new(path, clock.zone));
    Ok(Output {
        mute,
        json: args.json,
        quiet: args.quiet,
        stderr: style(std::io::stderr().is_terminal(), Terminal::Stderr),
        stdout: style(std::io::stdout().is_terminal(), Terminal::Stdout),
        hook,
    })
}

/// The flag decides; then `NO_COLOR`, then `FORCE_COLOR` and `CLICOLOR_FORCE`; then whether it is a terminal that can.
fn wants_colour(flag: ColorArg, is_terminal: bool) -> bool {
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let forced = |name: &str| set(name) && env::var_os(name).is_some_and(|value| value != "0");
    match flag {
        ColorArg::Always => true,
        ColorArg::Never => false,
        ColorArg::Auto if set("NO_COLOR") => false,
        ColorArg::Auto if forced("FORCE_COLOR") || forced("CLICOLOR_FORCE") => true,
        ColorArg::Auto => is_terminal && env::var_os("TERM").is_none_or(|term| term != "dumb"),
    }
}
