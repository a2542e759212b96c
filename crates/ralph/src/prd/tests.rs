use std::path::Path;

use super::*;

const SNARKTANK: &str = r#"{
  "project": "Tasks",
  "branchName": "ralph/priority",
  "description": "Priorities",
  "custom": {"kept": [1, 2.50]},
  "userStories": [
    {
      "id": "US-001",
      "title": "Add a column",
      "description": "As a dev, I want it",
      "acceptanceCriteria": ["It is there", "Typecheck passes"],
      "priority": 1,
      "passes": true,
      "notes": "",
      "owner": "x"
    },
    {
      "id": "US-002", "title": "Show it",
      "acceptanceCriteria": "One",
      "priority": 2,
      "passes": false,
      "notes": "",
      "dependsOn": ["US-001"]
    }
  ]
}
"#;

const RALPHEX: &str = "# Plan: caching\n\nIntro\n\n## Validation Commands\n- `go test ./...`\n- make lint\n\n### Task 1: Add cache\n\nWhy it matters.\n\n- [x] write\n- [ ] test\n\n```\n- [ ] not a box\n```\n\n### Iteration 2b: Use it\n- [x] one\n- [x] two\n\n## Notes\n- [ ] not a task\n";

const FIX_PLAN: &str = "# Fix plan\n\n## High Priority\n- [ ] Parse config\n  - [ ] accepts YAML\n  More words.\n- [X] **Done thing**\n\n## Low\n* [ ] US-7: Named one\n1. [/] Parse config\n\n- plain\n";

#[test]
fn every_dialect_is_read() {
    let prd = Prd::parse(SNARKTANK, Some(Path::new("prd.json"))).unwrap();
    assert_eq!(
        (prd.format, prd.project.as_str(), prd.branch().as_str()),
        (Format::Snarktank, "Tasks", "ralph/priority")
    );
    assert_eq!((prd.stories[0].passes, prd.stories[0].line, prd.stories[1].line), (true, 7, 17));
    assert_eq!(prd.stories[1].acceptance, ["One"]);
    assert_eq!(prd.stories[1].depends_on, ["US-001"]);

    let tui = r#"{"name":"N","metadata":{},"qualityGates":["npm test",{"name":"lint","command":"npm run lint"}],"userStories":[{"id":1,"title":"a","passes":false,"dependsOn":[2]},{"id":2,"title":"b","passes":false}]}"#;
    let prd = Prd::parse(tui, None).unwrap();
    assert_eq!(
        (prd.format, prd.branch().as_str(), prd.stories[0].id.as_str(), prd.stories[0].priority),
        (Format::RalphTui, "ralph/n", "1", 1)
    );
    assert_eq!(prd.gates.iter().map(|gate| gate.command.as_str()).collect::<Vec<_>>(), ["npm test", "npm run lint"]);

    let ian = r#"{"version":1,"project":"P","overview":"O","stories":[{"id":"S1","title":"a","status":"done"},{"id":"S2","title":"b","status":"in_progress","dependsOn":["S1"]}]}"#;
    let prd = Prd::parse(ian, None).unwrap();
    assert_eq!(
        (prd.format, prd.description.as_str(), prd.stories[0].passes, prd.stories[1].passes),
        (Format::Iannuttall, "O", true, false)
    );

    let queue = "{ // queue\n \"version\": 1, \"tasks\": [{\"id\":\"RQ-1\",\"title\":\"a\",\"status\":\"todo\",\"priority\":\"high\",\"depends_on\":[]}] }";
    let prd = Prd::parse(queue, Some(Path::new("queue.jsonc"))).unwrap();
    assert_eq!((prd.format, prd.stories[0].priority), (Format::Queue, 1));

    let prd = Prd::parse(RALPHEX, Some(Path::new("docs/plans/caching.md"))).unwrap();
    assert_eq!((prd.format, prd.project.as_str()), (Format::Ralphex, "Plan: caching"));
    let ids: Vec<_> = prd
        .stories
        .iter()
        .map(|story| (story.id.as_str(), story.title.as_str(), story.passes, story.acceptance.len()))
        .collect();
    assert_eq!(ids, [("task-1", "Add cache", false, 2), ("iteration-2b", "Use it", true, 2)]);
    assert_eq!(prd.stories[0].description, "Why it matters.");
    assert_eq!(prd.gates.iter().map(|gate| gate.command.as_str()).collect::<Vec<_>>(), ["go test ./...", "make lint"]);

    let prd = Prd::parse(FIX_PLAN, Some(Path::new(".ralph/fix_plan.md"))).unwrap();
    assert_eq!(prd.format, Format::FixPlan);
    let ids: Vec<_> =
        prd.stories.iter().map(|story| (story.id.as_str(), story.passes, story.acceptance.len())).collect();
    assert_eq!(
        ids,
        [("parse-config", false, 1), ("done-thing", true, 0), ("US-7", false, 0), ("parse-config-2", false, 0)]
    );
    assert_eq!(prd.stories[0].description, "More words.");
    assert_eq!(Prd::parse("- [ ] one\n- [x] two", None).unwrap().format, Format::Checklist);
}

#[test]
fn faults_name_their_line_and_field() {
    let story =
        |fields: &str| format!("{{\n \"userStories\": [\n  {{\"id\":\"A\",\"title\":\"a\"}},\n  {{{fields}}}\n ]\n}}");
    for (text, want) in [
        ("{", "line 1, column 2: a key in double quotes"),
        ("{\n  \"a\": 1,\n}", "line 3, column 1: a key is missing"),
        ("{\n \"é\": x}", "line 2, column 7: a value is expected"),
        ("{ // c\n}", "comments are not allowed"),
        ("{\"a\":1,\"a\":2}", "the key `a` stands twice"),
        ("[]", "the top level must be an object"),
        ("{}", "`userStories` is missing"),
        ("{\"prd\":{\"userStories\":[]}}", "`prd` wraps the whole PRD"),
        ("{\"userStories\":[]}", "holds no story"),
        ("{\"userStories\":{}}", "must be a list, not an object"),
        (&story("\"title\":\"b\""), "line 4: `userStories[1].id` is missing"),
        (&story("\"id\":\"B\""), "line 4: `userStories[1].title` is missing"),
        (&story("\"id\":\"B\",\"title\":\" \""), "line 4: the `title` of story `B` is empty"),
        (&story("\"id\":\"\",\"title\":\"b\""), "line 4: the `id` of the story \"b\" is empty"),
        (&story("\"id\":\"A\",\"title\":\"b\""), "line 4: the id `A` is used twice (first on line 3)"),
        (&story("\"id\":true,\"title\":\"b\""), "`userStories[1].id` must be a text, not a boolean"),
        (
            &story("\"id\":\"B\",\"title\":\"b\",\n\"passes\":\"yes\""),
            "line 5: `userStories[1].passes` must be true or false, not a text",
        ),
        (&story("\"id\":\"B\",\"title\":\"b\",\"priority\":1.5"), "`userStories[1].priority` must be a whole number"),
        (
            &story("\"id\":\"B\",\"title\":\"b\",\"acceptanceCriteria\":[1,{}]"),
            "`userStories[1].acceptanceCriteria[1]` must be a text",
        ),
        (
            &story("\"id\":\"B\",\"title\":\"b\",\"dependsOn\":[\"Z\"]"),
            "line 4: story `B` depends on `Z`, which does not exist",
        ),
        (&story("\"id\":\"B\",\"title\":\"b\",\"dependsOn\":[\"B\"]"), "story `B` depends on itself"),
        (
            "{\"branchName\":\"a..b\",\"userStories\":[{\"id\":1,\"title\":\"a\"}]}",
            "`branchName` \"a..b\" cannot be a branch",
        ),
        ("{\"qualityGates\":[1],\"userStories\":[{\"id\":1,\"title\":\"a\"}]}", "`qualityGates[0]` must be a command"),
        (
            "{\"userStories\":[{\"id\":1,\"title\":\"a\",\"dependsOn\":[2]},{\"id\":2,\"title\":\"b\",\"dependsOn\":[3]},{\"id\":3,\"title\":\"c\",\"dependsOn\":[2]}]}",
            "in a circle: 2 → 3 → 2",
        ),
        ("{\"stories\":[{\"id\":1,\"title\":\"a\",\"status\":\"odd\"}]}", "`stories[0].status` must be open"),
    ] {
        let error = Prd::parse(text, Some(Path::new("prd.json"))).unwrap_err();
        assert!(error.message().contains(want), "{text}\n got  {}\n want {want}", error.message());
        assert!(error.message().contains("prd.json"));
    }
    for (text, want) in [
        ("", "holds no story"),
        ("# T\n- plain\n", "holds no story"),
        ("### Task 1: a\n### Task 1: b\n", "used twice"),
        ("- [ ] \n", "is empty"),
    ] {
        let error = Prd::parse(text, Some(Path::new("plan.md"))).unwrap_err();
        assert!(error.message().contains(want), "{text}: {error}");
    }
    let many = story("\"id\":\"A\",\"title\":\"\",\"dependsOn\":[\"Z\"]");
    assert_eq!(Prd::parse(&many, None).unwrap_err().context().iter().filter(|(key, _)| *key == "also").count(), 2);
    let long = format!(
        "{{\"userStories\":[{}{{\"id\":\"x\",\"title\":\"t\"}}]}}",
        "{\"id\":\"x\",\"title\":\"t\"},".repeat(1000)
    );
    assert!(Prd::parse(&long, None).unwrap_err().message().contains("more than 1000"));
    assert!(Prd::parse(&" ".repeat(TEXT_BOUND + 1), None).unwrap_err().message().contains("longer than"));
}

#[test]
fn a_mark_changes_nothing_else() {
    let note = Some("done in abc \"q\"");
    for (text, story, before, after) in [
        (
            SNARKTANK,
            "US-002",
            "\"passes\": false,\n      \"notes\": \"\"",
            "\"passes\": true,\n      \"notes\": \"done in abc \\\"q\\\"\"",
        ),
        (
            "{\"stories\":[{\"id\":\"S\",\"title\":\"a\",\"status\":\"open\"}]}",
            "S",
            "\"status\":\"open\"",
            "\"status\":\"done\", \"notes\": \"done in abc \\\"q\\\"\"",
        ),
        (
            "{\"userStories\":[{\n  \"id\": 7,\n  \"title\": \"a\"\n}]}",
            "7",
            "\"title\": \"a\"\n",
            "\"title\": \"a\",\n  \"passes\": true,\n  \"notes\": \"done in abc \\\"q\\\"\"\n",
        ),
        (
            "{\"userStories\":[{\"id\":7,\"title\":\"a\",\"passes\":null,\"notes\":\"mine\"}]}",
            "7",
            "null,\"notes\":\"mine\"",
            "true,\"notes\":\"mine\\ndone in abc \\\"q\\\"\"",
        ),
        (RALPHEX, "task-1", "- [ ] test", "- [x] test"),
        (FIX_PLAN, "parse-config", "- [ ] Parse", "- [x] Parse"),
        (FIX_PLAN, "parse-config-2", "[/]", "[x]"),
    ] {
        for (eol, bom) in [("\n", ""), ("\r\n", ""), ("\r\n", "\u{feff}")] {
            let fix = |text: &str| text.replace('\n', eol);
            let (text, before, after) = (format!("{bom}{}", fix(text)), fix(before), fix(after));
            let prd = Prd::parse(&text, None).unwrap();
            assert!(!prd.story(story).unwrap().passes);
            let marked = mark(&text, prd.format, story, true, note).unwrap();
            assert_eq!(marked, text.replacen(&before, &after, 1));
            assert_eq!(mark(&marked, prd.format, story, true, note).unwrap(), marked, "twice");
            let read = Prd::parse(&marked, None).unwrap();
            assert!(read.story(story).unwrap().passes);
            assert_eq!(mark(&marked, prd.format, story, true, None).unwrap(), marked);
            let error = mark(&text, prd.format, "nope", true, None).unwrap_err();
            assert_eq!(error.kind(), cove_core::ErrorKind::NotFound);
        }
    }
    let back = mark(
        &mark(SNARKTANK, Format::Snarktank, "US-002", true, None).unwrap(),
        Format::Snarktank,
        "US-002",
        false,
        None,
    )
    .unwrap();
    assert_eq!(back, SNARKTANK);
}

#[test]
fn the_example_is_a_good_prd() {
    for project in ["Greeter", "", "x\"\n\u{7}y"] {
        let text = example(project);
        let prd = Prd::parse(&text, Some(Path::new("prd.json"))).unwrap();
        assert_eq!(prd.stories.len(), 3);
        assert_eq!(prd.to_canonical_json(), text);
        assert!(prd.branch().starts_with("ralph/"));
    }
    insta::assert_snapshot!(example("Greeter"));
}

#[test]
fn conversion_keeps_what_it_means() {
    for text in [RALPHEX, FIX_PLAN, SNARKTANK] {
        let (old, new) = (Prd::parse(text, None).unwrap(), convert(text, None).unwrap());
        let new = Prd::parse(&new, None).unwrap();
        assert_eq!(new.gates, old.gates);
        for (old, new) in old.stories.iter().zip(&new.stories) {
            assert_eq!(Story { line: 0, ..old.clone() }, Story { line: 0, ..new.clone() });
        }
    }
}

#[test]
fn a_long_chain_is_followed() {
    let stories: Vec<String> = (0..1000)
        .map(|at| {
            format!(
                "{{\"id\":{at},\"title\":\"t\",\"dependsOn\":[{}]}}",
                if at < 999 { (at + 1).to_string() } else { String::new() }
            )
        })
        .collect();
    let text = format!("{{\"userStories\":[{}]}}", stories.join(","));
    assert_eq!(Prd::parse(&text, None).unwrap().stories.len(), 1000);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_fail(text in "(\\{|\\}|\\[|\\]|\"userStories\"|\"id\"|\"title\"|\"a\"|:|,|1|true|- \\[ \\] |- \\[x\\] |\n|  |### Task 1: x|```|\u{feff}|é){0,60}") {
        for name in [None, Some(Path::new("a.json")), Some(Path::new("a.md"))] {
            if let Ok(prd) = Prd::parse(&text, name) {
                for story in &prd.stories {
                    let marked = mark(&text, prd.format, &story.id, true, Some("n")).unwrap();
                    proptest::prop_assert_eq!(&mark(&marked, prd.format, &story.id, true, Some("n")).unwrap(), &marked);
                    let again = Prd::parse(&marked, name).unwrap();
                    for (old, new) in prd.stories.iter().zip(&again.stories) {
                        proptest::prop_assert_eq!(&old.id, &new.id);
                        // A plan's section without any box has no place for its state.
                        if new.id == story.id { if prd.format != Format::Ralphex { proptest::prop_assert!(new.passes); } }
                        else { proptest::prop_assert_eq!(old.passes, new.passes); }
                    }
                }
            }
        }
    }

    #[test]
    fn marking_json_of_any_layout_touches_two_values(indent in "[ \t]{0,4}", unicode in "\\PC{0,20}", passes: bool, note in "\\PC{0,30}") {
        let other = serde_json::Value::String(unicode.clone()).to_string();
        let text = format!("{{\n{indent}\"x\": {other},\n{indent}\"userStories\": [\n{indent}{{\"id\": \"A\", \"title\": \"t\", \"z\": {other}, \"passes\": {passes}, \"notes\": {other}, \"w\": [{other}]}}]}}");
        let marked = mark(&text, Format::Snarktank, "A", true, Some(&note)).unwrap();
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let (mut old, new) = (value(&text), value(&marked));
        old["userStories"][0]["passes"] = true.into();
        old["userStories"][0]["notes"] = new["userStories"][0]["notes"].clone();
        proptest::prop_assert_eq!(old.to_string(), new.to_string());
        proptest::prop_assert_eq!(mark(&marked, Format::Snarktank, "A", true, Some(&note)).unwrap(), marked);
    }
}
