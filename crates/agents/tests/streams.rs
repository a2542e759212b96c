//! What recorded-like output of each program means. The files in `streams/` are written by hand in the
//! shapes that the programs were seen to print.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;

use cove_agents::{Adapter, ParserOptions, StreamReader};
use cove_core::run::AgentChoice;
use cove_core::{AgentEvent, AgentOutcome, ExitReason, ExitStatus, StreamParser, Usage};
use proptest::prelude::*;

const NOW: &str = "2026-11-21T19:00:00Z";

fn agent(name: &str) -> Adapter {
    let command = (name == "command").then(|| vec!["agent".to_owned()]);
    cove_agents::adapter(&AgentChoice { name: name.to_owned(), command, ..AgentChoice::default() }).unwrap()
}

fn reader(name: &str) -> StreamReader {
    agent(name).reader(ParserOptions { now: Some(NOW.parse().unwrap()) })
}

fn stream(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams").join(format!("{file}.jsonl"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The agent that a file belongs to.
fn agent_of(file: &str) -> &str {
    match file.split('_').next().unwrap() {
        "lines" => "command",
        name => name,
    }
}

#[derive(Debug, PartialEq)]
struct Read {
    events: Vec<AgentEvent>,
    outcome: AgentOutcome,
}

impl Read {
    fn usage(&self) -> Usage {
        let told = self.events.iter().rev().find_map(|e| match e {
            AgentEvent::Usage { usage } => Some(usage.clone()),
            _ => None,
        });
        told.unwrap_or_default()
    }

    fn count(&self, wanted: impl Fn(&AgentEvent) -> bool) -> usize {
        self.events.iter().filter(|e| wanted(e)).count()
    }
}

fn read_chunks<'a>(name: &str, chunks: impl IntoIterator<Item = &'a [u8]>, stderr: &str, exit: &ExitStatus) -> Read {
    let mut reader = reader(name);
    let mut events: Vec<AgentEvent> = chunks.into_iter().flat_map(|chunk| reader.stdout(chunk)).collect();
    events.extend(reader.stderr(stderr.as_bytes()));
    Read { events, outcome: reader.finish(exit) }
}

fn read(file: &str, exit: &ExitStatus) -> Read {
    read_chunks(agent_of(file), [stream(file).as_slice()], "", exit)
}

fn killed(reason: ExitReason) -> ExitStatus {
    ExitStatus { code: 137, reason }
}

enum Want {
    Done(&'static str),
    Failed(&'static str),
    Limited(&'static str, Option<&'static str>),
    Unauthorized(&'static str),
}

fn check(row: &str, outcome: &AgentOutcome, want: &Want) {
    let fits = match (outcome, want) {
        (AgentOutcome::Done { message }, Want::Done(part)) => message.contains(part),
        (AgentOutcome::Failed { reason }, Want::Failed(part)) => reason.contains(part),
        (AgentOutcome::Limited { resets_at, reason }, Want::Limited(part, at)) => {
            reason.contains(part) && *resets_at == at.map(|at| at.parse().unwrap())
        }
        (AgentOutcome::Unauthorized { reason }, Want::Unauthorized(part)) => reason.contains(part),
        _ => false,
    };
    assert!(fits, "{row}: {outcome:?}");
}

/// Exit status and last event together decide; each row but the first of a program is a way in which
/// one of the two alone would deceive.
#[test]
fn outcomes() {
    use Want::{Done, Failed, Limited, Unauthorized};
    let ok = ExitStatus::exited(0);
    let one = ExitStatus::exited(1);
    let token = "<promise>COMPLETE</promise>";
    let in_three_hours = Some("2026-11-21T22:26:40Z");
    let rows: Vec<(&str, ExitStatus, Want)> = vec![
        ("claude_done", ok.clone(), Done(token)),
        ("claude_done", one.clone(), Failed("reported success, but it ended with exit code 1")),
        ("claude_done", killed(ExitReason::Timeout), Failed("time limit")),
        ("claude_denied", ok.clone(), Done("could not write")),
        ("claude_api_error", one.clone(), Failed("API Error: 500")),
        ("claude_api_error", ok.clone(), Failed("API Error: 500")),
        ("claude_error_marked_success", ok.clone(), Failed("API Error: 500 Internal server error")),
        ("claude_limit_marked_success", ok.clone(), Limited("session limit", Some("2026-11-22T14:00:00Z"))),
        ("claude_limit_event", one.clone(), Limited("rate limit", in_three_hours)),
        ("claude_retrying_forever", killed(ExitReason::Killed), Limited("rate limit", None)),
        ("claude_recovered", killed(ExitReason::Killed), Failed("before its final event")),
        ("claude_recovered", ok.clone(), Failed("before its final event")),
        ("claude_unauthorized", one.clone(), Unauthorized("Invalid API key")),
        ("claude_max_turns", one.clone(), Failed("maximum number of turns")),
        ("claude_budget", one.clone(), Failed("error max budget usd")),
        ("codex_done", ok.clone(), Done(token)),
        ("codex_done", killed(ExitReason::OutOfMemory), Failed("memory limit")),
        ("codex_tool_failed", ok.clone(), Done("Nothing worked")),
        ("codex_limit", one.clone(), Limited("usage limit", Some("2026-11-21T21:05:00Z"))),
        ("codex_unauthorized", one.clone(), Unauthorized("401 Unauthorized")),
        ("codex_server_error", one.clone(), Failed("500 Internal Server Error")),
        ("opencode_done", ok.clone(), Done(token)),
        ("opencode_denied", ok.clone(), Done("")),
        ("opencode_rate_limited", one.clone(), Limited("Too Many Requests", Some("2026-11-21T19:01:30Z"))),
        ("opencode_cut", ok.clone(), Failed("before its final event")),
        ("opencode_length", ok.clone(), Failed("output limit")),
        ("gemini_done", ok.clone(), Done(token)),
        ("gemini_not_offered", ok.clone(), Done("Wrote it")),
        ("gemini_unauthorized", ExitStatus::exited(145), Unauthorized("API Error: invalid x-api-key")),
        ("gemini_limited", one.clone(), Limited("daily quota", Some("2026-11-22T00:12:03Z"))),
        ("gemini_waiting", ok.clone(), Failed("before its final event")),
        ("lines_done", ok.clone(), Done("All done")),
        ("lines_done", one.clone(), Failed("exit code 1")),
        ("lines_failed", ok.clone(), Failed("I gave up")),
        ("lines_limit", one.clone(), Limited("no more today", Some("2026-11-22T00:00:00Z"))),
    ];
    for (file, exit, want) in rows {
        check(&format!("{file} {exit:?}"), &read(file, &exit).outcome, &want);
    }
}

/// Cut anywhere before its last line, no program's attempt counts as done, and what was used is kept.
#[test]
fn a_cut_stream_is_never_done() {
    for file in ["claude_done", "codex_done", "opencode_done", "gemini_done"] {
        let whole = stream(file);
        let last = whole[..whole.len() - 1].iter().rposition(|&b| b == b'\n').unwrap();
        for end in (0..=last).step_by(97).chain([last, last + 40]) {
            let read = read_chunks(agent_of(file), [&whole[..end]], "", &ExitStatus::exited(0));
            assert!(matches!(read.outcome, AgentOutcome::Failed { .. }), "{file} cut at {end}: {:?}", read.outcome);
        }
    }
    let whole = stream("claude_done");
    let end = whole.windows(16).position(|w| w == b"{\"duration_ms\":3").unwrap();
    let cut = read_chunks("claude", [&whole[..end]], "", &killed(ExitReason::Signaled { signal: 9 }));
    check("claude cut", &cut.outcome, &Want::Failed("signal 9"));
    assert_eq!(cut.usage().tokens(), 35 + 47 + 1600 + 40);
}

/// Every program counts in its own way; ours is: fresh input, output with reasoning, cache apart.
#[test]
fn usage_is_normalised() {
    let rows = [
        // file, input, output, cache read, cache write, reported dollars, turns, model
        ("claude_done", 135, 50, 1600, 40, Some(0.011), 3, Some("claude-sonnet-5")),
        ("claude_max_turns", 100, 20, 0, 0, Some(0.0008), 1, Some("claude-sonnet-5")),
        // Totals are zeroed when the budget ends it.
        ("claude_budget", 100, 20, 0, 0, Some(0.5), 1, Some("claude-sonnet-5")),
        ("codex_done", 60, 44, 100, 20, None, 3, None),
        ("opencode_done", 110, 28, 70, 0, Some(0.003), 2, None),
        ("opencode_cut", 100, 20, 0, 0, None, 1, None),
        ("gemini_done", 180, 100, 120, 0, None, 2, Some("gemini-2.5-flash")),
        // Later counts replace earlier ones.
        ("lines_done", 50, 20, 0, 0, Some(0.75), 1, Some("gpt-5")),
    ];
    for (file, input, output, read_tokens, write, cost, turns, model) in rows {
        let got = read(file, &ExitStatus::exited(0)).usage();
        let tokens = (got.input_tokens, got.output_tokens, got.cache_read_tokens, got.cache_write_tokens);
        assert_eq!(tokens, (input, output, read_tokens, write), "{file}");
        assert_eq!(got.reported_cost_usd.map(|c| (c * 1e6).round()), cost.map(|c: f64| (c * 1e6).round()), "{file}");
        assert_eq!((got.turns, got.model.as_deref()), (turns, model), "{file}");
    }
    let gemini = read("gemini_done", &ExitStatus::exited(0)).usage();
    let estimate = (180.0 * 0.3 + 100.0 * 2.5 + 120.0 * 0.03) / 1e6;
    assert!((gemini.estimated_cost_usd.unwrap() - estimate).abs() < 1e-12, "{gemini:?}");
    assert_eq!(gemini.reported_cost_usd, None);

    // Codex does not name its model; the one that was asked for counts.
    let choice = AgentChoice { name: "codex".to_owned(), model: Some("gpt-5.5".to_owned()), ..AgentChoice::default() };
    let mut reader = cove_agents::adapter(&choice).unwrap().reader(ParserOptions::default());
    let events = reader.stdout(&stream("codex_done"));
    let usage =
        events.iter().find_map(|e| if let AgentEvent::Usage { usage } = e { Some(usage) } else { None }).unwrap();
    let estimate = (60.0 * 5.0 + 44.0 * 30.0 + 100.0 * 0.5 + 20.0 * 5.0) / 1e6;
    assert!((usage.estimated_cost_usd.unwrap() - estimate).abs() < 1e-12, "{usage:?}");
}

#[test]
fn events_are_told_as_they_come() {
    let ok = ExitStatus::exited(0);
    let claude = read("claude_done", &ok);
    let names: Vec<&str> = claude
        .events
        .iter()
        .map(|e| match e {
            AgentEvent::Text { .. } => "text",
            AgentEvent::ToolUse { tool, .. } => tool,
            AgentEvent::ToolResult { error: true, .. } => "failed",
            AgentEvent::ToolResult { .. } => "ok",
            AgentEvent::Usage { .. } => "usage",
            AgentEvent::Turn => "turn",
            AgentEvent::Final { .. } => "final",
            _ => "other",
        })
        .collect();
    let want = "turn text usage Write usage ok turn Bash usage failed turn text usage usage final";
    assert_eq!(names.join(" "), want);

    let tool = |read: &Read| {
        read.events.iter().find_map(|e| match e {
            AgentEvent::ToolUse { tool, summary } => Some(format!("{tool} {summary}")),
            _ => None,
        })
    };
    assert_eq!(tool(&claude).unwrap(), "Write /workspace/greeting.txt");
    assert_eq!(tool(&read("codex_done", &ok)).unwrap(), "file_change add /workspace/greeting.txt");
    assert_eq!(tool(&read("opencode_done", &ok)).unwrap(), "write greeting.txt");
    assert_eq!(tool(&read("gemini_done", &ok)).unwrap(), "write_file greeting.txt");
    let text: Vec<String> = read("gemini_done", &ok)
        .events
        .into_iter()
        .filter_map(|e| if let AgentEvent::Text { text } = e { Some(text) } else { None })
        .collect();
    assert_eq!(text, ["Let me write.", "Wrote it.\n\n<promise>COMPLETE</promise>"]);
}

/// A denied edit leaves exit 0 and a success; the denial must be visible. Each is told once.
#[test]
fn denials_are_told() {
    for (file, want) in [
        ("claude_denied", 2),
        ("codex_tool_failed", 1),
        ("opencode_denied", 2),
        ("gemini_not_offered", 1),
        ("claude_done", 0),
    ] {
        let read = read(file, &ExitStatus::exited(0));
        assert_eq!(read.count(|e| matches!(e, AgentEvent::PermissionDenied { .. })), want, "{file}");
    }
}

/// What an agent writes about rate limits in its work is no rate limit.
#[test]
fn only_errors_are_read_as_limits() {
    let ok = ExitStatus::exited(0);
    let limits = |read: &Read| read.count(|e| matches!(e, AgentEvent::RateLimit { .. }));
    assert_eq!(limits(&read("claude_done", &ok)), 0);
    assert_eq!(limits(&read("claude_limit_event", &ok)), 2);
    // The same words again are not told again.
    assert_eq!(limits(&read("claude_retrying_forever", &ok)), 1);

    let long = format!("Handled usage limit reached.\n{}", "All tests pass.\n".repeat(10));
    let answers =
        ["Implemented retry: waits when 429 too many requests come back", "API Error handling now covers 429", &long];
    for answer in answers {
        let line =
            serde_json::json!({"type":"result","subtype":"success","is_error":false,"result":answer}).to_string();
        let read = read_chunks("claude", [line.as_bytes(), b"\n"], "rate limit tests: 429 ok", &ok);
        check(answer, &read.outcome, &Want::Done(""));
    }
    // Noise of one's own program is never read as a refusal.
    let read = read_chunks("command", [b"".as_slice()], "GET / 401 Unauthorized\nrate limit", &ExitStatus::exited(2));
    check("command", &read.outcome, &Want::Failed("exit code 2"));
}

/// Programs that only speak of it on stderr.
#[test]
fn stderr_counts_when_there_is_nothing_else() {
    let one = ExitStatus::exited(1);
    let rows: [(&str, &str, Want); 5] = [
        ("claude", "Invalid API key · Please run /login", Want::Unauthorized("Invalid API key")),
        (
            "codex",
            "Error: Read-only file system (os error 30)",
            Want::Failed("exit code 1, before its final event: Error: Read-only"),
        ),
        (
            "gemini",
            "Attempt 1 failed with status 429. Retrying with backoff... _ApiError: {\"retryDelay\":\"30s\"}\n    at async",
            Want::Limited("429", Some("2026-11-21T19:00:30Z")),
        ),
        ("opencode", "", Want::Failed("exit code 1")),
        ("claude", "429 tests passed", Want::Failed("429 tests passed")),
    ];
    for (name, stderr, want) in rows {
        let read = read_chunks(name, [b"".as_slice()], stderr, &one);
        check(&format!("{name} {stderr}"), &read.outcome, &want);
    }
    let waiting = stream("gemini_waiting");
    let stderr = "Attempt 7 failed with status 429. Retrying with backoff...\n";
    let read = read_chunks("gemini", [waiting.as_slice()], stderr, &killed(ExitReason::Killed));
    check("gemini", &read.outcome, &Want::Limited("429", None));
    assert_eq!(read.count(|e| matches!(e, AgentEvent::RateLimit { .. })), 1);
}

/// CRLF, empty lines, text, broken and foreign JSON, invalid UTF-8, a byte order mark.
#[test]
fn noise_is_passed_over() {
    for file in ["claude_done", "codex_done", "opencode_done", "gemini_done"] {
        let clean = stream(file);
        let mut noisy = b"\xef\xbb\xbf".to_vec();
        for line in clean.split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
            noisy.extend_from_slice(line);
            noisy.extend_from_slice(b"\r\n\r\n  \r\nnpm warn something\n{\"type\":\n[1,2]\n{\"a\":1}\n\xff\xfe\xfd\n{\"type\":\"zzz\"}\n\"text\"\nnull\n");
        }
        let ok = ExitStatus::exited(0);
        let (clean, noisy) = (
            read_chunks(agent_of(file), [clean.as_slice()], "", &ok),
            read_chunks(agent_of(file), [noisy.as_slice()], "", &ok),
        );
        assert_eq!(clean, noisy, "{file}");
    }
    let mut reader = reader("codex");
    reader.stdout(b"{\"type\":\"turn.started\"}\nnoise\n{\"type\":\"unheard.of\"}\n");
    let counts = reader.counts();
    assert_eq!((counts.events, counts.noise, counts.skipped), (1, 2, 0));
    // Invalid UTF-8 inside a string does not lose the event.
    let events = reader.stdout(
        b"{\"type\":\"item.completed\",\"item\":{\"id\":\"1\",\"type\":\"agent_message\",\"text\":\"a\xffb\"}}\n",
    );
    assert!(events.contains(&AgentEvent::Text { text: "a\u{fffd}b".to_owned() }), "{events:?}");
}

/// A long line is read up to 16 MiB, and neither length nor structure costs more than a bound.
#[test]
fn long_lines_are_bounded() {
    let said = |size: usize| {
        format!(
            "{{\"type\":\"item.completed\",\"item\":{{\"id\":\"1\",\"type\":\"agent_message\",\"text\":\"{}\"}}}}\n",
            "ä{,".repeat(size / 4)
        )
    };
    let end = b"{\"type\":\"turn.completed\",\"usage\":{}}\n";
    for (size, skipped) in [(10 << 20, 0), (17 << 20, 1)] {
        let mut reader = reader("codex");
        let mut events = Vec::new();
        for chunk in said(size).as_bytes().chunks(60_000).chain([end.as_slice()]) {
            events.extend(reader.stdout(chunk));
        }
        assert_eq!(reader.counts().skipped, skipped);
        for event in &events {
            match event {
                AgentEvent::Text { text } => assert!(text.len() <= 8 << 10),
                AgentEvent::Final { text } => assert!(text.len() <= 256 << 10),
                _ => {}
            }
        }
        assert_eq!(events.iter().any(|e| matches!(e, AgentEvent::Text { .. })), skipped == 0);
        assert!(matches!(reader.finish(&ExitStatus::exited(0)), AgentOutcome::Done { .. }));
    }
    let mut reader = reader("codex");
    reader.stdout(format!("{{\"a\":[{}0]}}\n", "0,".repeat(1 << 20)).as_bytes());
    reader.stdout(format!("{}\n", "{\"a\":".repeat(100_000)).as_bytes());
    assert_eq!((reader.counts().skipped, reader.counts().noise), (1, 1));
}

const FILES: [&str; 8] = [
    "claude_done",
    "claude_denied",
    "claude_limit_event",
    "codex_done",
    "opencode_done",
    "opencode_denied",
    "gemini_done",
    "lines_done",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Where the pieces end makes no difference.
    #[test]
    fn chunks_do_not_matter(file in prop::sample::select(&FILES[..]), mut cuts in prop::collection::vec(0usize..6000, 0..40), newline in any::<bool>()) {
        let mut bytes = stream(file);
        if !newline {
            bytes.pop();
        }
        cuts.retain(|c| *c < bytes.len());
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let exit = ExitStatus::exited(0);
        let whole = read_chunks(agent_of(file), [bytes.as_slice()], "", &exit);
        let pieces = read_chunks(agent_of(file), cuts.windows(2).map(|w| &bytes[w[0]..w[1]]), "", &exit);
        prop_assert_eq!(whole, pieces);
    }

    /// Nothing that a sandbox prints makes a reader panic: real lines with bytes changed, in any order.
    #[test]
    fn noise_never_panics(
        name in prop::sample::select(&["claude", "codex", "opencode", "gemini", "command"][..]),
        lines in prop::collection::vec((prop::sample::select(&FILES[..]), 0usize..12, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)), 0..20),
        tail in prop::collection::vec(any::<u8>(), 0..200),
        code in any::<i32>(),
    ) {
        let mut reader = reader(name);
        for (file, line, changes) in lines {
            let bytes = stream(file);
            let mut line = bytes.split(|&b| b == b'\n').nth(line).unwrap_or_default().to_vec();
            for (at, byte) in changes {
                if !line.is_empty() {
                    let at = at.index(line.len());
                    line[at] = byte;
                }
            }
            line.push(b'\n');
            reader.stdout(&line);
            reader.stderr(&line);
        }
        reader.stdout(&tail);
        reader.stderr(&tail);
        reader.finish(&ExitStatus::exited(code));
    }

    /// Hostile values where counts, texts and lists are expected.
    #[test]
    fn strange_values_never_panic(value in strange(), name in prop::sample::select(&["claude", "codex", "opencode", "gemini", "command"][..])) {
        let mut reader = reader(name);
        let kinds = ["system", "assistant", "user", "result", "rate_limit_event", "turn.completed", "turn.failed", "item.completed",
            "item.started", "step_finish", "tool_use", "tool_result", "error", "init", "message", "usage", "final", "limit"];
        for kind in kinds {
            for key in ["message", "usage", "item", "part", "stats", "error", "rate_limit_info", "modelUsage", "resetsAt", "permission_denials"] {
                let mut event = serde_json::json!({ "type": kind, "subtype": "success", "status": "success", "role": "assistant" });
                event[key] = value.clone();
                reader.stdout(format!("{event}\n").as_bytes());
            }
        }
        reader.finish(&ExitStatus::exited(0));
    }
}

fn strange() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Value, json};
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|f| json!(f)),
        Just(json!(u64::MAX)),
        "\\PC{0,40}".prop_map(Value::from),
    ];
    let keys = prop::sample::select(
        &[
            "id",
            "type",
            "content",
            "usage",
            "input_tokens",
            "output_tokens",
            "tokens",
            "cache",
            "read",
            "status",
            "resetsAt",
            "text",
            "data",
        ][..],
    );
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys.clone(), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}
