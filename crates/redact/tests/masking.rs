//! What is masked, and that it does not matter how a stream is cut.

use cove_redact::{MASK, Masker};
use proptest::prelude::*;

fn masker(values: &[&str]) -> Masker {
    let mut builder = Masker::builder();
    for value in values {
        assert!(builder.value(value.as_bytes()), "{value}");
    }
    builder.build().expect("builds")
}

fn text(masker: &Masker, text: &str) -> String {
    String::from_utf8(masker.mask(text.as_bytes())).expect("text")
}

fn in_pieces(masker: &Masker, text: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut stream = masker.stream();
    let mut out = Vec::new();
    let mut from = 0;
    for cut in cuts.iter().copied().chain([text.len()]) {
        let cut = cut.clamp(from, text.len());
        stream.push(&text[from..cut], &mut out);
        from = cut;
    }
    stream.finish(&mut out);
    out
}

const SECRET: &str = "p@ss \"w0rd\"/<&>'x'\\ $HOME \u{e9}\u{1f980} end";

/// Every documented form as other programs make it.
fn documented(value: &str) -> Vec<(&'static str, Vec<u8>)> {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    let percent = |upper: bool| -> String {
        let byte = |b: &u8| match b {
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(b) => char::from(*b).to_string(),
            b if upper => format!("%{b:02X}"),
            b => format!("%{b:02x}"),
        };
        value.as_bytes().iter().map(byte).collect()
    };
    let hex = |upper: bool| -> String {
        value.bytes().map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") }).collect()
    };
    let json = serde_json::to_string(value).expect("json");
    let json_ascii: String = json
        .chars()
        .map(|c| match c {
            c if c.is_ascii() => c.to_string(),
            c => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
        })
        .collect();
    let mut forms = vec![
        ("raw", value.as_bytes().to_vec()),
        ("hex", hex(false).into_bytes()),
        ("HEX", hex(true).into_bytes()),
        ("percent", percent(true).into_bytes()),
        ("percent lower", percent(false).into_bytes()),
        ("percent twice", percent(true).replace('%', "%25").into_bytes()),
        ("form field", percent(true).replace("%20", "+").into_bytes()),
        ("json", json.trim_matches('"').as_bytes().to_vec()),
        ("json ascii", json_ascii.trim_matches('"').as_bytes().to_vec()),
        ("shell", value.replace('\'', "'\\''").into_bytes()),
        (
            "xml",
            value
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;")
                .replace('\'', "&#39;")
                .into_bytes(),
        ),
        ("utf-16 le", value.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("utf-16 be", value.encode_utf16().flat_map(u16::to_be_bytes).collect()),
        ("backwards", value.chars().rev().collect::<String>().into_bytes()),
    ];
    for before in ["", "a", "ab"] {
        let whole = format!("{before}{value}");
        forms.push(("base64", STANDARD.encode(&whole).into_bytes()));
        forms.push(("base64 bare", STANDARD_NO_PAD.encode(&whole).into_bytes()));
        forms.push(("base64url", URL_SAFE.encode(&whole).into_bytes()));
        forms.push(("base64url bare", URL_SAFE_NO_PAD.encode(&whole).into_bytes()));
    }
    forms
}

/// Most characters of a form that may stay beside the mask: in base64 those shared with a neighbour.
const BESIDE: usize = 6;

#[test]
fn every_documented_form_is_masked_at_every_cut() {
    let secrets = [
        SECRET,
        "correct-horse-battery-staple",
        "Zm9vYmFyYmF6cXV4cXV1eA==",
        "0123456789abcdef0123456789abcdef",
        "ünïcödé-päss-wörd",
    ];
    let masker = masker(&secrets);
    let mut cases = 0_u64;
    for secret in secrets {
        for (name, form) in documented(secret) {
            let text = [b"before [".to_vec(), form.clone(), b"] after".to_vec()].concat();
            let whole = masker.mask(&text);
            let shown = String::from_utf8_lossy(&whole).into_owned();
            assert!(shown.starts_with("before [") && shown.ends_with("] after"), "{name}: {shown}");
            assert!(shown.contains(MASK), "{name} of {secret}: {shown}");
            let left = whole.len() - "before [] after".len() - MASK.len();
            assert!(left <= BESIDE, "{name} of {secret}: {shown}");
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let out = in_pieces(&masker, &text, &[first, second]);
                    assert_eq!(out, whole, "{name} of {secret} cut at {first} and {second}");
                    cases += 1;
                }
            }
            let bytes: Vec<usize> = (0..text.len()).collect();
            assert_eq!(in_pieces(&masker, &text, &bytes), whole, "{name} byte by byte");
        }
    }
    assert!(cases >= 200_000, "{cases}");
}

#[test]
fn shapes_of_known_credentials_are_masked_and_ordinary_text_is_not() {
    let masker = Masker::default();
    let run = |c: char, n: usize| c.to_string().repeat(n);
    for secret in [
        format!("sk-ant-api03-{}", run('x', 90)),
        format!("sk-proj-{}", run('x', 40)),
        format!("ghp_{}", run('A', 36)),
        format!("github_pat_{}", run('a', 82)),
        format!("glpat-{}", run('z', 20)),
        format!("AKIA{}", run('Q', 16)),
        format!("AIza{}", run('k', 35)),
        format!("xoxb-{}", run('1', 40)),
        format!("npm_{}", run('n', 36)),
        format!("hf_{}", run('h', 34)),
        format!("eyJhbGciOiJIUzI1NiJ9.{}.{}", run('p', 30), run('s', 43)),
        format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----", run('M', 64)),
    ] {
        let said = text(&masker, &format!("key: {secret}, more"));
        assert_eq!(said, format!("key: {MASK}, more"), "{secret}");
        // Without its beginning it is nothing known, so the shape is what was found.
        assert_ne!(text(&masker, &secret[5..]), format!("{MASK}"));
    }
    assert_eq!(text(&masker, "https://u:hunter2@h.example/x"), format!("https://u:{MASK}@h.example/x"));
    assert_eq!(
        text(&masker, &format!("Authorization: Bearer {}\n", run('t', 30))),
        format!("Authorization: Bearer {MASK}\n")
    );
    for ordinary in [
        "task-abcdefghijklmnopqrstuvwxyz stays",
        "sk-short",
        "https://example.com:8443/a@b",
        "eyJust.some.words",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "ghp_tooshort and AKIAlower",
        "a://b c://d",
    ] {
        assert_eq!(text(&masker, ordinary), ordinary);
    }
}

#[test]
fn overlapping_and_nested_secrets_leave_nothing() {
    let masker = masker(
        &["abcdefghij", "fghijklmno", "hij", "aaaaaaaa"].iter().filter(|v| v.len() > 3).copied().collect::<Vec<_>>(),
    );
    assert_eq!(text(&masker, "<abcdefghijklmno>"), format!("<{MASK}>"));
    assert_eq!(text(&masker, &format!("<{}>", "a".repeat(1000))), format!("<{MASK}>"));
    let bytes: Vec<usize> = (0..1002).collect();
    assert_eq!(
        in_pieces(&masker, format!("<{}>", "a".repeat(1000)).as_bytes(), &bytes),
        format!("<{MASK}>").as_bytes()
    );
}

#[test]
fn little_is_held_back_and_nothing_for_long() {
    let masker = masker(&["correct-horse-battery-staple"]);
    let mut stream = masker.stream();
    let mut out = Vec::new();
    stream.push(b"prompt> corr", &mut out);
    assert_eq!((out.as_slice(), stream.held()), (b"prompt> ".as_slice(), 4));
    stream.push(b"al", &mut out);
    assert_eq!((out.as_slice(), stream.held()), (b"prompt> corral".as_slice(), 0));
    for _ in 0..10_000 {
        stream.push(b"sk-", &mut out);
        assert!(stream.held() < 64 << 10);
    }
}

#[test]
fn values_too_short_and_patterns_that_cannot_work_are_refused_by_name() {
    let mut builder = Masker::builder();
    assert!(!builder.value(b"abc") && !builder.value(b"  \n"));
    for (pattern, said) in
        [("(", "cannot be read"), ("a*", "matches the empty text"), (&"a".repeat(2000), "longer than")]
    {
        let mut builder = Masker::builder();
        builder.pattern(pattern);
        let error = builder.build().expect_err("refused").to_string();
        assert!(error.contains(said), "{error}");
    }
    let mut builder = Masker::builder();
    builder.pattern("\\b[0-9]+:[A-Za-z0-9_-]{35}\\b");
    let masker = builder.build().expect("builds");
    let token = format!("12345:{}", "a".repeat(35));
    assert_eq!(text(&masker, &format!("x {token} y\n{token}")), format!("x {MASK} y\n{MASK}"));
}

#[test]
fn json_is_masked_within_its_strings() {
    let masker = masker(&[SECRET]);
    let mut value = serde_json::json!({"a": [SECRET, 1], SECRET: {"b": format!("x{SECRET}y")}});
    assert_eq!(masker.mask_json(&mut value), 3);
    assert_eq!(value, serde_json::json!({"a": [MASK, 1], MASK: {"b": format!("x{MASK}y")}}));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    /// Texts made of parts of secrets, of shapes and of noise.
    #[test]
    fn cutting_changes_nothing_and_no_value_survives(
        parts in prop::collection::vec(prop::sample::select(vec![
            "abcdefgh", "abcd", "efgh", "ghabcdef", "sk-", "eyJabcdefgh", ".", "AKIA", "ABCDEFGHIJKLMNOP", "-----BEGIN ",
            "PRIVATE KEY-----", "-----END ", "://", "u:", "@", " ", "\n", "YWJjZGVmZ2g", "61626364", "xyz", "glpat-", "a",
        ]), 0..40),
        cuts in prop::collection::vec(0_usize..400, 0..12),
        lines in any::<bool>(),
    ) {
        let mut builder = Masker::builder();
        for value in ["abcdefgh", "ghabcdefabcd", "fghabcdef", "efghabcd\nabcdefgh"] {
            builder.value(value.as_bytes());
        }
        if lines {
            builder.pattern("xyz +xyz");
        }
        let masker = builder.build().expect("builds");
        let text = parts.concat();
        let whole = masker.mask(text.as_bytes());
        let mut cuts = cuts;
        cuts.sort_unstable();
        let pieces = in_pieces(&masker, text.as_bytes(), &cuts);
        prop_assert_eq!(String::from_utf8_lossy(&pieces), String::from_utf8_lossy(&whole));
        prop_assert!(!String::from_utf8_lossy(&whole).contains("abcdefgh"));
        prop_assert!(!String::from_utf8_lossy(&whole).contains("ghabcdefabcd"));
    }
}
