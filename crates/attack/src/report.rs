//! What came of an attempt, and its line.

use std::io;

use crate::errno;

/// Why an attempt had no effect.
#[derive(Debug)]
pub enum Refusal {
    /// A call failed with this number.
    Errno(i32, String),
    /// There is nothing here to try it on.
    Absent(String),
    /// Nothing failed and yet nothing came of it.
    Nothing(String),
}

/// What an attempt achieved, in a few words, or why nothing.
pub type Outcome = Result<String, Refusal>;

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::Errno(number, String::new()),
            None => Self::Nothing(error.to_string()),
        }
    }
}

/// The last failed call of this thread.
pub fn last() -> Refusal {
    io::Error::last_os_error().into()
}

/// What a call that answers negatively on failure did.
pub fn check(result: libc::c_long) -> Result<libc::c_long, Refusal> {
    if result < 0 { Err(last()) } else { Ok(result) }
}

/// Names the step at which a refusal came.
pub fn at<T>(step: &str, result: Result<T, impl Into<Refusal>>) -> Result<T, Refusal> {
    result.map_err(|refusal| match refusal.into() {
        Refusal::Errno(number, detail) if detail.is_empty() => Refusal::Errno(number, step.to_owned()),
        other => other,
    })
}

/// Outcome, errno and detail, as a child tells its parent.
pub fn fields(outcome: Outcome) -> [String; 3] {
    let (word, errno, detail) = match outcome {
        Ok(detail) => ("effect", String::new(), detail),
        Err(Refusal::Errno(number, detail)) => ("refused", errno::name(number), detail),
        Err(Refusal::Absent(reason)) => ("absent", String::new(), reason),
        Err(Refusal::Nothing(detail)) => ("refused", "NOTHING".to_owned(), detail),
    };
    // The fields travel on one line.
    [word.to_owned(), errno, detail.replace(['\t', '\n'], " ").chars().take(300).collect()]
}

/// One line of JSON.
pub fn line(id: &str, [outcome, errno, detail]: &[String; 3]) -> String {
    let quoted = |text: &str| {
        let mut out = String::from("\"");
        for character in text.chars() {
            match character {
                '"' | '\\' => out.extend(['\\', character]),
                c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
                c => out.push(c),
            }
        }
        out.push('"');
        out
    };
    format!(
        "{{\"id\":{},\"outcome\":{},\"errno\":{},\"detail\":{}}}",
        quoted(id),
        quoted(outcome),
        quoted(errno),
        quoted(detail)
    )
}
