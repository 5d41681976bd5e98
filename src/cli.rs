//! Flags and their help. Nothing else: what they mean is decided in [`config`](crate::config).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Says within a second, in dollars, that a Claude API bill has started to run away, and why.
#[derive(Debug, Parser)]
#[command(
    name = "claude-tokmon",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
#[command(after_help = "\
Examples:
  claude-tokmon tail app.log                     follow a log, alert on stderr
  claude-tokmon tail                             follow your Claude Code sessions
  claude-tokmon replay app.log                   what would have been said about this log?
  claude-tokmon replay --cost-rate 0.50 logs/    try another threshold on history
  claude-tokmon tail --exec 'notify-send \"$CLAUDE_TOKMON_MESSAGE\"' app.log

Options can also come from the environment: CLAUDE_TOKMON_COST_RATE=0.50 is --cost-rate 0.50.

Costs are estimates at list price, not an invoice. Nothing leaves this machine; prompt text is never printed.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow logs as they grow and alert when something is wrong
    #[command(after_help = TAIL_EXAMPLES)]
    Tail(TailArgs),
    /// Run the same rules over history and report what they would have said
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(ReplayArgs),
    /// Print the rules that are in force, as TOML
    #[command(after_help = RULES_EXAMPLES)]
    Rules(RulesArgs),
    /// Print the price table, or which price a model name gets and why
    #[command(after_help = PRICES_EXAMPLES)]
    Prices(PricesArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

const TAIL_EXAMPLES: &str = "\
Examples:
  claude-tokmon tail app.log                          one file; it may appear later, or rotate
  claude-tokmon tail logs/ '/var/log/app-*.log'       a directory with all below it, a pattern
  docker logs -f api 2>&1 | claude-tokmon tail -      a pipe
  claude-tokmon tail                                  your Claude Code sessions
  claude-tokmon tail --json app.log | jq .message     alerts as JSON, one object a line
  claude-tokmon tail --exec ./page-me.sh app.log      run a command for each notice

Records of the last 7 days are read silently first, so that rules know what is usual. Alerts go to stderr.
Exit status: 0 ended cleanly, 2 wrong usage, 3 nothing can be read.";

const REPLAY_EXAMPLES: &str = "\
Examples:
  claude-tokmon replay app.log                        alerts as they would have come, then a report
  claude-tokmon replay --since 2026-11-01 logs/       a part; the week before is only learned from
  claude-tokmon replay --cost-rate 0.5 --json app.log | jq 'select(.event==\"alert\")'
  claude-tokmon replay --by project                   your Claude Code sessions, with sums by project
  claude-tokmon replay --sweep cost-rate.above=0.5..5:0.5 app.log    what would each limit say?
  claude-tokmon replay --suggest app.log              limits for this log, as TOML
  claude-tokmon replay --without 9h --response 10m app.log    what do the alerts save?
  zcat old.log.gz | claude-tokmon replay -

Alerts go to stderr, the report to stdout. No hook runs unless you say --run-hooks.
Exit status: 0 done, 1 with --fail-on if an alert fired, 2 wrong usage or no record with a time, 3 something cannot be read, 5 no usage record.";

const RULES_EXAMPLES: &str = "\
Examples:
  claude-tokmon rules
  claude-tokmon rules --set cost-rate.above=0.50 --set cache-waste.enabled=false
  claude-tokmon rules > claude-tokmon.toml            a configuration to change
  claude-tokmon rules --explain app.log               where does each rule stand, and why?";

const PRICES_EXAMPLES: &str = "\
Examples:
  claude-tokmon prices                                          the whole table
  claude-tokmon prices us.anthropic.claude-sonnet-4-5-20250929-v1:0    which price this name gets, and why
  claude-tokmon prices --check app.log                          does each model in this log have a price?
  claude-tokmon prices --prices model_prices_and_context_window.json claude-opus-4-7

Exit status: 0 done, 1 with --check if a model has no price, 2 wrong usage, 3 a log cannot be read,
5 with --check if there is no usage record.";

/// Thresholds and rules.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Thresholds")]
pub struct RuleArgs {
    /// Alert above this many dollars per minute [default: 2.00, or what busy minutes cost if that is more]
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    pub cost_rate: Option<String>,

    /// Alert when more than this share of large prompts misses the cache [default: 0.50]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub cache_miss: Option<String>,

    /// Alert when sessions pay more than this again in an hour [default: 0.50]
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    pub cache_waste: Option<String>,

    /// Alert at this many times the usual tokens per minute [default: 3.0]
    #[arg(long, value_name = "TIMES", allow_negative_numbers = true)]
    pub token_spike: Option<String>,

    /// Alert when 50, 80 and 100 % of a budget are spent: 5/hour, 50/day, 1000/month; may be repeated
    #[arg(long, value_name = "USD/PERIOD", allow_hyphen_values = true)]
    pub budget: Vec<String>,

    /// Alert when no response has come for this long
    #[arg(long, value_name = "TIME")]
    pub silent_for: Option<String>,

    /// Sessions, conversations and other keys that each rule tracks at once; the least active beyond are added up as one
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub max_keys: usize,

    /// Do not judge a window with fewer requests than this [default: each rule's own]
    #[arg(long, value_name = "N")]
    pub min_requests: Option<u32>,

    /// Window of cost-rate and token-spike, and the shortest of cache-miss [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub window: Option<String>,

    /// Change any field of any rule, such as cost-rate.above=0.50 (see `claude-tokmon rules`)
    #[arg(long, value_name = "RULE.FIELD=VALUE")]
    pub set: Vec<String>,
}

/// `rules`.
#[derive(Debug, Clone, Args)]
pub struct RulesArgs {
    /// Show where each rule stands at the end of these logs, and where its limit comes from
    #[arg(long, value_name = "LOG", num_args = 1..)]
    pub explain: Vec<PathBuf>,

    /// Zone of the times that are shown: local, UTC, +02:00, Europe/Berlin [default: local]
    #[arg(long, short = 'z', value_name = "ZONE")]
    pub timezone: Option<String>,

    /// Thresholds.
    #[command(flatten)]
    pub rules: RuleArgs,
    /// Reading.
    #[command(flatten)]
    pub log: LogArgs,
}

/// How lines are read and priced.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Reading lines")]
pub struct ReadArgs {
    /// Place of the usage object, as a JSON Pointer: /payload/llm/usage
    #[arg(long, value_name = "POINTER")]
    pub usage_field: Option<String>,

    /// Place of the model name
    #[arg(long, value_name = "POINTER")]
    pub model_field: Option<String>,

    /// Place of the time
    #[arg(long, value_name = "POINTER")]
    pub time_field: Option<String>,

    /// Place of the response id
    #[arg(long, value_name = "POINTER")]
    pub id_field: Option<String>,

    /// Place of the session or conversation id
    #[arg(long, value_name = "POINTER")]
    pub session_field: Option<String>,

    /// Zone of the times in the log that name none: local, UTC, +02:00, Europe/Berlin [default: local]
    #[arg(long, value_name = "ZONE")]
    pub assume_tz: Option<String>,

    /// Whether input counts of OpenTelemetry attributes include the cache counts
    #[arg(long, value_name = "HOW", value_enum, default_value_t = OtelInputArg::Inclusive)]
    pub otel_input: OtelInputArg,

    /// Prices that add to or replace the built-in ones; LiteLLM's price file is read as it is
    #[arg(long, value_name = "FILE")]
    pub prices: Option<PathBuf>,

    /// Map a name that hides its model to one, such as an ARN=claude-sonnet-4-5
    #[arg(long, value_name = "NAME=MODEL")]
    pub model_alias: Vec<String>,

    /// Configuration file; - reads none [default: claude-tokmon.toml here, then in the XDG folder]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `--otel-input`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OtelInputArg {
    /// They are the whole prompt, as the conventions say
    #[default]
    Inclusive,
    /// They are what was neither read from nor written to the cache
    Exclusive,
}

/// How lines are read, and which.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Reading lines")]
pub struct LogArgs {
    /// Places and prices.
    #[command(flatten)]
    pub read: ReadArgs,

    /// How late records may arrive [default: 2s; tail adapts to what it sees, up to 1m]
    #[arg(long, value_name = "TIME")]
    pub lateness: Option<String>,

    /// How much history is read silently first, to learn what is usual [default: 7d]
    #[arg(long, value_name = "TIME")]
    pub backfill: Option<String>,
}

/// What is put out, and how.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Write JSON to stdout, one object a line
    #[arg(long, short)]
    pub json: bool,

    /// Print no start and exit lines
    #[arg(long, short)]
    pub quiet: bool,

    /// When to use colour
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = ColorArg::Auto, overrides_with = "no_color")]
    pub color: ColorArg,

    /// The same as --color never
    #[arg(long, overrides_with = "color")]
    pub no_color: bool,

    /// Zone of the times that are shown, of budgets and of the hours of the day: local, UTC, +02:00, Europe/Berlin [default: local]
    #[arg(long, short = 'z', value_name = "ZONE")]
    pub timezone: Option<String>,

    /// Mute what is known already: a file of lines such as `cache-break until 2026-11-26 18:00`; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub mute: Option<PathBuf>,

    /// Run a shell command for each notice, with its data in `$CLAUDE_TOKMON_…` and as JSON on stdin
    #[arg(long, value_name = "CMD", conflicts_with = "exec_argv")]
    pub exec: Option<String>,

    /// The same without a shell; takes all arguments up to the end of the line or a lone `;`
    #[arg(long, value_name = "PROG ARG…", num_args = 1.., allow_hyphen_values = true, value_terminator = ";")]
    pub exec_argv: Option<Vec<String>>,

    /// What the command reads on its stdin
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ExecFormatArg::Json)]
    pub exec_format: ExecFormatArg,
}

/// `--exec-format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ExecFormatArg {
    /// The object of --json
    #[default]
    Json,
    /// A message for an incoming webhook of Slack
    Slack,
    /// An event for PagerDuty's /v2/enqueue; its key is in `$CLAUDE_TOKMON_PAGERDUTY_KEY`
    Pagerduty,
    /// Alerts for Alertmanager's /api/v2/alerts
    Alertmanager,
}

/// `--color`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// `tail`.
#[derive(Debug, Clone, Args)]
pub struct TailArgs {
    /// Files, directories, patterns, or - for standard input [default: Claude Code sessions]
    pub paths: Vec<PathBuf>,

    /// It follows in any case; this is for fingers that are used to tail -f
    #[arg(long, short = 'f', short_alias = 'F', hide = true)]
    pub follow: bool,

    /// Keep across restarts how far each file was read, what was counted and what was told
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Poll files every quarter of a second, without file events
    #[arg(long)]
    pub poll: bool,

    /// Send one test notice of each severity through all outputs, say what happened, and exit
    #[arg(long)]
    pub test_alert: bool,

    /// With --silent-for: alert also if no first response comes within this time
    #[arg(long, value_name = "TIME")]
    pub expect_within: Option<String>,

    /// Give a sign of life this often, as a line of --json
    #[arg(long, value_name = "TIME")]
    pub heartbeat: Option<String>,

    /// Run this with each heartbeat, for a dead-man's switch: 'curl -fsS -m5 "$URL"' [each 60s]
    #[arg(long, value_name = "CMD")]
    pub heartbeat_exec: Option<String>,

    /// Responses of the last 7 days that are remembered to recognise copies
    #[arg(long, value_name = "N", default_value_t = 500_000)]
    pub max_responses: usize,

    /// Thresholds.
    #[command(flatten)]
    pub rules: RuleArgs,
    /// Reading.
    #[command(flatten)]
    pub log: LogArgs,
    /// Output.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// Files (also .gz and .zst), directories, patterns, or - for standard input [default: Claude Code sessions]
    pub paths: Vec<PathBuf>,

    /// Start here: 2026-11-01, "2026-11-01 12:00", 2026-11-01T12:00:00Z, yesterday, or -2h
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub since: Option<String>,

    /// End here, in the same forms
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub until: Option<String>,

    /// Give records without a time one, this far apart
    #[arg(long, value_name = "TIME")]
    pub assume_interval: Option<String>,

    /// Also add up by this: project, session, model, or a JSON Pointer such as /tenant
    #[arg(long, value_name = "WHAT")]
    pub by: Option<String>,

    /// Also run the hook, for alerts of history
    #[arg(long)]
    pub run_hooks: bool,

    /// What to try.
    #[command(flatten)]
    pub lab: LabArgs,
    /// Thresholds.
    #[command(flatten)]
    pub rules: RuleArgs,
    /// Reading.
    #[command(flatten)]
    pub log: LogArgs,
    /// Output.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `replay` is asked to try.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Laboratory")]
pub struct LabArgs {
    /// Try other settings in the same pass, such as cost-rate.above=0.5..5:0.5 or cost-rate.window=1m..10m:1m; of several, all
    /// combinations
    #[arg(long, value_name = "RULE.FIELD=VALUES")]
    pub sweep: Vec<String>,

    /// Real incidents to compare with, one JSON object a line: id, start, end, and if known rule, key, note
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,

    /// How long it takes from an alert until somebody acts on it [default: 0s]
    #[arg(long, value_name = "TIME")]
    pub response: Option<String>,

    /// Show what the alerts save if it takes this long to notice without them
    #[arg(long, value_name = "TIME")]
    pub without: Option<String>,

    /// Propose limits for this log, as TOML
    #[arg(long)]
    pub suggest: bool,

    /// With --suggest: what it costs to be paged [default: 5]
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    pub page_cost: Option<String>,

    /// With --suggest: choose on what lies before this moment, score on the rest
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub train_until: Option<String>,

    /// Write everything as one HTML page with charts, which needs no network
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Exit with 1 if an alert as severe as this fired
    #[arg(long, value_name = "SEVERITY", value_enum)]
    pub fail_on: Option<SeverityArg>,
}

/// `--fail-on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SeverityArg {
    /// Any alert
    Info,
    /// A warning or worse
    Warning,
    /// A critical one
    Critical,
}

/// `prices`.
#[derive(Debug, Clone, Args)]
pub struct PricesArgs {
    /// Model names as they stand in a log
    #[arg(conflicts_with = "check")]
    pub models: Vec<String>,

    /// List each model in these logs with its price; exit with 1 if one has none
    #[arg(long, value_name = "LOG", num_args = 1..)]
    pub check: Vec<PathBuf>,

    /// Places and prices.
    #[command(flatten)]
    pub read: ReadArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
