//! Prometheus metrics, <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cove_api::Operation;
use cove_core::{Control, Phase, Records, Result, RunId, RunRecord, SandboxState};

use crate::app::App;

/// Upper bounds in seconds.
const BUCKETS: [f64; 11] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0];

const PHASES: [Phase; 11] = [
    Phase::Queued,
    Phase::Starting,
    Phase::Running,
    Phase::WaitingInput,
    Phase::Paused,
    Phase::Finishing,
    Phase::Succeeded,
    Phase::Incomplete,
    Phase::LimitReached,
    Phase::Failed,
    Phase::Stopped,
];

/// What is counted in this process.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    requests: BTreeMap<(Operation, u16), Histogram>,
    /// By outcome and agent.
    finished: BTreeMap<(&'static str, String), u64>,
    /// Runs counted as finished, and how; a run that was tried again counts again.
    over: HashMap<RunId, Phase>,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Metrics {
    pub(crate) fn served(&self, operation: Operation, status: u16, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        let mut counted = self.counted();
        let histogram = counted.requests.entry((operation, status)).or_default();
        histogram.count += 1;
        histogram.sum += seconds;
        for (bound, count) in BUCKETS.iter().zip(&mut histogram.buckets) {
            *count += u64::from(seconds <= *bound);
        }
    }

    /// Takes a run's state in.
    pub(crate) fn saw(&self, run: &RunRecord) {
        let mut counted = self.counted();
        if !run.phase.is_final() {
            counted.over.remove(&run.id);
        } else if counted.over.insert(run.id.clone(), run.phase) != Some(run.phase) {
            *counted.finished.entry((run.phase.name(), run.spec.agent.name.clone())).or_default() += 1;
        }
    }

    pub(crate) fn forgot(&self, run: &RunId) {
        self.counted().over.remove(run);
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything, as text.
pub(crate) async fn render(app: &App) -> Result<String> {
    let mut text = Text::default();
    text.family("cove_build_info", "gauge", "Version of Cove");
    text.sample("cove_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);

    text.family("cove_engine_up", "gauge", "Whether an engine can isolate on this host");
    for engine in app.sandboxes.engines() {
        let up = [Control::IsolationContainer, Control::IsolationGvisor, Control::IsolationVm]
            .into_iter()
            .any(|control| engine.capabilities().has(control));
        text.sample("cove_engine_up", &[("engine", &engine.kind().to_string())], f64::from(u8::from(up)));
    }

    let mut phases: HashMap<Phase, u64> = HashMap::new();
    for run in app.records.glance().await? {
        *phases.entry(run.phase).or_default() += 1;
    }
    text.family("cove_runs", "gauge", "Runs on record by phase");
    for phase in PHASES {
        text.sample("cove_runs", &[("phase", phase.name())], phases.get(&phase).copied().unwrap_or(0) as f64);
    }
    text.family("cove_queue_depth", "gauge", "Runs that wait for a place");
    text.sample("cove_queue_depth", &[], phases.get(&Phase::Queued).copied().unwrap_or(0) as f64);

    let mut sandboxes: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for info in app.records.sandboxes().await? {
        let state = match info.state {
            SandboxState::Creating => "creating",
            SandboxState::Running => "running",
            SandboxState::Stopped { .. } => "stopped",
            SandboxState::Failed { .. } => "failed",
        };
        *sandboxes.entry((info.engine.to_string(), state)).or_default() += 1;
    }
    text.family("cove_sandboxes", "gauge", "Sandboxes on record by engine and state");
    for ((engine, state), count) in &sandboxes {
        text.sample("cove_sandboxes", &[("engine", engine), ("state", state)], *count as f64);
    }

    let counted = app.metrics.counted();
    text.family("cove_runs_finished_total", "counter", "Runs that ended, by outcome and agent");
    for ((outcome, agent), count) in &counted.finished {
        text.sample("cove_runs_finished_total", &[("outcome", outcome), ("agent", agent)], *count as f64);
    }
    let name = "cove_http_request_duration_seconds";
    text.family(name, "histogram", "Time until a request's answer began");
    for ((operation, code), histogram) in &counted.requests {
        let (method, code) = (operation.method(), code.to_string());
        let labels = [("method", method.as_str()), ("route", operation.path()), ("code", code.as_str())];
        text.histogram(name, &labels, histogram);
    }
    Ok(text.0)
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let bounds = BUCKETS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        let counts = histogram.buckets.iter().chain([&histogram.count]);
        for (bound, count) in bounds.zip(counts) {
            let with_bound: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample(&format!("{name}_bucket"), &with_bound, *count as f64);
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum);
        self.sample(&format!("{name}_count"), labels, histogram.count as f64);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
