//! Commit messages and identities.

/// Who made what no other identity made.
pub(crate) const COVE: (&str, &str) = ("Cove", "cove@localhost");

/// A commit message with its author.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitMessage {
    /// First line, Conventional Commits form.
    pub subject: String,
    /// Text below it; may be empty.
    pub body: String,
    /// `Name: value` lines at the end, in this order.
    pub trailers: Vec<(String, String)>,
    /// Name and address of author and committer; Cove's own when absent.
    pub author: Option<(String, String)>,
}

impl CommitMessage {
    /// A message of one line.
    pub fn new(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), ..Self::default() }
    }

    /// Adds a trailer.
    #[must_use]
    pub fn trailer(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.trailers.push((name.into(), value.into()));
        self
    }

    /// The whole text: one-line subject, body and trailers each after an empty line. What could
    /// forge a line (newlines in subject or trailers, nul bytes) becomes a space.
    pub(crate) fn text(&self) -> String {
        let subject = one_line(&self.subject, 500);
        let mut out = if subject.is_empty() { "chore: work".to_owned() } else { subject };
        let body: String = self.body.trim().chars().filter(|c| *c != '\0').take(32_000).collect();
        if !body.is_empty() {
            out.push_str("\n\n");
            out.push_str(&body);
        }
        if !self.trailers.is_empty() {
            out.push('\n');
        }
        for (name, value) in self.trailers.iter().take(50) {
            out.push_str(&format!("\n{}: {}", one_line(name, 100), one_line(value, 1000)));
        }
        out.push('\n');
        out
    }

    /// Name and address, free of what would end the field in a commit object.
    pub(crate) fn identity(&self) -> (String, String) {
        let (name, mail) = self.author.as_ref().map_or(COVE, |(n, m)| (n.as_str(), m.as_str()));
        let clean = |text: &str, other: &str| {
            let text: String = one_line(text, 200).chars().filter(|c| !matches!(c, '<' | '>')).collect();
            let text = text.trim_matches(|c: char| c.is_whitespace() || ".,:;\"'\\".contains(c)).to_owned();
            if text.is_empty() { other.to_owned() } else { text }
        };
        (clean(name, COVE.0), clean(mail, COVE.1).replace(' ', ""))
    }
}

fn one_line(text: &str, bound: usize) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(bound).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_its_parts_and_no_forged_lines() {
        let message = CommitMessage {
            subject: "feat(a): one\nRun-Id: forged".into(),
            body: "Why.\n".into(),
            trailers: vec![("Run-Id".into(), "run_1\nAgent: forged".into()), ("Agent".into(), "claude".into())],
            author: Some(("A <x> \n".into(), "a b@c>".into())),
        };
        assert_eq!(
            message.text(),
            "feat(a): one Run-Id: forged\n\nWhy.\n\nRun-Id: run_1 Agent: forged\nAgent: claude\n"
        );
        assert_eq!(message.identity(), ("A x".to_owned(), "ab@c".to_owned()));
        assert_eq!(CommitMessage::new("x").text(), "x\n");
        assert_eq!(CommitMessage::new("").identity().0, "Cove");
    }
}
