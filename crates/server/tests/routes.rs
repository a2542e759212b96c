//! Every route over a real socket: what it does, and how it refuses.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cove_api::{Apply, Export, NewSandbox, Operation};
use cove_core::run::Ending;
use cove_core::{ErrorKind, Fact, Phase, Root, SandboxSpec, SandboxState};
use cove_testkit::eventually;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use sha2::Digest;
use support::{LONG, Place, spec};
use tokio::net::UnixStream;

/// A request written by hand, for what the client would not send.
async fn raw(
    place: &std::path::Path,
    request: http::request::Builder,
    body: impl Into<bytes::Bytes>,
) -> (http::response::Parts, String) {
    let stream = UnixStream::connect(place).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = request.header("host", "localhost").body(Full::new(body.into())).unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    drop(sender);
    driver.abort();
    (parts, text)
}

#[tokio::test]
async fn a_run_from_submission_to_removal() {
    let place = Place::new();
    let served = place.serve().await;
    let client = &served.client;
    client.live().await.unwrap();
    client.ready().await.unwrap();

    let run = client.submit(&spec("first"), None).await.unwrap();
    assert_eq!(client.run("first").await.unwrap(), run);
    assert_eq!(client.run(&run.id.as_str()[..14]).await.unwrap().id, run.id);
    let listed = client.runs(10).await.unwrap();
    assert_eq!((listed.len(), listed[0].spec.prd.text.as_str()), (1, ""));
    assert_eq!(client.status().await.unwrap().living_runs, 1);

    assert_eq!(client.pause_run("first").await.unwrap().phase, Phase::Paused);
    assert_eq!(client.resume_run("first").await.unwrap().phase, Phase::Running);
    assert_eq!(client.retry_run("first").await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(client.remove_run("first").await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(client.stop_run("first").await.unwrap().phase, Phase::Stopped);
    assert_eq!(client.stop_run("first").await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(client.retry_run("first").await.unwrap().phase, Phase::Running);
    client.stop_run("first").await.unwrap();

    let entries = client.entries("first", 1, 1).await.unwrap();
    assert_eq!(entries[0].seq, 2);
    assert_eq!(client.entries("first", 0, 100).await.unwrap().len(), 4);
    assert_eq!(client.diff("first", None).await.unwrap(), b"diff of all\n");
    assert_eq!(client.diff("first", Some("a b&c")).await.unwrap(), b"diff of a b&c\n");
    let delivered = client.apply("first", &Apply { repository: "/a/repo".into(), switch: true }).await.unwrap();
    assert_eq!((delivered.branch.as_str(), delivered.switched), ("/a/repo", true));
    let relative = client.apply("first", &Apply { repository: "repo".into(), switch: false }).await;
    assert_eq!(relative.unwrap_err().kind(), ErrorKind::Invalid);
    let exported = client.export("first", &Export { directory: place.path().to_owned() }).await.unwrap();
    assert!(exported.files[0].exists());
    assert_eq!(client.log("first", None).await.unwrap_err().kind(), ErrorKind::NotFound);
    std::fs::write(place.path().join(format!("data/{}.log", run.id)), b"said \xff").unwrap();
    assert_eq!(client.log("first", None).await.unwrap(), b"said \xff");

    client.remove_run("first").await.unwrap();
    for error in [client.run("first").await.unwrap_err(), client.run(run.id.as_str()).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.next_step().is_some(), "{error}");
    }
    let refused = client.submit(&cove_core::RunSpec { repository: "/missing".into(), ..spec("x") }, None).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    served.daemon.stop().await;
    assert_eq!(client.live().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let place = Place::new();
    let served = place.serve().await;
    let client = &served.client;
    for name in ["a", "b", "c", "d", "e"] {
        client.submit(&spec(name), None).await.unwrap();
    }
    let all: Vec<String> = client.runs(10).await.unwrap().into_iter().map(|run| run.id.to_string()).collect();
    let mut seen = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = client.runs_before(cursor.as_deref(), 2).await.unwrap();
        seen.extend(page.iter().map(|run| run.id.to_string()));
        if seen.len() == 2 {
            // What comes while somebody turns the pages is newer than all of them, and what goes is gone.
            client.submit(&spec("late"), None).await.unwrap();
            client.stop_run(&all[1]).await.unwrap();
            client.remove_run(&all[1]).await.unwrap();
        }
        match page.last() {
            Some(last) if page.len() == 2 => cursor = Some(last.id.to_string()),
            _ => break,
        }
    }
    assert_eq!(seen, all);

    let socket = served.daemon.socket();
    let (parts, _) = raw(socket, http::Request::get("/api/v1/runs?limit=2"), "").await;
    let link = parts.headers["link"].to_str().unwrap().to_owned();
    let next = link.strip_prefix('<').unwrap().split('>').next().unwrap().to_owned();
    assert!(link.ends_with("rel=\"next\""), "{link}");
    let (_, second) = raw(socket, http::Request::get(next), "").await;
    assert!(!second.contains(&format!("\"{}\"", all[0])) && second.contains(&all[2]), "{second}");
    let (last, _) = raw(socket, http::Request::get("/api/v1/runs?limit=100"), "").await;
    assert!(!last.headers.contains_key("link"), "there is no further page");
    for bad in ["limit=0", "cursor=sbx_1", "cursor=run_short"] {
        let (parts, _) = raw(socket, http::Request::get(format!("/api/v1/runs?{bad}")), "").await;
        assert_eq!(parts.status, 400, "{bad}");
    }
    let boxes = ["one", "two", "three"];
    for name in boxes {
        let spec = SandboxSpec { name: name.to_owned(), ..SandboxSpec::new(Root::Host) };
        let new = NewSandbox { engine: "auto".into(), accept_no_sandbox: false, spec };
        client.create_sandbox(&new).await.unwrap();
    }
    let first = client.sandboxes_before(None, 2).await.unwrap();
    let rest = client.sandboxes_before(Some(first[1].id.as_str()), 2).await.unwrap();
    let mut names: Vec<String> = first.iter().chain(&rest).map(|info| info.name.clone()).collect();
    names.sort();
    assert_eq!(names, ["one", "three", "two"]);
}

#[tokio::test]
async fn a_key_makes_repetition_harmless() {
    let place = Place::new();
    let served = place.serve().await;
    let first = served.client.submit(&spec("keyed"), Some("k1")).await.unwrap();
    let again = served.client.submit(&spec("keyed"), Some("k1")).await.unwrap();
    assert_eq!(first.id, again.id);
    assert_eq!(served.runs.submitted.load(Ordering::SeqCst), 1);
    let other = served.client.submit(&spec("other"), Some("k1")).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict);
    // A daemon died after it made the run and before it noted that; and before it made it.
    let spec_of = |name: &str| serde_json::to_vec(&spec(name)).unwrap();
    for (name, made) in [("dead-late", true), ("dead-early", false)] {
        let digest: String = sha2::Sha256::digest(spec_of(name)).iter().map(|b| format!("{b:02x}")).collect();
        served.runs.records.claim_request(name, &digest).await.unwrap();
        let before = if made { Some(served.client.submit(&spec(name), None).await.unwrap().id) } else { None };
        let after = served.client.submit(&spec(name), Some(name)).await.unwrap();
        assert_eq!(before.is_some_and(|id| id == after.id), made, "{name}");
        assert_eq!(served.client.submit(&spec(name), Some(name)).await.unwrap().id, after.id);
    }
    // A key whose request failed is free again.
    let bad = cove_core::RunSpec { repository: "/missing".into(), ..spec("free") };
    assert!(served.client.submit(&bad, Some("k2")).await.is_err());
    served.client.submit(&spec("free"), Some("k2")).await.unwrap();
}

#[tokio::test]
async fn the_policy_clamps_or_refuses() {
    let place = Place::new();
    let mut options = place.options();
    options.clamp = Some(Arc::new(|run: &mut cove_core::RunSpec| {
        if run.parallel > 8 {
            return Err(cove_core::Error::new(ErrorKind::Refused, "The policy allows 8 at once"));
        }
        run.bounds.iterations = run.bounds.iterations.min(3);
        Ok(vec!["iterations were lowered to 3".to_owned()])
    }));
    options.clamp_sandbox = Some(Arc::new(|_| Err(cove_core::Error::new(ErrorKind::Refused, "No sandboxes here"))));
    let served = place.serve_with(options).await.unwrap();
    let run = served.client.submit(&spec("clamped"), None).await.unwrap();
    assert_eq!((run.spec.bounds.iterations, run.spec.warnings.len()), (3, 1));
    let wide = cove_core::RunSpec { parallel: 9, ..spec("wide") };
    assert_eq!(served.client.submit(&wide, None).await.unwrap_err().kind(), ErrorKind::Refused);
    let new = NewSandbox { engine: "auto".into(), accept_no_sandbox: false, spec: SandboxSpec::new(Root::Host) };
    assert_eq!(served.client.create_sandbox(&new).await.unwrap_err().kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn sandboxes_and_engines() {
    let place = Place::new();
    let served = place.serve().await;
    let client = &served.client;
    let new = |engine: &str, accept| NewSandbox {
        engine: engine.into(),
        accept_no_sandbox: accept,
        spec: SandboxSpec { name: format!("box-{engine}"), ..SandboxSpec::new(Root::Host) },
    };
    let info = client.create_sandbox(&new("auto", false)).await.unwrap();
    assert_eq!(info.state, SandboxState::Running);
    assert_eq!(client.create_sandbox(&new("auto", false)).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(client.create_sandbox(&new("direct", false)).await.unwrap_err().kind(), ErrorKind::Refused);
    client.create_sandbox(&new("direct", true)).await.unwrap();
    assert_eq!(client.create_sandbox(&new("docker", true)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    served.native.fail_next("create", ErrorKind::NotStarted);
    let mut third = new("native", false);
    let failed = client.create_sandbox(&third).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::NotStarted);
    third.spec.workdir = "relative".into();
    assert_eq!(client.create_sandbox(&third).await.unwrap_err().kind(), ErrorKind::Invalid);

    // The one that failed left nothing, its reason was in the answer.
    assert_eq!(client.sandboxes().await.unwrap().len(), 2);
    assert_eq!(client.sandbox("box-auto").await.unwrap().id, info.id);
    let log = place.path().join("state/sandboxes").join(info.id.as_str());
    assert_eq!(client.sandbox_log("box-auto").await.unwrap(), b"");
    std::fs::create_dir_all(&log).unwrap();
    std::fs::write(log.join("supervisor.log"), "built\n").unwrap();
    assert_eq!(client.sandbox_log("box-auto").await.unwrap(), b"built\n");
    let stopped = client.stop_sandbox("box-auto", Duration::ZERO).await.unwrap();
    assert!(matches!(stopped.state, SandboxState::Stopped { .. }));
    client.remove_sandbox("box-auto").await.unwrap();
    assert_eq!(client.sandbox("box-auto").await.unwrap_err().kind(), ErrorKind::NotFound);

    let engines = client.engines().await.unwrap();
    assert_eq!(engines.len(), 2);
    assert!(engines[0].available && engines[0].controls.len() == cove_core::Control::ALL.len());
    assert_eq!(client.status().await.unwrap().engines, [cove_core::EngineKind::Native, cove_core::EngineKind::Direct]);
}

#[tokio::test]
async fn what_is_wrong_is_refused_as_a_problem() {
    let place = Place::new();
    let served = place.serve().await;
    let socket = served.daemon.socket();
    let run = serde_json::to_string(&spec("x")).unwrap();
    let json = "application/json";
    let post = |path: &str, media: &str| http::Request::post(path).header("content-type", media);
    let cases: Vec<(http::request::Builder, Vec<u8>, u16, &str)> = vec![
        (http::Request::get("/nothing"), vec![], 404, "not_found"),
        (http::Request::get("/api/v1/runs/nothing"), vec![], 404, "not_found"),
        (http::Request::get("/api/v1/runs/%FF"), vec![], 400, "invalid"),
        (http::Request::put("/api/v1/runs"), vec![], 405, "invalid"),
        (http::Request::get("/api/v1/runs?limit=x"), vec![], 400, "invalid"),
        (http::Request::get("/api/v1/runs?other=1"), vec![], 400, "invalid"),
        (post("/api/v1/runs", json), b"{".to_vec(), 400, "invalid"),
        (post("/api/v1/runs", json), b"{\"repository\":\"/r\",\"unknown\":1}".to_vec(), 400, "invalid"),
        (post("/api/v1/runs", "text/plain"), run.clone().into_bytes(), 415, "invalid"),
        (post("/api/v1/runs", json), vec![b' '; cove_api::MAX_BODY + 1], 413, "invalid"),
        (post("/api/v1/runs", json).header("idempotency-key", ""), run.clone().into_bytes(), 400, "invalid"),
        (post("/api/v1/runs", json).header("origin", "http://localhost"), run.into_bytes(), 403, "denied"),
        (http::Request::get("/api/v1/sandboxes/nothing/exec"), vec![], 426, "invalid"),
    ];
    for (request, body, status, code) in cases {
        let what = format!("{:?} {:?}", request.method_ref(), request.uri_ref());
        let (parts, text) = raw(socket, request, body).await;
        assert_eq!(parts.status.as_u16(), status, "{what}: {text}");
        assert_eq!(parts.headers["content-type"], "application/problem+json", "{what}");
        let problem: cove_api::Problem = serde_json::from_str(&text).unwrap();
        assert_eq!((problem.code.as_str(), problem.status), (code, status), "{what}");
    }
    let (parts, _) = raw(socket, http::Request::get("/api/v1/status"), "").await;
    assert!(parts.headers["x-request-id"].to_str().unwrap().starts_with("req_"));
    assert_eq!(parts.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn the_document_lists_what_is_served_and_nothing_else() {
    let place = Place::new();
    let served = place.serve().await;
    let document = served.client.openapi().await.unwrap();
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let known: BTreeSet<_> = Operation::ALL.iter().map(|o| (o.method().to_string(), o.path().to_owned())).collect();
    assert_eq!(described, known);
    // Each is answered by a handler of its own, and every other method on its path by none.
    for path in document["paths"].as_object().unwrap().keys() {
        for method in ["GET", "POST", "DELETE", "PUT", "PATCH"] {
            let request = http::Request::builder().method(method).uri(path.replace("{id}", "nothing-there"));
            let (parts, text) = raw(served.daemon.socket(), request, "").await;
            let refused = parts.status == 405;
            let listed = described.contains(&(method.to_owned(), path.clone()));
            assert_eq!(refused, !listed, "{method} {path}: {} {text}", parts.status);
            assert!(!text.contains("There is no route"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn metrics_count() {
    let place = Place::new();
    let served = place.serve().await;
    let run = served.client.submit(&spec("counted"), None).await.unwrap();
    served.runs.finish(&run.id, Ending::Succeeded).await;
    served.client.run("nothing").await.unwrap_err();
    eventually("the end is counted", LONG, async || {
        served.client.metrics().await.unwrap().contains("cove_runs_finished_total{")
    })
    .await;
    let text = served.client.metrics().await.unwrap();
    for line in [
        "cove_build_info{version=\"0.1.0\"} 1",
        "cove_engine_up{engine=\"native\"} 1",
        "cove_runs{phase=\"succeeded\"} 1",
        "cove_runs{phase=\"running\"} 0",
        "cove_runs_finished_total{outcome=\"succeeded\",agent=\"command\"} 1",
        "cove_http_request_duration_seconds_count{method=\"POST\",route=\"/api/v1/runs\",code=\"201\"} 1",
        "cove_http_request_duration_seconds_bucket{method=\"GET\",route=\"/api/v1/runs/{id}\",code=\"404\",le=\"+Inf\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    // Each sample's family is described.
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
        assert!(text.contains(&format!("# TYPE {family} ")), "{line}");
    }
    // Tried again, it counts again.
    served.client.retry_run("counted").await.unwrap();
    assert!(served.client.metrics().await.unwrap().contains("cove_runs{phase=\"running\"} 1"));
    served.runs.finish(&run.id, Ending::Stopped).await;
    eventually("the second end is counted", LONG, async || {
        let line = "cove_runs_finished_total{outcome=\"stopped\",agent=\"command\"} 1";
        served.client.metrics().await.unwrap().contains(line)
    })
    .await;
}

#[tokio::test]
async fn events_come_once_in_order_and_resume() {
    let place = Place::new();
    let mut served = Some(place.serve().await);
    let (id, client) = {
        let served = served.as_ref().unwrap();
        (served.client.submit(&spec("followed"), None).await.unwrap().id, served.client.clone())
    };
    let collected = tokio::spawn({
        let client = client.clone();
        async move {
            let mut follow = client.follow("followed", 0);
            let mut seen = Vec::new();
            while let Some(entry) = follow.next().await.unwrap() {
                seen.push(entry);
            }
            seen
        }
    });
    let many = async |served: &support::Served| {
        for number in 0..150 {
            served.runs.note(&id, &number.to_string()).await;
        }
    };
    many(served.as_ref().unwrap()).await;
    // The daemon goes and comes in the middle of it.
    served.take().unwrap().daemon.stop().await;
    let served = place.serve().await;
    many(&served).await;
    served.runs.finish(&id, Ending::Succeeded).await;
    let seen = tokio::time::timeout(LONG, collected).await.unwrap().unwrap();
    let stored = client.entries("followed", 0, 1000).await.unwrap();
    assert_eq!(seen, stored);
    assert!(seen.len() > 300);
    assert!(seen.iter().any(|e| e.fact == Fact::Note { text: "interrupted".into() }));

    // From the middle, and from the end of an ended run.
    let mut follow = client.follow("followed", 299);
    assert_eq!(follow.next().await.unwrap().unwrap().seq, 300);
    let mut follow = client.follow("followed", seen.len() as u64);
    assert_eq!(follow.next().await.unwrap(), None);
    let error = client.follow("nothing", 0).next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);

    // By hand: the header goes before the query, ids are the places.
    let request = http::Request::get("/api/v1/runs/followed/events?after=0")
        .header("last-event-id", (seen.len() - 1).to_string());
    let (parts, text) = raw(served.daemon.socket(), request, "").await;
    assert_eq!(parts.headers["content-type"], "text/event-stream");
    let ids: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("id: ")).collect();
    assert_eq!(ids, [seen.len().to_string()]);
    assert!(text.ends_with("event: end\ndata: {}\n\n"), "{text}");
}
