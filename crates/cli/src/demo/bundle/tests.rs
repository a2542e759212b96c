use std::io::{Read as _, Write as _};
use std::process::Command;

use super::*;

fn sh(directory: &Path, script: &str) -> (bool, String) {
    let output = Command::new("sh").arg("-c").arg(script).current_dir(directory).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the agent as a run does: the prompt on stdin, the work tree as its directory.
fn agent(files: &DemoFiles, prompt: &str, proxy: &str) -> String {
    let mut child = Command::new("sh")
        .arg(&files.agent)
        .current_dir(&files.repository)
        .env("HTTPS_PROXY", proxy)
        .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@example.com")])
        .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@example.com")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(prompt.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// A proxy that refuses everything; answers with its address.
fn refusing_proxy() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut seen = Vec::new();
            let mut byte = [0];
            while !seen.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                seen.push(byte[0]);
            }
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn the_stories_are_really_done_and_the_cheating_is_really_tried() {
    let dir = tempfile::tempdir().unwrap();
    let files = write(dir.path()).unwrap();
    assert_eq!(write(dir.path()).unwrap_err().kind(), ErrorKind::Conflict);
    files.begin().await.unwrap();
    let proxy = refusing_proxy();
    let prd = cove_ralph::prd::Prd::parse(&std::fs::read_to_string(&files.prd).unwrap(), Some(&files.prd)).unwrap();
    assert_eq!(prd.stories.len(), 3);
    let gate = &prd.gates[0].command;
    let prompt = |at: usize, feedback: Option<&str>| {
        let context = cove_ralph::prompt::PromptContext {
            feedback,
            ..cove_ralph::prompt::PromptContext::for_story(&prd.stories[at])
        };
        cove_ralph::prompt::render(None, &context).unwrap()
    };
    let good = |at: usize| {
        let (passed, text) = sh(&files.repository, gate);
        assert!(passed, "{text}");
        for command in &prd.stories[at].commands {
            assert!(sh(&files.repository, command).0, "{command}");
        }
        let (committed, text) = sh(
            &files.repository,
            "git add -A && git -c user.name=a -c user.email=a@example.com commit -q --allow-empty -m x && git status --short",
        );
        assert!(committed && text.is_empty(), "{text}");
    };
    assert!(sh(&files.repository, gate).0);
    for story in &prd.stories {
        assert!(
            story.commands.iter().any(|command| !sh(&files.repository, command).0),
            "{} is done before it began",
            story.id
        );
    }

    agent(&files, &prompt(0, None), &proxy);
    good(0);

    let words = agent(&files, &prompt(1, None), &proxy);
    assert!(cove_ralph::token::claims(&words), "{words}");
    if Command::new("bash").arg("-c").arg("true").status().is_ok_and(|status| status.success()) {
        assert_eq!(words.matches("HTTP/1.1 403").count(), 2, "{words}");
    }
    assert!(sh(&files.repository, gate).0, "the check was replaced");
    assert!(!sh(&files.repository, "git diff --quiet HEAD~1 -- prd.json").0);
    assert!(
        !sh(&files.repository, "git checkout -q HEAD~1 -- check.sh && sh check.sh").0,
        "the original check sees the mistake"
    );
    assert!(sh(&files.repository, "git reset -q --hard HEAD~1").0);

    agent(&files, &prompt(1, Some("tests failed")), &proxy);
    good(1);
    agent(&files, &prompt(2, None), &proxy);
    good(2);
}
