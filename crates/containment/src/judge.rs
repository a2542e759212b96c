//! What an answer means.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::catalogue::{Proof, Variant};
use crate::report::Verdict;

/// One line of the attack program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Answer {
    /// The attempt, or the attempt and the number of its control.
    pub id: String,
    /// `effect`, `refused`, `absent`, `timeout`.
    pub outcome: String,
    /// The symbol of what refused it.
    #[serde(default)]
    pub errno: String,
    /// More, in words.
    #[serde(default)]
    pub detail: String,
}

impl Answer {
    /// One that did not come from the program.
    pub fn new(id: &str, outcome: &str, errno: &str, detail: impl Into<String>) -> Self {
        Self { id: id.to_owned(), outcome: outcome.to_owned(), errno: errno.to_owned(), detail: detail.into() }
    }

    fn effect(&self) -> bool {
        self.outcome == "effect"
    }

    fn shown(&self) -> String {
        match (self.errno.as_str(), self.detail.as_str()) {
            ("", detail) => format!("{}: {detail}", self.outcome),
            (errno, "") => errno.to_owned(),
            (errno, detail) => format!("{errno} ({detail})"),
        }
    }
}

/// Answers by id.
pub type Answers = BTreeMap<String, Answer>;

/// Reads the lines of the attack program; what is none of its lines is left out.
pub fn read(output: &[u8]) -> Answers {
    let text = String::from_utf8_lossy(output);
    let answers = text.lines().filter_map(|line| serde_json::from_str::<Answer>(line.trim()).ok());
    answers.map(|answer| (answer.id.clone(), answer)).collect()
}

/// The id of a control's answer.
pub fn control_id(variant: &Variant, number: usize) -> String {
    format!("{}#{number}", variant.id)
}

/// Errnos of something that the host does not have.
const NOT_THERE: [&str; 4] = ["ENOENT", "ENOTDIR", "ENXIO", "ENODEV"];

/// Judges an attempt by its answer and those of its controls. `missing` says why what holds it is
/// not there, if it is known not to be.
pub fn judge(
    variant: &Variant,
    answer: Option<&Answer>,
    controls: &Answers,
    missing: Option<&str>,
) -> (Verdict, String) {
    let Some(answer) = answer else {
        return (Verdict::Broken, "no answer came: the attempt ended the program that made it".to_owned());
    };
    let is_held = match answer.outcome.as_str() {
        "refused" => variant.held.contains(&answer.errno.as_str()),
        "absent" if variant.held.contains(&"ABSENT") => true,
        "absent" => return (Verdict::NotApplicable, answer.detail.clone()),
        _ => false,
    };
    if !is_held {
        if let Some(why) = missing {
            return (Verdict::NotApplicable, why.to_owned());
        }
        let wanted = variant.held.join(", ");
        return (Verdict::Broken, format!("{}; expected {wanted}", answer.shown()));
    }
    let mut tried = Vec::new();
    for (number, proof) in variant.proofs.iter().enumerate() {
        let Some(control) = controls.get(&control_id(variant, number)) else { continue };
        let gone = control.outcome == "refused" && NOT_THERE.contains(&control.errno.as_str());
        if *proof == Proof::SameIfThere && gone {
            let what = variant.words.iter().rev().find(|word| word.contains('/')).map_or("", String::as_str);
            return (Verdict::NotApplicable, format!("the host has no {what}"));
        }
        if proves(proof, variant, control) {
            return (Verdict::Held, answer.shown());
        }
        tried.push(control.shown());
    }
    (Verdict::Unproven, format!("{}; no control had its effect: {}", answer.shown(), tried.join("; ")))
}

fn proves(proof: &Proof, variant: &Variant, control: &Answer) -> bool {
    match proof {
        Proof::Same | Proof::SameIfThere | Proof::Other(_) | Proof::Neighbour | Proof::Seen => control.effect(),
        Proof::Beyond => {
            control.effect() || (control.outcome == "refused" && !variant.held.contains(&control.errno.as_str()))
        }
        Proof::Witness(_) => control.errno == "EHWPOISON",
    }
}

#[cfg(test)]
mod tests {
    use cove_core::Control;

    use super::*;

    fn variant(proofs: &[Proof]) -> Variant {
        Variant::new("E1-test", "test", Control::Seccomp, &["call", "x"]).held(&["EPERM"]).proofs(proofs.to_vec())
    }

    #[test]
    fn verdicts() {
        let refused = |errno| Answer::new("E1-test", "refused", errno, "");
        let effect = Answer::new("E1-test", "effect", "", "done");
        let controls = |answer: &Answer| Answers::from([("E1-test#0".to_owned(), answer.clone())]);
        let none = Answers::new();
        let held = refused("EPERM");
        for (name, proof, answer, controls, missing, expected) in [
            ("held", Proof::Same, Some(&held), controls(&effect), None, Verdict::Held),
            ("no control", Proof::Same, Some(&held), none.clone(), None, Verdict::Unproven),
            ("a control that fails as well", Proof::Same, Some(&held), controls(&held), None, Verdict::Unproven),
            ("another answer outside", Proof::Beyond, Some(&held), controls(&refused("EINVAL")), None, Verdict::Held),
            ("the same answer outside", Proof::Beyond, Some(&held), controls(&held), None, Verdict::Unproven),
            ("seen", Proof::Witness("x"), Some(&held), controls(&refused("EHWPOISON")), None, Verdict::Held),
            ("not seen", Proof::Witness("x"), Some(&held), controls(&refused("EINVAL")), None, Verdict::Unproven),
            ("not there", Proof::SameIfThere, Some(&held), controls(&refused("ENOENT")), None, Verdict::NotApplicable),
            ("reached the kernel", Proof::Same, Some(&refused("EINVAL")), controls(&effect), None, Verdict::Broken),
            (
                "not known to the kernel",
                Proof::Same,
                Some(&refused("ENOSYS")),
                controls(&effect),
                None,
                Verdict::Broken,
            ),
            ("an effect", Proof::Same, Some(&effect), controls(&effect), None, Verdict::Broken),
            (
                "an effect without the limit",
                Proof::Same,
                Some(&effect),
                controls(&effect),
                Some("no groups"),
                Verdict::NotApplicable,
            ),
            ("silence", Proof::Same, None, controls(&effect), None, Verdict::Broken),
        ] {
            assert_eq!(judge(&variant(&[proof]), answer, &controls, missing).0, expected, "{name}");
        }
    }

    #[test]
    fn lines_are_read_and_noise_is_not() {
        let answers =
            read(b"{\"id\":\"a\",\"outcome\":\"refused\",\"errno\":\"EPERM\",\"detail\":\"\"}\r\nnoise\n{}\n");
        assert_eq!(answers.len(), 1);
        assert_eq!(answers["a"].errno, "EPERM");
    }
}
